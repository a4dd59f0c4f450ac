"""The library of level sections: 12 columns each, in some kinds times some variants, built once per process.

Every section begins and ends with flat ground at its base height, and keeps the rules that make a level
finishable from left to right: pits <= 4 tiles (<= 3 to higher ground), steps up <= 3 tiles, over moving
platforms never more than 3 tiles to the next thing to stand on, at any moment of their way.
Level.py lines sections up at different base heights (at most 2 tiles apart).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from games.platformer.units import SLOT

EMPTY, SOLID, LEDGE = 0, 1, 2
PIT = -9
"""Ground height of a column without ground."""
MAX_ENEMIES, MAX_COINS, MAX_PLATFORMS = 3, 8, 2
VARIANTS = 32
BELOW = 6
"""Rows of a section's tile table below its base height."""
TABLE_ROWS = 20


@dataclass(frozen=True)
class Enemy:
    """Walks between columns `left` and `right` (of its left edge) at `row`; speed in 1/256 px a frame."""

    left: float
    right: float
    row: int
    spiked: bool
    speed: int


@dataclass(frozen=True)
class Platform:
    """3 tiles wide. Its left edge and top (tiles from the section's base) move by (dx, dy) and back."""

    left: float
    top: float
    dx: float
    dy: float
    speed: int


@dataclass
class Section:
    """One section while it is drawn up. tops: ground height per column; ledges: (column, row)."""

    tops: list[int] = field(default_factory=lambda: [0] * SLOT)
    ledges: list[tuple[int, int]] = field(default_factory=list)
    blocks: list[tuple[int, int]] = field(default_factory=list)
    enemies: list[Enemy] = field(default_factory=list)
    coins: list[tuple[float, float]] = field(default_factory=list)
    platforms: list[Platform] = field(default_factory=list)

    def ground(self, first: int, last: int, top: int) -> None:
        """Set the ground height of columns first..last."""
        for column in range(first, last + 1):
            self.tops[column] = top

    def ledge(self, first: int, last: int, row: int) -> None:
        """One-way ledge tiles whose top is at height row + 1."""
        self.ledges += [(column, row) for column in range(first, last + 1)]

    def arc(self, first: float, count: int, low: float, rise: float) -> None:
        """Coins in an arc; (x, y) is a coin's centre in tiles."""
        for i in range(count):
            u = 2 * i / max(count - 1, 1) - 1
            self.coins.append((first + i, low + rise * (1 - u * u)))

    def walker(self, left: float, right: float, row: int, dice: "Dice", spiked: bool = False) -> None:
        speed = dice.pick(200, 256, 320) if not spiked else dice.pick(160, 200, 240)
        self.enemies.append(Enemy(left, right, row, spiked, speed))


class Dice:
    """A small counter-based generator in plain Python (lowbias32), the same in every process."""

    def __init__(self, seed: int) -> None:
        self._seed, self._count = seed, 0

    def roll(self, low: int, high: int) -> int:
        """A whole number in low..high, both included."""
        self._count += 1
        x = (self._seed * 0x9E3779B1 + self._count * 0x85EBCA6B) & 0xFFFFFFFF
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
        return low + (x ^ (x >> 16)) % (high - low + 1)

    def pick(self, *options: int) -> int:
        return options[self.roll(0, len(options) - 1)]


def flat(s: Section, d: Dice) -> None:
    first = d.roll(2, 5)
    s.arc(first + 0.5, d.roll(3, 5), 0.6, d.pick(0, 0, 2))
    s.walker(d.roll(4, 6), 9.5, 0, d)


def bumps(s: Section, d: Dice) -> None:
    left, width, top = d.roll(2, 4), d.roll(3, 5), d.roll(1, 2)
    s.ground(left, left + width, top)
    if width > 3 and top == 1:
        s.ground(left + 2, left + width - 1, 2)
    s.arc(left + 1.5, 3, top + 1.7, 0.4)
    s.walker(left + width + 1.2, 11, 0, d)


def stairs(s: Section, d: Dice) -> None:
    first, run = d.roll(2, 3), d.roll(1, 2)
    for step in range(3):
        s.ground(first + step * run, first + step * run + run - 1, step + 1)
    end = first + 3 * run
    s.ground(end, end + d.roll(0, 1), 3)
    s.arc(end - 1, 3, 4.7, 0.6)


def steps_down(s: Section, d: Dice) -> None:
    s.ground(2, 4, d.pick(2, 3))
    s.ground(5, 6, d.pick(1, 2))
    s.ground(7, 8, 1)
    s.arc(2.5, 3, 3.8, 0)
    s.walker(9.2, 11, 0, d)


def pit(s: Section, d: Dice) -> None:
    left, width = d.roll(3, 5), d.roll(2, 4)
    s.ground(left, left + width - 1, PIT)
    s.arc(left - 0.5, width + 2, 1.6, 1.6)
    if left + width <= 7:
        s.walker(left + width + 0.5, 10.8, 0, d)


def double_pit(s: Section, d: Dice) -> None:
    first, island, second = d.roll(2, 3), 3, d.roll(1, 2)
    s.ground(2, 1 + first, PIT)
    s.ground(2 + first, 1 + first + island, d.pick(0, 0, 1))
    s.ground(2 + first + island, min(1 + first + island + second, 9), PIT)
    s.arc(2 + first + 0.5, island, 2.0, 0)


def ledges(s: Section, d: Dice) -> None:
    low = d.roll(2, 3)
    left = d.roll(1, 3)
    s.ledge(left, left + d.roll(1, 2), low - 1)
    s.ledge(left + 4, left + 4 + d.roll(1, 2), low + 1)
    s.arc(left + 0.5, 2, low + 0.7, 0)
    s.arc(left + 4.5, 2, low + 2.7, 0)
    s.walker(4, 10.5, 0, d, spiked=d.roll(0, 1) == 1)


def pit_with_ledge(s: Section, d: Dice) -> None:
    left, first, last = d.roll(2, 3), d.roll(2, 3), d.roll(2, 3)
    s.ground(left, min(left + first + last + 2, 9), PIT)
    row = d.pick(-1, -1, 0)
    s.ledge(left + first, left + first + 2, row)
    s.arc(left + first + 0.5, 3, row + 2.2, 0.5)


def columns(s: Section, d: Dice) -> None:
    s.ground(3, 9, PIT)
    height = 0
    for left in (4, 7):
        height = max(0, min(height + d.pick(-1, 1, 1), 2))
        s.ground(left, left + 1, height)
        s.coins.append((left + 0.5, height + 0.7))


def pen(s: Section, d: Dice) -> None:
    left, right = d.roll(2, 3), d.roll(8, 9)
    s.ground(left, left, d.roll(1, 2))
    s.ground(right, right, d.roll(1, 2))
    s.walker(left + 1, left + 3, 0, d)
    s.walker(right - 3.5, right - 1, 0, d)
    s.arc(left + 2.5, right - left - 4, 2.6, 0.8)


def ferry(s: Section, d: Dice) -> None:
    """A pit of 7 with a platform that swings between 1 tile from either edge."""
    s.ground(2, 8, PIT)
    s.platforms.append(Platform(3, d.pick(0, 0, 0, 1) * 0.5, 2, 0, d.pick(192, 256, 300)))
    s.arc(4.5, 3, 2.4, 0.6)


def lift(s: Section, d: Dice) -> None:
    """A pit of 6 with a platform in its middle that rises and sinks."""
    s.ground(3, 8, PIT)
    s.platforms.append(Platform(4.5, -1, 0, d.roll(2, 3), d.pick(192, 256, 300)))
    s.arc(5, 3, 4.4, 0)
    if d.roll(0, 1):
        s.ground(9, 10, 1)


def two_ferries(s: Section, d: Dice) -> None:
    """A pit of 9 and two platforms that part and meet."""
    s.ground(2, 10, PIT)
    speed = d.pick(192, 256)
    s.platforms.append(Platform(2.5, 0, 1.0, 0, speed))
    s.platforms.append(Platform(7.5, 0, 0, 1.5, speed))
    s.arc(6.5, 2, 2.6, 0)


def spikes(s: Section, d: Dice) -> None:
    left = d.roll(3, 4)
    s.walker(left, left + d.roll(2, 4), 0, d, spiked=True)
    if d.roll(0, 1):
        s.ledge(left + 1, left + 3, 2)
        s.arc(left + 1.5, 3, 3.7, 0)
    else:
        s.arc(left + 0.5, 5, 1.8, 1.6)


def tower(s: Section, d: Dice) -> None:
    left, top = d.roll(3, 4), d.roll(2, 3)
    s.ground(left, left, d.roll(1, top))
    s.ground(left + 1, left + 2, top)
    s.ground(left + 3, left + 4, top + d.roll(0, 2))
    s.arc(left + 3.5, 2, top + 2.9, 0)
    s.walker(left + 5.2, 11, 0, d)


def plateau(s: Section, d: Dice) -> None:
    top = d.roll(2, 3)
    s.ground(2, 9, top)
    s.walker(4, 8, top, d, spiked=d.roll(0, 3) == 0)
    s.ledge(5, 6, top + 2)
    s.arc(5.5, 2, top + 3.7, 0)


def tunnel(s: Section, d: Dice) -> None:
    left, right = d.roll(3, 4), d.roll(7, 9)
    s.blocks += [(c, r) for c in range(left, right + 1) for r in (3, 4)]
    s.arc(left + 0.5, right - left + 1, 0.8, 0)
    s.walker(left, right, 0, d)


def sky_road(s: Section, d: Dice) -> None:
    """A pit of 8 crossed on two ledges."""
    s.ground(2, 9, PIT)
    low, high = d.pick(-1, 0), d.pick(0, 0, 1)
    s.ledge(3, 4, low)
    s.ledge(6, 7 + d.roll(0, 1), high)
    s.arc(3.5, 2, low + 1.7, 0)
    s.arc(6.5, 2, high + 1.7, 0)


def goal(s: Section, d: Dice) -> None:
    s.coins += [(2.5 + i, 0.7) for i in range(3)]


KINDS: tuple[Callable[[Section, Dice], None], ...] = (
    flat, bumps, stairs, steps_down, pit, double_pit, ledges, pit_with_ledge, columns, pen,
    ferry, lift, two_ferries, spikes, tower, plateau, tunnel, sky_road,
)  # fmt: skip
START, GOAL = len(KINDS) * VARIANTS, len(KINDS) * VARIANTS + 1


@cache
def library() -> tuple[Section, ...]:
    """All sections; kind k, variant v at k * VARIANTS + v, then the start and the goal."""
    sections = []
    for kind, draw in enumerate(KINDS):
        for variant in range(VARIANTS):
            section = Section()
            draw(section, Dice(kind * 1000 + variant))
            sections.append(section)
    start, end = Section(), Section()
    start.arc(6.5, 3, 0.7, 0)
    goal(end, Dice(0))
    return (*sections, start, end)
