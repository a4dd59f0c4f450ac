"""The place that a death leads back to, remembered for as long as it takes.

The ring of keys and values holds about a second: of a checkpoint passed ten seconds ago nothing is left in
it, and the model would invent a place to come back to. In a game with a respawn (games.spec.Respawn) the
dream's own telemetry says when a checkpoint is reached and when a lost life leads back there. The step of the
first is kept, and filed in place of the step of the second. The opening's last step is kept for good: who has
lost all lives begins there again, with as many as then.

A model that has forgotten how long a level is may never draw its end: the hero runs on where no training ever
was, and fades; and what it makes of a finish is a second of mush, told again and again, or none: he cheers at
the flag until, by chance, he runs on to the next. How much of a level is passed follows from the way gone
(see Course). Who stands at its goal as long as a finish takes, or has passed all of it for as long, has
finished it, or who is told so near its end, and the next one begins where the opening did. Coins and levels
that it tells away from one who lives are not lost. And who is told to live on below all ground, or to be dead
for good, has fallen.

In the way of a frame: between what the world model made and what is filed of it, see Dream.file."""

from dataclasses import dataclass, replace

import numpy as np

from engine.fast.course import Course
from engine.fast.snapshot import Snapshot
from engine.without import without
from games.spec import GameSpec

_RENEWALS = 8
"""Steps at which the hero stands, after a cut to a new place, each kept in place of the one before: the first
pictures there are the poorest."""
_SUNK, _LONG = 12, 60
"""So many frames told alive where nobody can stand, or told dead, and a life is lost that leads back: in the
simulator a fall takes some 8 until it is a death, and a death 44."""
_ALL, _NEAR = 0.98, 0.8
"""With so much of the level passed it is over after a while; with less than the last it never is."""
_DRIFT = 0.025
"""Who moves no farther than so in a frame, in the unit of the place, stays: a hero who cheers drifts a
little."""


@dataclass(frozen=True)
class _Memory:
    home: Snapshot
    """The opening's last step."""
    filed: Snapshot
    """The newest step."""
    kept: Snapshot | None
    """Where a death leads back to; None: not known."""
    renewals: int
    """So many more steps at which the hero stands will be kept."""
    begin: float | None
    """The count at the level's beginning; None: the hero did not stand there yet."""
    reached: int
    """Checkpoints since then."""
    lives: float
    """When the hero was last alive."""
    origin: float | None
    """The count at which the level's progress is 0, see Course; None: not known."""
    over: int = 0
    sunk: int = 0
    dead: int = 0
    """Frames up to now: on the ground where the level is over; alive where nobody can stand; dead."""


class Checkpoints:
    """One dream's. Where the game has no respawn, or with DREAMCADE_WITHOUT=checkpoints, every step is filed
    as it was made."""

    def __init__(self, spec: GameSpec) -> None:
        respawn = self._respawn = None if "checkpoints" in without() else spec.respawn
        if respawn is None:
            return
        names = (respawn.alive, respawn.stands, respawn.lives, respawn.level, respawn.place)
        self._alive, self._stands, self._lives, self._level, self._place = map(spec.field_index, names)
        self._progress, self._height = map(spec.field_index, (respawn.progress, respawn.height))
        self._lowest, self._finish = respawn.lowest, respawn.finish_frames
        self._event = np.array([field.kind == "event" for field in spec.telemetry])
        self._gained = self._event & (np.arange(len(spec.telemetry)) != self._lives)
        self._change = np.array([field.kind in ("event", "count") for field in spec.telemetry])
        self._every = respawn.every
        self._course = Course(spec)

    def open(self, last: Snapshot) -> None:
        """Forget everything. last: the opening's last step, a checkpoint if the hero stands there; if not,
        the first step at which he does is one."""
        if self._respawn is not None:
            lives = float(last.totals[self._lives])
            self._course.open(last.totals)
            origin = self._course.origin(last.totals)
            self._memory = self._kept(_Memory(last, last, None, 1, None, 0, lives, origin))

    def file(self, made: Snapshot, frames: int) -> Snapshot:
        """What is filed of the step of so many frames that was made: itself, or the place that it leads back
        to."""
        if self._respawn is None:
            return made
        self._memory = self._after(made, frames)
        return self._memory.filed

    def draft(self, made: Snapshot, frames: int) -> Snapshot:
        """What `file` would give; remembers nothing."""
        return made if self._respawn is None else self._after(made, frames).filed

    def _after(self, made: Snapshot, frames: int) -> _Memory:
        if not self._rose(self._lives, made.totals):  # a game over leads to another place
            made = self._course.put_right(made, self._memory.origin)
        made = self._credible(made)
        memory, now = self._counted(made.totals, frames), made.totals
        if memory.over >= self._finish or self._rose(self._level, now):
            made = self._next_level(memory.home, now)
            memory = self._elsewhere(memory, 1, made)
        elif self._rose(self._lives, now):  # a game over's new ones
            memory = self._elsewhere(memory, _RENEWALS, made)
        elif (left := self._left(memory, now)) is not None:
            made, memory = self._led_back(memory, made, left)
        elif (reached := self._checkpoints_until(now)) > memory.reached:
            memory = replace(memory, renewals=max(memory.renewals, 1), reached=reached)
        alive = made.totals[self._alive] > 0.5
        lives = float(made.totals[self._lives]) if alive else memory.lives
        return self._kept(replace(memory, filed=made, lives=lives))

    def _left(self, memory: _Memory, now: np.ndarray) -> float | None:
        """Lives of one whom a lost one leads back now; None: nobody."""
        if self._comes_back(now):
            return float(now[self._lives])
        fallen = memory.sunk > _SUNK or memory.dead > _LONG
        return min(float(now[self._lives]), memory.lives - 1) if fallen else None

    def _led_back(self, memory: _Memory, made: Snapshot, left: float) -> tuple[Snapshot, _Memory]:
        """To the last checkpoint; without lives to the opening, with all of them. Where none is known whoever
        lives where one can stand stays there, others are led to the opening too."""
        now, kept = made.totals, memory.kept
        if left > 0.5 and kept is not None:
            # What was to be kept was where the hero died.
            return self._there(kept, now, left), replace(memory, renewals=0, sunk=0, dead=0)
        if left > 0.5 and now[self._alive] > 0.5 and now[self._height] >= self._lowest:
            return made, memory
        lives = left if left > 0.5 else memory.home.totals[self._lives]
        back = self._there(memory.home, now, lives)
        return back, self._elsewhere(memory, 1, back)

    def _credible(self, made: Snapshot) -> Snapshot:
        """Coins and levels are lost with the last life alone, where new ones are given, and no level is
        finished far from its end: a model that tells of it once may go on to, as it is told what it told."""
        before, now = self._memory.filed.totals, made.totals
        wrong = self._gained & (now < before - 0.5) & (not self._rose(self._lives, now))
        wrong[self._level] |= self._rose(self._level, now) and before[self._progress] < _NEAR
        if not wrong.any():
            return made
        return Snapshot(made.latent, np.where(wrong, np.float32(0), made.told), np.where(wrong, before, now))

    def _counted(self, now: np.ndarray, frames: int) -> _Memory:
        """The memory with this step in its counts."""
        memory, alive = self._memory, now[self._alive] > 0.5
        over = memory.over + frames * int(alive and now[self._stands] > 0.5)
        return replace(
            memory,
            over=over if self._finishes(now, frames) else 0,
            sunk=memory.sunk + frames if alive and now[self._height] < self._lowest else 0,
            dead=0 if alive else memory.dead + frames,
        )

    def _finishes(self, now: np.ndarray, frames: int) -> bool:
        """Whether a level ends, after a while, where he is now: all of it is passed, or he stays at its
        goal."""
        moved = abs(float(now[self._place] - self._memory.filed.totals[self._place]))
        stays = moved <= _DRIFT * frames and self._course.at_goal(now, self._memory.origin)
        return stays or bool(now[self._progress] > _ALL)

    def _rose(self, field: int, now: np.ndarray) -> bool:
        return bool(now[field] > self._memory.filed.totals[field] + 0.5)

    def _comes_back(self, now: np.ndarray) -> bool:
        """From a death that cost a life. A flag that flickers costs none."""
        dead = self._memory.filed.totals[self._alive] < 0.5
        return bool(dead and now[self._alive] > 0.5 and now[self._lives] < self._memory.lives - 0.5)

    def _checkpoints_until(self, now: np.ndarray) -> int:
        """Passed since the level's beginning. In the air too: the next step on the ground is kept then."""
        begin = self._memory.begin
        lived = min(self._memory.filed.totals[self._alive], now[self._alive]) > 0.5
        return int((now[self._place] - begin) // self._every) if lived and begin is not None else 0

    def _kept(self, memory: _Memory) -> _Memory:
        """Its newest step is kept if one is wanted and the hero stands there: who came back in the air, over
        a pit maybe, would fall again and again."""
        filed = memory.filed
        if memory.renewals == 0 or min(filed.totals[self._alive], filed.totals[self._stands]) < 0.5:
            return memory
        own = Snapshot(filed.latent.copy(), filed.told.copy(), filed.totals)  # no view of all worlds' latents
        begin = float(filed.totals[self._place]) if memory.begin is None else memory.begin
        return replace(memory, kept=own, renewals=memory.renewals - 1, begin=begin)

    def _next_level(self, home: Snapshot, now: np.ndarray) -> Snapshot:
        """One more level finished, the way and all totals as they are."""
        there = self._there(home, now, now[self._lives])
        totals = np.where(self._change, now, there.totals)
        totals[self._level] = self._memory.filed.totals[self._level] + 1
        return Snapshot(there.latent, there.told, totals)

    def _there(self, kept: Snapshot, now: np.ndarray, lives: float) -> Snapshot:
        """`kept` as a step that stands still, with the coins and levels of now and so many lives."""
        told = np.where(self._change, np.float32(0), kept.told)
        totals = np.where(self._event, now, kept.totals)
        totals[self._lives] = lives
        return Snapshot(kept.latent, told, totals)

    def _elsewhere(self, memory: _Memory, renewals: int, there: Snapshot) -> _Memory:
        """At a new place, of which nothing is known yet but what is told there."""
        return replace(
            memory,
            kept=None,
            renewals=renewals,
            begin=None,
            reached=0,
            over=0,
            sunk=0,
            dead=0,
            origin=self._course.origin(there.totals),
        )
