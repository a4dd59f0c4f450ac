"""How much of a level is passed, and where its goal is, follows from the way gone.

A world model forgets how long a level is. What it tells of the share that is passed wanders, falls again
where it has drawn the goal, and the goal is drawn again and again, every few tiles, until by chance all is
passed. In a game with a respawn (games.spec.Respawn) both are telemetry, and the opening, which is true,
tells of both: so the level's length is known. A dream begins every level where it began itself, so all of
them are as long."""

from dataclasses import replace

import numpy as np

from engine.fast.snapshot import Snapshot
from games.spec import GameSpec

OFF = 0.02
"""A share told so far off is put right; the model's own trembles less."""
_LEAST = 0.005
"""Of a smaller share no length can be told."""


class Course:
    """One dream's; of a game with a respawn."""

    def __init__(self, spec: GameSpec) -> None:
        respawn = spec.respawn
        assert respawn is not None
        names = (respawn.place, respawn.level, respawn.progress)
        self._place, self._level, self._progress = map(spec.field_index, names)
        self._goal = respawn.goal
        self._length: float | None = None

    def open(self, totals: np.ndarray) -> None:
        """totals [F] of the opening's last step. In the first level alone the place is that in the level."""
        known = totals[self._level] < 0.5 and totals[self._progress] > _LEAST
        self._length = float(totals[self._place] / totals[self._progress]) if known else None

    def origin(self, totals: np.ndarray) -> float | None:
        """The place at which the level begins that is told of, in the unit of the place; None: not known."""
        if self._length is None:
            return None
        return float(totals[self._place] - totals[self._progress] * self._length)

    def at_goal(self, totals: np.ndarray, origin: float | None) -> bool:
        """So near the goal of a level from `origin` on that it may be in the picture: a share may be told OFF
        by so much. False where the level's length is not known."""
        if self._length is None or origin is None:
            return False
        return float(totals[self._place]) - origin >= self._length * (1 - OFF) - self._goal

    def put_right(self, made: Snapshot, origin: float | None) -> Snapshot:
        """made, itself where it tells of the share that its place in a level from `origin` on is."""
        if self._length is None or origin is None:
            return made
        share = min(max((float(made.totals[self._place]) - origin) / self._length, 0.0), 1.0)
        if abs(share - made.totals[self._progress]) <= OFF:
            return made
        told, totals = made.told.copy(), made.totals.copy()
        totals[self._progress] = share
        told[self._progress] = 2 * share - 1
        return replace(made, told=told, totals=totals)
