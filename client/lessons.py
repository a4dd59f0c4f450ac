"""What the platformer's scripted player learned by dying: a dream may draw a pit wider than it tells, or an
enemy of which it tells nothing.

Lengths in tiles, times in frames; places are the world's, as telemetry's x is. Only deaths not yet got past
are remembered: what is beyond, a dream invents anew.
"""

from dataclasses import dataclass

from client.foresight import PIT, Foe, Hero, Piece
from client.senses import Senses

SAME = 3.0  # deaths so near to one another are of one cause
AHEAD = 9.0  # what is farther does not matter yet
FALLING = -0.12  # tiles a frame: who dies at this speed fell
EACH = 0.5  # so much farther and higher is the far side thought to be after each further fall
REACH = 1.5  # a wall so near is what he fell in front of


@dataclass
class Pit:
    """He fell between `edge`, where he stood last, and `far`, to where one has to get, as high as `top`."""

    edge: float
    far: float
    top: float

    def learn(self, again: "Pit") -> None:
        self.edge = max(self.edge, again.edge)
        self.far, self.top = max(self.far, again.far) + EACH, max(self.top, again.top) + EACH / 2


class Lessons:
    """Call `look` with what was seen before and is seen now."""

    def __init__(self) -> None:
        self.pits: list[Pit] = []
        self.foes: list[tuple[float, float]] = []  # where his front touched something, and how high
        self._stood = self._floor = self._x = self._y = self._vy = 0.0
        self._wall: tuple[float, float] | None = None
        self._alive = False

    def look(self, s: Senses, hero: Hero) -> None:
        """s: what telemetry tells now; hero: where he is by it."""
        if s.alive > 0.5:
            if hero.stands:
                self._stood, self._floor = hero.x, s.y
                for pit in self.pits:
                    pit.edge = max(pit.edge, hero.x if hero.x < pit.far else pit.edge)
            self._x, self._y, self._vy = hero.x, s.y, hero.vy
            near = s.wall_height > 0.5 and s.wall_ahead < REACH
            self._wall = (hero.x + s.wall_ahead, s.y + s.wall_height) if near else None
            self.pits = [pit for pit in self.pits if not (hero.stands and hero.x > pit.far + 1)]
            self.foes = [foe for foe in self.foes if hero.x < foe[0] + 2]
        elif self._alive:
            self._learn()
        self._alive = s.alive > 0.5

    def _learn(self) -> None:
        if self._vy < FALLING and self._y < self._floor - 0.5:
            far, top = self._wall or (self._x + EACH, self._floor)
            fallen = Pit(self._stood, far, top)
            for pit in self.pits:
                if abs(pit.far - far) < SAME:
                    pit.learn(fallen)
                    return
            self.pits.append(fallen)
        elif not any(abs(x - self._x) < SAME for x, _ in self.foes):
            self.foes.append((self._x, self._y))
        else:  # what touched him comes nearer than thought
            self.foes = [(min(x, self._x) - 0.3 if abs(x - self._x) < SAME else x, y) for x, y in self.foes]

    def ground(self, told: list[Piece], front: float) -> list[Piece]:
        """`told`, and the pits that he fell into."""
        for pit in self.pits:
            if front - 0.5 < pit.far < front + AHEAD:
                rest = [piece for piece in told if not pit.edge < piece.x <= pit.far + 0.6]
                told = [*rest, Piece(pit.edge, PIT), Piece(pit.far, pit.top)]
        return told

    def foe(self, told: Foe, front: float) -> Foe:
        """`told`, or what touched him before, whichever comes first."""
        known = [Foe(x, y) for x, y in self.foes if front - 0.5 < x < front + AHEAD]
        ahead = [foe for foe in (told, *known) if foe.x > front - 1]
        return min(ahead, key=lambda foe: foe.x, default=told)
