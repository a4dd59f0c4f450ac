"""The platformer as its scripted player imagines it, frame by frame: the hero's laws, and what he moves in.

Lengths in tiles, times in frames, speeds in tiles a frame.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from client.senses import FPS, Senses
from games.platformer import units

PIT = -math.inf
WIDTH, TALL = units.HERO_W / units.TILE, units.HERO_H / units.TILE  # the hero's box
ENEMY = units.ENEMY_W / units.TILE  # how wide and high an enemy is
COYOTE, BUFFER = units.COYOTE, units.BUFFER


def _tiles(speed: int) -> float:
    """Of the simulator's unit."""
    return speed / units.SUB / units.TILE


RUN, ACCEL, AIR_ACCEL = _tiles(units.RUN), _tiles(units.ACCEL), _tiles(units.AIR_ACCEL)
FRICTION, AIR_FRICTION = _tiles(units.FRICTION), _tiles(units.AIR_FRICTION)
JUMP, JUMP_CUT, MAX_FALL = _tiles(units.JUMP), _tiles(units.JUMP_CUT), _tiles(units.MAX_FALL)
GRAVITY, FALL_GRAVITY = _tiles(units.GRAVITY), _tiles(units.FALL_GRAVITY)
BOUNCE, BOUNCE_HIGH = _tiles(units.BOUNCE), _tiles(units.BOUNCE_HIGH)


@dataclass(slots=True)
class Hero:
    """Moves by the game's laws."""

    x: float = 0.0  # his front edge when he faces right
    y: float = 0.0  # feet
    vx: float = 0.0
    vy: float = 0.0
    right: bool = True  # faces right
    stands: bool = False
    carried: float = 0.0  # by the platform under him
    coyote: int = 0
    buffer: int = 0
    held: bool = False
    rising: bool = False  # by a jump that ends when the key is let go
    stomped: bool = False

    def run(self, way: int) -> None:
        """way: -1 to 1."""
        if way:
            gain = (ACCEL if self.stands else AIR_ACCEL) + (FRICTION if way * self.vx < 0 else 0.0)
            self.vx = min(max(self.vx + way * gain, -RUN), RUN)
            self.right = way > 0
        else:
            slow = FRICTION if self.stands else AIR_FRICTION
            self.vx -= min(max(self.vx, -slow), slow)

    def leap(self, jump: bool) -> None:
        """Take off, cut short, fall."""
        self.buffer = BUFFER if jump and not self.held else self.buffer - 1
        self.held = jump
        if self.buffer > 0 and self.coyote > 0:
            self.vy, self.rising, self.stands, self.carried = JUMP, True, False, 0.0
            self.buffer = self.coyote = 0
        if self.rising and not jump:
            self.vy, self.rising = min(self.vy, JUMP_CUT), False
        self.vy = max(self.vy - (GRAVITY if self.vy > 0 else FALL_GRAVITY), -MAX_FALL)

    def land(self, y: float, carried: float) -> None:
        self.y, self.vy, self.stands, self.carried, self.rising = y, 0.0, True, carried, False

    def bounce(self) -> None:
        self.vy = BOUNCE_HIGH if self.held else BOUNCE
        self.rising, self.coyote, self.stomped = False, 0, True

    def correct(self, s: Senses, passed: int) -> None:
        """He has followed the buttons of the `passed` frames since the last look; what telemetry tells is
        true, what it does not tell (the way he faces, the jump) stays as imagined."""
        stood, self.stands = self.stands, s.grounded > 0.5
        self.x, self.y, self.vx, self.vy = s.x + WIDTH, s.y, s.vx / FPS, s.vy / FPS
        if self.stands:
            self.coyote = COYOTE
        elif self.vy > 0.02:
            self.coyote = self.buffer = 0
        else:
            self.coyote = COYOTE - passed if stood else self.coyote - passed
        self.rising = self.held and self.vy > 0.02 and not self.stands


class Piece(NamedTuple):
    """Ground from `x` on to the next piece."""

    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0


@dataclass(frozen=True)
class Foe:
    """An enemy: left edge and feet."""

    x: float = math.inf
    y: float = 0.0
    vx: float = 0.0
    spiked: bool = False


class Scene:
    """What the hero moves in while a plan is imagined."""

    def __init__(self, ground: list[Piece], foe: Foe, spare: float) -> None:
        """spare: so much nearer or farther may all of it be."""
        self._ground = sorted(ground, reverse=True)
        self._foe, self._room = foe, 0.6 * spare
        self._lost = min((piece.y for piece in ground if piece.y > PIT), default=0.0) - 0.8

    def _at(self, x: float, frame: int) -> Piece:
        for piece in self._ground:
            if x >= piece.x + piece.vx * frame:
                return piece
        return self._ground[-1]

    def move(self, hero: Hero, frame: int) -> bool:
        """One frame of it. False: a wall held him up."""
        hero.x += hero.vx + hero.carried
        front = self._at(hero.x, frame)
        free = hero.vx <= 0 or front.y + front.vy * frame <= hero.y + 0.05
        if not free:
            hero.x, hero.vx = hero.x - hero.vx - 0.001, 0.0
            front = self._at(hero.x, frame)
        back = self._at(hero.x - WIDTH, frame)
        under = front if front.y + front.vy * frame >= back.y + back.vy * frame else back
        floor = under.y + under.vy * frame
        before, hero.y = hero.y + 0.05, hero.y + hero.vy
        hero.stands = hero.vy <= 0 and hero.y <= floor <= before
        if hero.stands:
            hero.land(floor, under.vx)
            hero.coyote = COYOTE
        else:
            hero.carried = 0.0
            hero.coyote -= 1
        return free

    def kills(self, hero: Hero, frame: int) -> bool:
        """He is in a pit, or touches an enemy other than well from above."""
        if hero.y < self._lost:
            return True
        foe = self._foe
        left = foe.x + foe.vx * frame
        apart = max(left - hero.x, hero.x - WIDTH - left - ENEMY)
        if hero.stomped or apart > self._room or not foe.y - TALL < hero.y < foe.y + ENEMY + self._room:
            return False
        if foe.spiked or hero.vy >= 0 or hero.y < foe.y + 0.35:
            return True
        if apart < -0.3:
            hero.bounce()
        return False
