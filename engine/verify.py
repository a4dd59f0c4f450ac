"""Dreams a recording again and compares every true latent: `dreamcade replay DIR --verify`.

    python -m engine.verify DIR [--weights WEIGHTS] [--json]

The same openings, noise, strides and buttons, as recorded, through the same backend, on a GPU what was
dreamed on one. On the machine and the build that recorded it every hash must agree; elsewhere the first step
that differs is named, and by how much. Exit code: 0 all the same, 3 they differ, 1 the recording cannot be
verified, or not all of it.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from engine import machine
from engine.backend import Opening
from engine.errors import EngineError
from engine.hosting.models_at_hand import ModelsAtHand
from engine.hosting.opening import make_opening
from engine.pacing.session import share_held
from engine.pacing.step_log import latent_hash, sketch
from engine.protocol import Beginning, TrueStep
from engine.supervision.placement import threads_each, together_or_apart
from games import GAMES

DIFFERS = 3
_SAY_EVERY_S = 2.0


class _Meta(msgspec.Struct):
    """What is read of meta.json."""

    completed: bool
    game: str
    mode: str
    welcome: dict[str, Any]


@dataclass(frozen=True)
class Divergence:
    """The first latent that is another one. step 0: the epoch's opening. Differences are of the recorded
    sketch's values, which are about 1; None for an opening, of which only the hash is kept."""

    epoch: int
    step: int
    frame: int
    max_difference: float | None
    rms_difference: float | None


@dataclass
class Verdict:
    game: str
    steps: int = 0
    """Verified to be the same."""
    recorded_steps: int = 0
    unverified_steps: int = 0
    """Behind a gap in the log, or behind the first divergence."""
    divergence: Divergence | None = None
    differences: list[str] = field(default_factory=list)
    """What is different here from where it was recorded."""
    note: str = ""

    @property
    def same(self) -> bool:
        """All that was recorded."""
        return self.divergence is None and self.steps > 0 and not self.unverified_steps


class Verifier:
    """models: of this machine. Raises WeightsError where there are none, EngineError where the recording's
    were others."""

    def __init__(self, meta: _Meta, models: ModelsAtHand) -> None:
        game = meta.game
        self._game, self._spec, self._models = game, GAMES[game], models
        self._backend = models.backend(game)
        then, now = meta.welcome.get("weights"), self._backend.weights_id
        if then != now:
            raise EngineError(
                f"it was dreamed with the weights {then}, and these are {now}: name those with --weights"
            )
        self._stepper = models.part("world", self._backend.world)
        self._opening: tuple[tuple[int, int], Opening] | None = None

    def differences(self, welcome: dict[str, Any]) -> list[str]:
        """What was recorded with something else than what is here."""
        here: dict[str, Any] = {"backend": self._backend.name} | machine.facts()
        there: dict[str, Any] = welcome | welcome.get("machine", {})
        return [f"{k}: {there.get(k)} then, {v} now" for k, v in here.items() if there.get(k) != v]

    def check(self, entry: Beginning | TrueStep) -> Divergence | None:
        """Do this entry again; where it comes out different, how."""
        if isinstance(entry, Beginning):
            opening = self._opened(entry.seed, entry.stride)
            self._stepper.open(opening, noise_seed=entry.noise_seed)
            same = latent_hash(opening.latents) == entry.latent_hash
            return None if same else Divergence(entry.epoch, 0, 0, None, None)
        share = share_held(entry.buttons, self._spec.n_buttons)
        latent = self._stepper.step(share, len(entry.buttons)).latent
        if latent_hash(latent) == entry.latent_hash:
            return None
        off = np.abs(np.array(sketch(latent)) - np.array(entry.sketch or 0.0))
        rms = float(np.sqrt(np.square(off).mean()))
        return Divergence(entry.epoch, entry.step, entry.index, float(off.max()), rms)

    def _opened(self, seed: int, stride: int) -> Opening:
        """The newest is kept: a reset asks for it again."""
        if self._opening is None or self._opening[0] != (seed, stride):
            encoder: Any = self._models.part("encoder", self._backend.encoder)
            made = make_opening(self._models.world_class(self._game), self._spec, encoder, seed, stride)
            self._opening = ((seed, stride), made)
        return self._opening[1]


def verify(directory: Path, fake: bool = False, say: Any = None, weights: str | None = None) -> Verdict:
    """weights: a directory instead of the shipped ones. Raises EngineError for what is no recording of a
    dream, or of one that cannot be dreamed here."""
    meta, entries = read(directory)
    device = "cuda" if meta.welcome.get("device") == "cuda" else "cpu"
    if device == "cuda" and not machine.gpus():
        raise EngineError(
            "it was dreamed on a GPU, and there is none here: verify it on the machine it is from"
        )
    cores = machine.useful_cores()
    threads = threads_each(1 if together_or_apart("auto", "cpu", cores, 0) else 2, cores)
    _limit_threads(threads)
    verifier = Verifier(meta, ModelsAtHand(("world",), device, threads, weights, fake))
    verdict = Verdict(meta.game, differences=verifier.differences(meta.welcome))
    verdict.recorded_steps = sum(isinstance(entry, TrueStep) for entry in entries)
    if not meta.completed:
        verdict.note = "the recording was cut short; what reached the disk was verified"
    for entry in _without_gaps(entries):
        verdict.divergence = verifier.check(entry)
        if verdict.divergence is not None:
            break
        verdict.steps += isinstance(entry, TrueStep)
        if say is not None:
            say(verdict)
    verdict.unverified_steps = verdict.recorded_steps - verdict.steps - (verdict.divergence is not None)
    return verdict


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _without_gaps(entries: list[Beginning | TrueStep]) -> Iterator[Beginning | TrueStep]:
    """Entries as far as each follows the one before it: behind a gap nothing can be said until an epoch
    begins."""
    expected = (-1, 0)
    for entry in entries:
        if isinstance(entry, Beginning):
            expected = (entry.epoch, 1)
            yield entry
        elif (entry.epoch, entry.step) == expected:
            expected = (entry.epoch, entry.step + 1)
            yield entry


def read(directory: Path) -> tuple[_Meta, list[Beginning | TrueStep]]:
    """A recording's description and step log. Raises EngineError."""
    try:
        meta = msgspec.json.decode((directory / "meta.json").read_bytes(), type=_Meta)
        lines = (directory / "steps.jsonl").read_bytes().split(b"\n")
    except FileNotFoundError as error:
        raise EngineError(f"{directory} cannot be verified: it has no {Path(error.filename).name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"{directory} cannot be verified: {error}") from None
    if meta.game not in GAMES:
        raise EngineError(f"{directory} is of a game that is not here: {meta.game!r}")
    if meta.mode != "dream":
        raise EngineError(f"{directory} is of the simulator: there is no dream to verify")
    decoder = msgspec.json.Decoder(Beginning | TrueStep)
    try:
        entries = [decoder.decode(line) for line in lines[:-1]]  # behind the last newline: nothing, or a cut
    except (ValueError, RecursionError) as error:
        raise EngineError(f"{directory / 'steps.jsonl'} is damaged: {error}") from None
    buttons = [len(entry.buttons) for entry in entries if isinstance(entry, TrueStep)]
    if not all(1 <= n <= 8 for n in buttons):
        raise EngineError(f"{directory / 'steps.jsonl'} is damaged: a step of another length than 1 to 8")
    if not buttons:
        raise EngineError(f"{directory} holds no true step: nothing to verify")
    return meta, entries


def as_text(verdict: Verdict) -> str:
    lines = [verdict.note] if verdict.note else []
    found = verdict.divergence
    if found is None:
        lines.append(f"{verdict.steps} true steps dreamed again: every latent is the same, bit for bit")
    else:
        by = (
            "only its hash was recorded"
            if found.rms_difference is None
            else f"by {found.rms_difference:.2g} rms, {found.max_difference:.2g} at most; latents are about 1"
        )
        where = f"step {found.step} of epoch {found.epoch} (frame {found.frame})"
        lines.append(f"the same for {verdict.steps} true steps; {where} is the first that differs: {by}")
    if verdict.unverified_steps:
        why = "" if found is not None else ": the log has a gap before them"
        lines.append(f"{verdict.unverified_steps} steps were not compared{why}")
    lines += [f"different here: {difference}" for difference in verdict.differences]
    return "\n".join(lines)


class _Progress:
    """A line on standard error now and then."""

    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def __call__(self, verdict: Verdict) -> None:
        if time.monotonic() - self._said_s > _SAY_EVERY_S:
            self._said_s = time.monotonic()
            print(f"{verdict.steps} of {verdict.recorded_steps} steps", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="dreamcade replay DIR --verify", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--weights", help="a directory instead of the shipped weights")
    parser.add_argument("--json", action="store_true", help="one JSON line instead")
    parser.add_argument("--fake", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    from engine.models.weights import WeightsError

    try:
        verdict = verify(options.directory, options.fake, _Progress(), options.weights)
    except (EngineError, WeightsError) as error:
        print(f"dreamcade: error: {error}", file=sys.stderr)
        sys.exit(1)
    result = asdict(verdict) | {"same": verdict.same}
    print(json.dumps(result) if options.json else as_text(verdict))
    sys.exit(0 if verdict.same else DIFFERS if verdict.divergence is not None else 1)


if __name__ == "__main__":
    main()
