"""What the platformer's scripted player knows of the way ahead: what telemetry tells now and told before.

Lengths in tiles, times in frames, speeds in tiles a frame; places are the world's, as telemetry's x is.
"""

import math
from dataclasses import dataclass, replace

from client.foresight import PIT, Foe, Hero, Piece, Scene
from client.lessons import Lessons
from client.senses import FPS, Senses

SEEN = 9.9  # what is farther than this is not there
WALK = 0.014, 0.02  # how fast an enemy walks at least; how fast one may whose speed is not known yet
LIFT = 0.024  # as fast as moving ground gets
STILL = 0.011  # ground that seems to move slower than this stands


@dataclass(frozen=True)
class Track:
    """Something seen again and again: a line through the places where it was (recursive least squares)."""

    x: float = math.inf
    y: float = math.inf
    vx: float = 0.0
    vy: float = 0.0
    looks: int = 0

    def after(self, frames: int) -> "Track":
        return replace(self, x=self.x + self.vx * frames, y=self.y + self.vy * frames)

    def seen(self, x: float, y: float, frames: int, memory: int) -> "Track":
        """It is not quite where it was thought to be by now.

        frames: since the last look; memory: about how many looks count.
        """
        off_x, off_y = x - self.x, y - self.y
        if not (abs(off_x) < 0.5 and abs(off_y) < 0.5):  # it is another one
            return Track(x, y, looks=1)
        n = min(self.looks + 1, memory)
        place, speed = 2 * (2 * n - 1) / (n * (n + 1)), 6 / (n * (n + 1)) / frames
        return Track(
            self.x + place * off_x, self.y + place * off_y,
            min(max(self.vx + speed * off_x, -0.03), 0.03), min(max(self.vy + speed * off_y, -0.03), 0.03),
            self.looks + 1,
        )  # fmt: skip

    def pace(self) -> tuple[float, float]:
        """Its speed, 0 where it is not known or may as well stand."""
        known = self.looks > 3
        vx, vy = (v if known and abs(v) > STILL else 0.0 for v in (self.vx, self.vy))
        return vx, vy


@dataclass(frozen=True)
class Doubt:
    """What may be otherwise than thought."""

    walk: float  # the enemy's speed
    near: float = 0.0  # the ground here is so much lower
    after: float = 0.0  # the ground after the pit
    still: bool = False  # nothing moves after the pit
    rise: float = 0.0  # how fast the ground after the pit may rise


class Way:
    """Telemetry looks ahead the way the hero faces; of what lies left of him nothing is remembered."""

    def __init__(self) -> None:
        self._front = self._floor = 0.0  # the ground stood on last, or lower where he fell past it
        self._stands = True
        self._steps: list[tuple[float, float]] = []  # steps up: where, and how high the ground is there
        self._pit, self._edge, self._far, self._top = False, math.inf, Track(), Track()
        self._foe, self._spiked = Track(), False
        self._blind = 0  # frames since he last looked right
        self._lessons = Lessons()
        self._under, self._walked = Track(), 0.0  # the ground he stands on, and how far he walked himself

    def look(self, s: Senses, hero: Hero, passed: int) -> None:
        """passed: frames since the last look."""
        self._front, self._stands = hero.x, hero.stands
        self._lessons.look(s, hero)
        self._foe, self._far, self._top = (t.after(passed) for t in (self._foe, self._far, self._top))
        if s.alive < 0.5:
            self._steps, self._edge = [], math.inf
        for x, y in self._steps:
            if x < self._front:
                self._floor = y
        self._floor = s.y if self._stands or s.alive < 0.5 else min(self._floor, s.y)
        self._look_down(s, passed)
        self._blind = 0 if hero.right else self._blind + passed
        if hero.right:
            self._look_at_foe(s, passed)
            self._look_at_ground(s, passed)

    def _look_down(self, s: Senses, passed: int) -> None:
        """Whoever is moved without running rides."""
        if self._stands and s.alive > 0.5 and abs(s.vx) < 2:
            self._walked += s.vx / FPS * passed
            self._under = self._under.after(passed).seen(s.x - self._walked, s.y, passed, 8)
        else:
            self._under, self._walked = Track(), 0.0

    def ride(self) -> tuple[float, float]:
        """How the ground he stands on moves, right and up."""
        return self._under.pace()

    def _look_at_foe(self, s: Senses, passed: int) -> None:
        if s.enemy_ahead > SEEN:
            self._foe = Track()
            return
        x, y = self._front + s.enemy_ahead, s.y + s.enemy_height
        if s.enemy_ahead < 0.05:  # he is beside, above or below it
            x = min(max(self._foe.x, x - 0.75), x) if self._foe.looks else x - 0.4
        self._foe, self._spiked = self._foe.seen(x, y, passed, 6), s.enemy_spiked > 0.5
        if not self._stands and s.enemy_ahead < 4:  # it stands on the ground
            self._floor = min(self._floor, self._foe.y)

    def _look_at_ground(self, s: Senses, passed: int) -> None:
        wall = self._front + s.wall_ahead
        # Nothing before the wall is higher than the feet.
        self._steps = [(x, y) for x, y in self._steps if self._front - 0.1 < x < wall - 0.5 and y < s.y + 0.3]
        if s.wall_height > 0.2:
            self._steps.append((wall, s.y + s.wall_height))
        self._pit = s.gap_width > 0.2
        self._edge += self.ride()[0] * passed
        if s.gap_ahead > 0.3 or self._edge > self._front:  # else he is over it
            self._edge = self._front + s.gap_ahead
        far = self._front + s.gap_ahead + s.gap_width
        if self._pit and s.gap_ahead + s.gap_width < SEEN:
            self._far = self._far.seen(far, 0.0, passed, 8)
            if s.wall_height > 0.2 and abs(wall - far) < 0.6:
                self._top = self._top.seen(far, s.y + s.wall_height, passed, 8)
            elif self._stands:  # not higher than he
                self._top = Track()
        else:
            self._far = self._top = Track(far)

    def waits(self) -> bool:
        """Whether there may be something to wait for."""
        return self._foe_near() or (self._pit and self._edge < self._front + 2)

    def _foe_near(self) -> bool:
        return self._foe.x < self._front + 6

    def doubts(self) -> list[Doubt]:
        """Those that matter here, the likeliest first."""
        walk = -WALK[1]
        if self._foe.looks > 2:
            walk = math.copysign(max(abs(self._foe.vx), WALK[0]), self._foe.vx)
        doubts = [Doubt(walk=walk)]
        near = self._foe_near()
        lower = near and self._foe.x < self._edge and self._foe.y < self._floor - 0.2
        if near:
            doubts.append(Doubt(walk=-walk))
        if lower if self._stands else near or self._pit:
            doubts.append(Doubt(walk=walk, near=2.0))
        if self._pit:
            doubts.append(Doubt(walk=walk, after=2.0))
        if self._pit and 0 < self._top.looks < 4:
            doubts.append(Doubt(walk=walk, rise=LIFT))
        if self._pit and (self._far.pace()[0] or self._top.pace()[1]):
            doubts.append(Doubt(walk=walk, still=True))
        return doubts

    def scene(self, spare: float, doubt: Doubt) -> Scene:
        """Pits wider by `spare` on either side, steps a little higher."""
        ground = [Piece(-math.inf, self._floor - (0.0 if self._stands else doubt.near), *self.ride())]
        steps = [Piece(x, y + 0.4 * spare) for x, y in self._steps]
        if doubt.near and self._stands:  # a step down right here, to where the enemy is
            steps = [Piece(self._front, self._foe.y)] + [step for step in steps if step.x > self._foe.x]
        ground += steps
        if self._pit:
            ground = self._with_pit(ground, spare, doubt)
        x = self._foe.x + (doubt.walk - self._foe.vx) * self._blind  # it may have turned round unseen
        foe = Foe(x, self._foe.y, doubt.walk, self._spiked)
        front = self._front
        return Scene(self._lessons.ground(ground, front), self._lessons.foe(foe, front), spare)

    def _with_pit(self, ground: list[Piece], spare: float, doubt: Doubt) -> list[Piece]:
        """The far side is as high as the step up that is seen there, else as the ground here."""
        far, height = self._far.x + spare, self._floor - doubt.after
        for x, y, *_ in ground[1:]:
            if x < self._far.x + 0.6:
                height = y
                far = x if x > self._far.x - 0.6 else self._far.x
        ground = [piece for piece in ground if not self._edge - 2 * spare <= piece.x <= far]
        vx, vy = self._far.pace()[0], doubt.rise or self._top.pace()[1]
        if doubt.still:
            vx = vy = 0.0
        return [*ground, Piece(self._edge - 2 * spare, PIT, self.ride()[0]), Piece(far, height, vx, vy)]
