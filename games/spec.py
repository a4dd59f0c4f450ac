"""What a game is to everybody who does not simulate it: size, buttons, keys, telemetry, looks.

No torch here: the thin client and the protocol read these too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from typing import Literal

Kind = Literal["value", "flag", "count", "event"]


@dataclass(frozen=True)
class TelemetryField:
    """One number that the simulator knows and the world model reads out of itself.

    kind  value: a quantity now, between `low` and `high` (clipped).
          flag: 0 or 1. count: a smooth running total (distance); the model predicts its change per frame, the
          engine adds it up. event: a whole-number total (coins, laps); the model predicts how much it changes
          over a step.
    low, high  the range in `unit` that is mapped to [-1, 1]; for a count, of its change per frame; for an
    event, of
          its change at once.
    """

    name: str
    unit: str
    kind: Kind
    low: float
    high: float
    meaning: str


@dataclass(frozen=True)
class Respawn:
    """In which fields of its telemetry a game tells of checkpoints, and of deaths that cost a life and lead
    back to the last one.

    alive, stands  flags: the hero lives; stands where one can begin again.
    lives, level   events: lives left, which grow only after a game over; levels finished. Where one of them
                   grows, another place begins.
    place  a count of the way gone: a checkpoint lies at each `every` of it, in its unit, from the level's
           beginning on.
    progress  a value from 0 to 1: the share of the level that is passed.
    goal, finish_frames  where a level is won: so much of the way, in the unit of place, before all of it is
           passed; who stands there has won after so many frames.
    height, lowest  a value, and what it is at least where one can stand: who is lower has fallen."""

    alive: str
    stands: str
    lives: str
    level: str
    place: str
    every: float
    progress: str
    height: str
    lowest: float
    goal: float
    finish_frames: int


@dataclass(frozen=True)
class GameSpec:
    """A game's constants. `masks` names the important small things; class id k in a rendered class
    map is masks[k - 1], 0 is everything else. `movers` names those masks whose things move by themselves.
    `keys` maps a button's name to pygame key names (US layout; the client binds them by position). `lasting`
    names telemetry that no world ever changes. `respawn` None: nothing leads back to a checkpoint. `shown`
    names telemetry of what lies ahead, which can be read off one picture; names that end in _ahead are
    distances. `circles` names pairs of it that are sine and cosine of one angle; `whole_units` an event and
    the count whose whole units it counts."""

    name: str
    title: str
    buttons: type[IntFlag]
    keys: dict[str, tuple[str, ...]]
    telemetry: tuple[TelemetryField, ...]
    looks: tuple[str, ...]
    masks: tuple[str, ...]
    movers: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    respawn: Respawn | None = None
    shown: tuple[str, ...] = ()
    circles: tuple[tuple[str, str], ...] = ()
    whole_units: tuple[tuple[str, str], ...] = ()
    width: int = 720
    height: int = 480
    fps: int = 60

    @property
    def n_buttons(self) -> int:
        return len(self.buttons)

    def field_index(self, name: str) -> int:
        """Position of telemetry field `name`; KeyError if the game has none."""
        for i, field in enumerate(self.telemetry):
            if field.name == name:
                return i
        raise KeyError(f"{self.name} has no telemetry field {name!r}")


def angle_fields(name: str, of: str) -> tuple[TelemetryField, TelemetryField]:
    """An angle is told as its sine and cosine, which have no seam; GameSpec.circles takes such pairs."""
    sin, cos = (
        TelemetryField(f"{name}_{wave}", "", "value", -1.0, 1.0, f"{wave} of {of}") for wave in ("sin", "cos")
    )
    return sin, cos


def circles(angles: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """GameSpec.circles of what `angle_fields` told."""
    return tuple((f"{angle}_sin", f"{angle}_cos") for angle in angles)


def look_fields(looks: tuple[str, ...]) -> tuple[TelemetryField, ...]:
    """One flag per look. A dream remembers a second or so of pictures; what it tells itself of its look at
    every step it remembers for good."""
    return tuple(
        TelemetryField(f"look_{look}", "", "flag", 0.0, 1.0, f"the look is {look}") for look in looks
    )
