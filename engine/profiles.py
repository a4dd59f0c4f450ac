"""What was measured on one kind of accelerator: the planner's only source. Made by engine/bench/profile.py,
kept as JSON under assets/profiles/. No torch, and nothing else that a bare GPU machine may not have."""

import json
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from engine.errors import EngineError

SHIPPED = Path(__file__).parents[1] / "assets" / "profiles"
VERSION = 1
WIDE = "-wide"
"""Behind a game's name, in a preset's: with its wide decoder, which GPUs paint with."""


class _InRow:
    """A time of one waited for, and perhaps of one among many that nobody waits for."""

    ms: float
    in_row_ms: float | None

    @property
    def rate_ms(self) -> float:
        """What sets a rate."""
        return self.in_row_ms or self.ms


@dataclass(frozen=True)
class StepTime(_InRow):
    """One step of `worlds` worlds on `ranks` sequence-parallel ranks: median ms, waited for, and memory of
    one rank; in_row_ms: of one among many that nobody waits for, where that was measured."""

    ranks: int
    worlds: int
    ms: float
    memory_gib: float
    in_row_ms: float | None = None


@dataclass(frozen=True)
class DecodeTime(_InRow):
    """One decode of `batch` latents into the dearest of `bands` bands, on one rank: median ms, memory;
    in_row_ms as of a step."""

    batch: int
    bands: int
    ms: float
    memory_gib: float
    in_row_ms: float | None = None


@dataclass(frozen=True)
class TogetherTime:
    """One step of `worlds` worlds and all its decodes on one accelerator, overlapped: median ms."""

    worlds: int
    batch: int
    ms: float


@dataclass(frozen=True)
class Link:
    """A message of n bytes takes latency + n / bandwidth."""

    latency_us: float
    bandwidth_gb_s: float

    def ms(self, size: float) -> float:
        return self.latency_us / 1e3 + size / (self.bandwidth_gb_s * 1e6)


@dataclass(frozen=True)
class Model:
    """The shapes that decide which splits are legal and what has to be sent."""

    preset: str
    tokens: int
    heads: int
    layers: int
    width: int
    rows: int
    latent_bytes: int
    frame_bytes: int


@dataclass(frozen=True)
class Profile:
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
    steps: tuple[StepTime, ...]
    decodes: tuple[DecodeTime, ...]
    link: Link | None
    to_host: Link
    together: tuple[TogetherTime, ...] = ()

    def step_time(self, ranks: int, worlds: int) -> StepTime | None:
        return next((s for s in self.steps if (s.ranks, s.worlds) == (ranks, worlds)), None)

    def decode_time(self, batch: int, bands: int) -> DecodeTime | None:
        return next((d for d in self.decodes if (d.batch, d.bands) == (batch, bands)), None)


class ProfileError(EngineError):
    """A profile that cannot be used; the text says which and what to do."""


def read_profile(path: Path) -> Profile:
    """Raises ProfileError."""
    try:
        profile = from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise ProfileError(f"there is no profile {path}: name a file with --profile") from None
    except (OSError, ValueError, RecursionError) as error:  # JSON and Unicode errors are ValueErrors
        raise ProfileError(f"{path} is not a profile: {error}") from None
    if (wrong := _impossible(profile)) is not None:
        raise ProfileError(f"{path} is not a profile: {wrong}")
    return profile


def from_json(data: Any) -> Profile:
    """Raises ValueError, which says where."""
    profile: Profile = _read(Profile, data, "the file")
    return profile


def _read(kind: Any, data: Any, where: str) -> Any:
    """`data` as a `kind`: a dataclass, a tuple of them, one or None, a literal, a number, text."""
    if isinstance(kind, UnionType):
        return None if data is None else _read(get_args(kind)[0], data, where)
    if is_dataclass(kind):
        return _read_fields(kind, data, where)
    if get_origin(kind) is tuple and isinstance(data, list):
        return tuple(_read(get_args(kind)[0], one, f"{where}[{i}]") for i, one in enumerate(data))
    if get_origin(kind) is Literal:
        fine = data in get_args(kind)
    elif kind is float:
        fine = type(data) in (int, float)
    else:
        fine = type(data) is kind
    if not fine:
        raise ValueError(f"{where} is {data!r}")
    return data


def _read_fields(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{where} is not an object")
    kinds, known = get_type_hints(kind), {field.name: field for field in fields(kind)}
    for name in data.keys() - known.keys():
        raise ValueError(f"{where} has an unknown field `{name}`")
    for name in known.keys() - data.keys():
        if known[name].default is MISSING:
            raise ValueError(f"{where} misses the required field `{name}`")
    return kind(**{name: _read(kinds[name], value, name) for name, value in data.items()})


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
        entries: tuple[Any, ...] = getattr(profile, name)
        for i, entry in enumerate(entries):
            for field, value in asdict(entry).items():
                if value is not None and not 0 < value < 1e9:
                    return f"{name}[{i}].{field} is {value}, it must be positive"
    for link in ("link", "to_host"):
        one: Link | None = getattr(profile, link)
        if one is not None and (one.latency_us < 0 or one.bandwidth_gb_s <= 0):
            return f"{link} must have a latency of 0 or more and a positive bandwidth"
    sizes = {k: v for k, v in asdict(profile.model).items() if k != "preset"}
    sizes |= {"accelerators": profile.accelerators, "memory_gib": profile.memory_gib}
    return next(
        (f"{field} is {value}, it must be positive" for field, value in sizes.items() if value <= 0), None
    )
