"""The platformer's scripted player: imagines what comes of some plans, and follows the first that goes well.

Way of a look: telemetry -> the hero as he is by now (foresight) and what lies ahead (way) -> plans imagined
in scenes -> the masks of the chosen one, a frame at a time until the next look.
"""

import math
from collections import deque
from dataclasses import dataclass, replace

from client.foresight import Hero, Scene
from client.senses import FPS, Senses
from client.way import Way
from games.spec import GameSpec


@dataclass(frozen=True)
class _Plan:
    """Run right for `run` frames, then slow down to `speed`; hold JUMP for `hold` frames from `press` on."""

    run: int
    press: int = 0
    hold: int = 0
    speed: float = 0.0  # tiles a frame; below 0: go back


PERIOD = 6  # frames until the next look, with some to spare
FAR = 70  # frames that are looked ahead at most
SPARES = (0.3, 0.15, 0.0)  # tiles, as much as can be had
HOLDS = (2, 6, 10, 14, 18, 22, 25)
BOLD = (_Plan(PERIOD), _Plan(FAR), *(_Plan(FAR, press, hold) for hold in HOLDS for press in (PERIOD, 0)))
CAREFUL = (
    *(_Plan(run, 0, hold) for run in (12, 6, 3, 0) for hold in (0, 2, 12, 25)),
    *(_Plan(0, 0, hold, -0.06) for hold in (0, 25)),
)


@dataclass(frozen=True)
class _Outcome:
    """What comes of a plan: the buttons of each frame, and the way made: a frame, or in all until he dies."""

    masks: list[int]
    lives: bool
    way: float
    smooth: bool  # no wall held him up


class Runner:
    """Runs right, and looks ahead: imagines what comes of some plans, from running on to turning back in the
    air, and follows the first that goes well even if the ground or the enemy is not as thought."""

    STUCK_S, BACK_S, RUN_UP_S = 1.5, 0.6, 0.3
    LEAST_TILES = 1.5  # in that time: a dream creeps on where the picture stands against a step
    PUSHED_S, PUSHED_TILES = 0.9, 0.3  # who runs for so long and gains no more runs against something

    def __init__(self, spec: GameSpec) -> None:
        self.spec = spec
        self._senses = Senses(spec)
        self._left, self._right = int(spec.buttons["LEFT"]), int(spec.buttons["RIGHT"])
        self._jump = int(spec.buttons["JUMP"])
        self._hero, self._way = Hero(), Way()
        self._told: list[float] = []
        self._unseen = 0  # frames since telemetry last told something new
        self._masks = [self._right]  # of the plan, from this frame on
        self._sent: deque[int] = deque(maxlen=60)
        self._best_x = -math.inf
        self._stuck_s = 0.0
        self._pushed_x, self._pushed_s = 0.0, 0.0  # where he began to run and not to get on, and for how long
        self._tries = 0  # of ways out, since way was last gained
        self._way_out: list[int] = []  # masks that take the place of the plan's
        back, run_up = [self._left] * round(self.BACK_S * FPS), [self._right] * round(self.RUN_UP_S * FPS)
        hop = [self._right | self._jump] * HOLDS[-1]
        self._ways_out = (run_up[:2] + hop, back + run_up + hop)

    def decide(self, telemetry: list[float], passed: int, latency_frames: float) -> int:
        for _ in range(passed):
            self._sent.append(self._masks[0])
            self._masks = self._masks[1:] or self._masks
        self._way_out = self._way_out[passed:]
        self._unseen += passed
        if telemetry != self._told:
            self._told = list(telemetry)
            self._senses.look(self._told)
            late = min(round(latency_frames), len(self._sent))
            acted = len(self._sent) - late
            self._look(list(self._sent)[max(acted - self._unseen, 0) : acted])
            self._masks = self._choose(list(self._sent)[acted:])
        self._notice_being_stuck(passed / FPS)
        self._masks = self._way_out or self._masks
        return self._masks[0]

    def _look(self, acted: list[int]) -> None:
        """acted: masks that have acted since the last look."""
        if self._senses.alive < 0.5:
            self._hero, acted = Hero(), []
        for mask in acted:
            self._press(self._hero, mask)
        passed = max(self._unseen, 1)
        self._hero.correct(self._senses, passed)
        self._way.look(self._senses, self._hero, passed)
        self._hero.carried = self._way.ride()[0]
        self._unseen = 0

    def _press(self, hero: Hero, mask: int) -> None:
        hero.run(bool(mask & self._right) - bool(mask & self._left))
        hero.leap(bool(mask & self._jump))

    def _notice_being_stuck(self, seconds: float) -> None:
        """Hardly any way gained for a while, or none while he runs: what holds him up may be nearer than is
        told. Jump where he stands; the next time back up a little first, and take a running jump."""
        s, dead = self._senses, self._senses.alive < 0.5
        if dead:
            self._way_out = []
        if dead or s.x > self._best_x + self.LEAST_TILES:
            self._best_x, self._stuck_s, self._tries = s.x, 0.0, 0
        elif s.x < self._best_x - 6:  # sent back to a checkpoint
            self._best_x = s.x
        self._stuck_s += seconds
        held_up = self._runs_against_something(seconds) and not self._way_out
        if held_up or self._stuck_s > self.STUCK_S * (3 if self._way.waits() else 1):
            self._stuck_s, self._pushed_s, self._way_out = 0.0, 0.0, self._ways_out[self._tries % 2]
            self._tries += 1

    def _runs_against_something(self, seconds: float) -> bool:
        """Whether he has run right on the ground for PUSHED_S and stayed where he was."""
        s = self._senses
        runs = min(s.alive, s.grounded) > 0.5 and bool(self._masks[0] & self._right)
        if not runs or abs(s.x - self._pushed_x) > self.PUSHED_TILES:
            self._pushed_x, self._pushed_s = s.x, 0.0
        self._pushed_s += seconds
        return self._pushed_s > self.PUSHED_S

    def _choose(self, pending: list[int]) -> list[int]:
        """Masks of the first bold plan that goes well; else of that which survives the most doubts, with the
        most to spare, and gets on best. pending: masks that have not acted yet."""
        best, rank = [self._right], (-1, 0.0, 0.0)
        doubts = self._way.doubts()
        for spare in SPARES:
            scenes = [self._way.scene(spare, doubt) for doubt in doubts]
            for plan in (*BOLD, *CAREFUL):
                outcomes: list[_Outcome] = []
                for scene in scenes:
                    outcomes.append(self._imagine(plan, pending, scene))
                    if not outcomes[-1].lives:
                        break
                survived = len(outcomes) - (not outcomes[-1].lives)
                first = outcomes[0]
                if survived == len(doubts) and first.smooth and plan in BOLD:
                    return first.masks
                if (survived, spare, first.way) > rank:
                    best, rank = first.masks, (survived, spare, first.way)
            if rank[0] == len(doubts):
                break
        return best

    def _imagine(self, plan: _Plan, pending: list[int], scene: Scene) -> _Outcome:
        """Until he has stood for a while after all of the plan."""
        hero, late = replace(self._hero), len(pending)
        start, masks, smooth, stood = hero.x, [], True, 0
        for frame in range(FAR):
            mask = pending[frame] if frame < late else self._mask(plan, hero, frame - late)
            masks.append(mask)
            self._press(hero, mask)
            smooth = scene.move(hero, frame) and smooth
            if scene.kills(hero, frame):
                return _Outcome(masks[late:] or [self._right], False, hero.x - start, smooth)
            stood = stood + 1 if hero.stands and frame >= late + plan.press + min(plan.hold, 1) else 0
            if stood > PERIOD and (plan.run == FAR or plan.speed < 0 or abs(hero.vx) < 0.01):
                break
        return _Outcome(masks[late:], True, (hero.x - start) / len(masks), smooth)

    def _mask(self, plan: _Plan, hero: Hero, frame: int) -> int:
        jump = self._jump if plan.press <= frame < plan.press + plan.hold else 0
        if frame < plan.run:
            return jump | self._right
        if hero.vx > plan.speed + 0.015 and (plan.speed < 0 or not hero.stands):
            return jump | self._left
        return jump | (0 if hero.right else self._right)  # what lies ahead is told for the way he faces
