"""The planner: a measured profile and a number of accelerators -> which ranks run the world and which decode.

Every legal split is listed and its throughput and latency predicted as a pipeline's: the slowest of world
ranks, latent link, decoder ranks and copies to the host sets the rate. After DeepSpeed-Ulysses a world is
split only where ranks divide heads and tokens. What was not measured is extrapolated and says so. No
torch."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from engine.profiles import Profile, ProfileError

OBJECTIVES = ("throughput", "latency")


@dataclass(frozen=True, order=True)
class Split:
    """decoder_ranks = 0: one accelerator does both. bands: how many decoder ranks share one picture; batch:
    latents in one decode."""

    world_ranks: int
    decoder_ranks: int
    bands: int
    batch: int

    @property
    def accelerators(self) -> int:
        return self.world_ranks + self.decoder_ranks

    def __str__(self) -> str:
        if not self.decoder_ranks:
            return f"world and decoder on one accelerator, batch {self.batch}"
        return (
            f"{self.world_ranks} world + {self.decoder_ranks} decoder, bands {self.bands}, batch {self.batch}"
        )


@dataclass(frozen=True)
class Prediction:
    """frames_per_s: true frames of all worlds; latency_ms: from a step's begin to its pixels on the host;
    bottleneck: what sets the rate; extrapolated: built on a step time that nobody measured."""

    split: Split
    frames_per_s: float
    latency_ms: float
    bottleneck: str
    extrapolated: bool


@dataclass(frozen=True)
class Plan:
    profile: Profile
    gpus: int
    worlds: int
    objective: str
    table: tuple[Prediction, ...]
    """Every legal split, best first."""

    @property
    def pick(self) -> Prediction:
        return self.table[0]

    def best_of(self, wanted: str) -> Prediction | None:
        """The best "symmetric" split (as many world as decoder ranks) or of "one" accelerator."""
        if wanted == "one":
            return next((p for p in self.table if not p.split.decoder_ranks), None)
        return next((p for p in self.table if p.split.world_ranks == p.split.decoder_ranks), None)

    def explanation(self) -> str:
        pick = self.pick
        words = [f"{pick.split}: {pick.frames_per_s:.0f} true frames/s, {pick.latency_ms:.2f} ms"]
        words.append(f"the {pick.bottleneck} set the rate")
        for wanted, title in (("symmetric", "the best symmetric split"), ("one", "one accelerator")):
            other = self.best_of(wanted)
            if other is not None and other.split != pick.split:
                words.append(f"{pick.frames_per_s / other.frames_per_s:.2f}x {title}")
        if idle := self.gpus - pick.split.accelerators:
            words.append(f"{idle} left idle: more of either would not help")
        if pick.extrapolated:
            words.append("extrapolated: this number of world ranks was not measured")
        return "; ".join(words)

    def to_json(self) -> dict[str, Any]:
        profile = self.profile
        return {
            "profile": profile.name,
            "hardware": profile.hardware,
            "preset": profile.model.preset,
            "measured": profile.measured,
            "measured_accelerators": profile.accelerators,
            "gpus": self.gpus,
            "worlds": self.worlds,
            "objective": self.objective,
            "prediction": self.gpus > profile.accelerators or self.pick.extrapolated,
            "pick": _flat(self.pick),
            "explanation": self.explanation(),
            "table": [_flat(one) for one in self.table],
        }


def make_plan(profile: Profile, gpus: int, worlds: int = 1, objective: str = "throughput") -> Plan:
    """Raises ProfileError where nothing fits or `worlds` were not measured."""
    assert gpus >= 1 and objective in OBJECTIVES
    if profile.step_time(1, worlds) is None:
        measured = sorted({step.worlds for step in profile.steps if step.ranks == 1})
        raise ProfileError(
            f"{worlds} worlds were not measured in {profile.name}: choose --worlds from {measured}"
        )
    legal = [split for split in splits(profile, gpus) if why_illegal(profile, split, gpus, worlds) is None]
    if not legal:
        raise ProfileError(
            f"no split fits the {profile.memory_gib:g} GiB of an accelerator: plan for fewer worlds"
        )
    table = sorted(
        (predict(profile, split, worlds) for split in legal), key=lambda p: preference(p, objective)
    )
    return Plan(profile, gpus, worlds, objective, tuple(table))


def preference(one: Prediction, objective: str) -> tuple[float | Split, ...]:
    """Smallest first: the objective, then the other figure, then fewer accelerators."""
    figures = (-one.frames_per_s, one.latency_ms)
    return (*(figures if objective == "throughput" else figures[::-1]), one.split.accelerators, one.split)


def splits(profile: Profile, gpus: int) -> Iterator[Split]:
    """Every way to share out up to `gpus` accelerators, legal or not."""
    for decode in profile.decodes:
        yield Split(1, 0, decode.bands, decode.batch)
        for world in range(1, gpus):
            for decoder in range(1, gpus - world + 1):
                yield Split(world, decoder, decode.bands, decode.batch)


def why_illegal(profile: Profile, split: Split, gpus: int, worlds: int) -> str | None:
    """What forbids this split, in words; None where it is legal."""
    model, decode = profile.model, profile.decode_time(split.batch, split.bands)
    if split.accelerators > gpus:
        return f"{split.accelerators} accelerators of {gpus}"
    if split.accelerators > 1 and profile.link is None:
        return "no link between two accelerators was measured"
    if model.tokens % split.world_ranks or model.heads % split.world_ranks:
        return f"{split.world_ranks} do not divide {model.heads} heads and {model.tokens} tokens"
    if decode is None:
        return f"no decode of batch {split.batch} in {split.bands} bands was measured"
    if split.bands > model.rows or max(split.decoder_ranks, 1) % split.bands:
        return f"{split.bands} bands do not divide {split.decoder_ranks} decoder ranks or {model.rows} rows"
    world_gib = _step(profile, split.world_ranks, worlds)[1]
    needs = [world_gib, decode.memory_gib] if split.decoder_ranks else [world_gib + decode.memory_gib]
    if max(needs) > profile.memory_gib:
        return f"{max(needs):.1f} GiB on an accelerator of {profile.memory_gib:g}"
    return None


def predict(profile: Profile, split: Split, worlds: int) -> Prediction:
    """Rate and latency of a legal split of an engine that runs as fast as it can, all worlds' latents in one
    message (engine/fast/device_link.py; in play each session sends its own). A batch larger than the worlds
    waits for further steps."""
    model, decode = profile.model, profile.decode_time(split.batch, split.bands)
    assert decode is not None
    step_ms, _, extrapolated = _step(profile, split.world_ranks, worlds)
    measured = profile.step_time(split.world_ranks, worlds)
    step_rate_ms = measured.rate_ms if measured else step_ms
    copy_ms = profile.to_host.ms(split.batch * model.frame_bytes / split.bands)
    waited_ms = step_ms * ceil(split.batch / worlds)
    if not split.decoder_ranks:
        rate, bottleneck = _together(profile, split, worlds, step_rate_ms, decode.rate_ms)
        return Prediction(split, rate, waited_ms + decode.ms + copy_ms, bottleneck, extrapolated)
    assert profile.link is not None
    send_ms = profile.link.ms(worlds * model.latent_bytes) * split.bands
    groups = split.decoder_ranks // split.bands
    rates = {
        "world ranks": worlds / step_rate_ms,
        "latent link": worlds / send_ms,
        "decoder ranks": groups * split.batch / decode.rate_ms,
        "copies to the host": groups * split.batch / copy_ms,
    }
    bottleneck = min(rates, key=lambda name: rates[name])
    latency_ms = waited_ms + send_ms + decode.ms + copy_ms
    return Prediction(split, rates[bottleneck] * 1e3, latency_ms, bottleneck, extrapolated)


def _together(
    profile: Profile, split: Split, worlds: int, step_ms: float, decode_ms: float
) -> tuple[float, str]:
    """One accelerator: as measured overlapped, or one after the other."""
    for one in profile.together:
        if (one.worlds, one.batch) == (worlds, split.batch):
            return worlds / one.ms * 1e3, "step and decode, overlapped,"
    each_ms = step_ms / worlds + decode_ms / split.batch
    return 1e3 / each_ms, "step and decode, one after the other,"


def _step(profile: Profile, ranks: int, worlds: int) -> tuple[float, float, bool]:
    """ms, GiB of one rank, whether extrapolated: what does not divide, what does, and the exchanges as the
    link is. The memory is then that of one rank, which is no less."""
    if (measured := profile.step_time(ranks, worlds)) is not None:
        return measured.ms, measured.memory_gib, False
    known = sorted((s for s in profile.steps if s.worlds == worlds), key=lambda s: s.ranks)
    most = known[-1]
    work_ms = most.ms - exchange_ms(profile, most.ranks, worlds)
    fixed_ms = 0.0
    if len(known) > 1:
        fewer = known[-2]
        fewer_ms = fewer.ms - exchange_ms(profile, fewer.ranks, worlds)
        shared_ms = (fewer_ms - work_ms) / (1 / fewer.ranks - 1 / most.ranks)
        fixed_ms = min(max(0.0, work_ms - shared_ms / most.ranks), max(0.0, work_ms))
    shared_ms = max(0.0, work_ms - fixed_ms) * most.ranks
    return fixed_ms + shared_ms / ranks + exchange_ms(profile, ranks, worlds), known[0].memory_gib, True


def exchange_ms(profile: Profile, ranks: int, worlds: int) -> float:
    """The two all-to-alls of each layer: q, k, v there, the result back, bfloat16."""
    if ranks == 1 or profile.link is None:
        return 0.0
    model = profile.model
    one_bytes = worlds * model.tokens * model.width * 2 * (ranks - 1) / ranks**2
    return model.layers * (profile.link.ms(3 * one_bytes) + profile.link.ms(one_bytes))


def _flat(one: Prediction) -> dict[str, Any]:
    values = asdict(one)
    return values.pop("split") | {"accelerators": one.split.accelerators} | values
