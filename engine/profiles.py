"""What was measured on one kind of accelerator: the planner's only source. Made by engine/bench/profile.py,
kept as JSON under assets/profiles/. No torch."""

from pathlib import Path
from typing import Literal

import msgspec

from engine.errors import EngineError

SHIPPED = Path(__file__).parents[1] / "assets" / "profiles"
VERSION = 1


class StepTime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of `worlds` worlds on `ranks` sequence-parallel ranks: median ms, memory of one rank."""

    ranks: int
    worlds: int
    ms: float
    memory_gib: float


class DecodeTime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One decode of `batch` latents into the dearest of `bands` bands, on one rank: median ms, memory."""

    batch: int
    bands: int
    ms: float
    memory_gib: float


class TogetherTime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of `worlds` worlds and all its decodes on one accelerator, overlapped: median ms."""

    worlds: int
    batch: int
    ms: float


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message of n bytes takes latency + n / bandwidth."""

    latency_us: float
    bandwidth_gb_s: float

    def ms(self, size: float) -> float:
        return self.latency_us / 1e3 + size / (self.bandwidth_gb_s * 1e6)


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shapes that decide which splits are legal and what has to be sent."""

    preset: str
    tokens: int
    heads: int
    layers: int
    width: int
    rows: int
    latent_bytes: int
    frame_bytes: int


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """memory_gib is one accelerator's; accelerators how many the measurement used; link between two of them,
    null where there was one; to_host from one to its host; made says when, by what, at which commit."""

    version: int
    name: str
    hardware: str
    device: Literal["cpu", "cuda"]
    measured: bool
    made: str
    accelerators: int
    memory_gib: float
    model: Model
    steps: list[StepTime]
    decodes: list[DecodeTime]
    link: Link | None
    to_host: Link
    together: list[TogetherTime] = []

    def step_time(self, ranks: int, worlds: int) -> StepTime | None:
        return next((s for s in self.steps if (s.ranks, s.worlds) == (ranks, worlds)), None)

    def decode_time(self, batch: int, bands: int) -> DecodeTime | None:
        return next((d for d in self.decodes if (d.batch, d.bands) == (batch, bands)), None)


class ProfileError(EngineError):
    """A profile that cannot be used; the text says which and what to do."""


def read_profile(path: Path) -> Profile:
    """Raises ProfileError."""
    try:
        profile = msgspec.json.decode(path.read_bytes(), type=Profile)
    except FileNotFoundError:
        raise ProfileError(f"there is no profile {path}: name a file with --profile") from None
    except (OSError, msgspec.DecodeError) as error:
        raise ProfileError(f"{path} is not a profile: {error}") from None
    if (wrong := _impossible(profile)) is not None:
        raise ProfileError(f"{path} is not a profile: {wrong}")
    return profile


def gpu_profiles(folder: Path = SHIPPED) -> list[Profile]:
    """All there are. Raises ProfileError where one cannot be used."""
    profiles = [read_profile(path) for path in sorted(folder.glob("*.json"))]
    return [profile for profile in profiles if profile.device == "cuda"]


def gpu_profile(preset: str, folder: Path = SHIPPED) -> Profile:
    """The GPU profile of a preset. Raises ProfileError where there is none, or a choice."""
    profiles = gpu_profiles(folder)
    if not profiles:
        raise ProfileError(
            f"no GPU was profiled yet (none in {folder}): run `python -m engine.bench.profile --device cuda "
            "--out FILE` on the machine to plan for, or name a profile with --profile FILE"
        )
    found = [profile for profile in profiles if profile.model.preset.partition(" ")[0] == preset]
    if not found:
        choices = ", ".join(sorted({profile.model.preset.partition(" ")[0] for profile in profiles}))
        raise ProfileError(f"no GPU profile of {preset!r} in {folder}: choose by --preset from {choices}")
    if len(found) > 1:
        names = ", ".join(profile.name for profile in found)
        raise ProfileError(f"several GPU profiles of {preset!r} ({names}): name a file with --profile")
    return found[0]


def _impossible(profile: Profile) -> str | None:
    """What no measurement can give, or None."""
    if profile.version != VERSION:
        return f"its version is {profile.version}, this program reads {VERSION}"
    if not profile.decodes or not any(step.ranks == 1 for step in profile.steps):
        return "it needs a step on 1 rank and a decode at least"
    for name in ("steps", "decodes", "together"):
        entries: list[msgspec.Struct] = getattr(profile, name)
        for i, entry in enumerate(entries):
            for field, value in msgspec.structs.asdict(entry).items():
                if not 0 < value < 1e9:
                    return f"{name}[{i}].{field} is {value}, it must be positive"
    for link in ("link", "to_host"):
        one: Link | None = getattr(profile, link)
        if one is not None and (one.latency_us < 0 or one.bandwidth_gb_s <= 0):
            return f"{link} must have a latency of 0 or more and a positive bandwidth"
    sizes = {k: v for k, v in msgspec.structs.asdict(profile.model).items() if k != "preset"}
    sizes |= {"accelerators": profile.accelerators, "memory_gib": profile.memory_gib}
    return next(
        (f"{field} is {value}, it must be positive" for field, value in sizes.items() if value <= 0), None
    )
