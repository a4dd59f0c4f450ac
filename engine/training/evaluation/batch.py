"""Long plays of many seeds in one process, where a GPU steps, paints and judges them at once.

    Tasks: up to SEEDS_AT_ONCE seeds -> many_plays: start_all, dream_all, reference_all -> judge -> Played
On a CPU it does the same, no quicker than one seed after the other (jobs.py)."""

import sys
import time
from collections.abc import Sequence

from engine.backend import Backend
from engine.training.evaluation.canvas import canvas_of
from engine.training.evaluation.jobs import Played, Task
from engine.training.evaluation.judge import judge
from engine.training.evaluation.long_play import Trace
from engine.training.evaluation.many_plays import dream_all, reference_all, start_all
from engine.training.reader import Reader

SEEDS_AT_ONCE = 32
"""Ten minutes of so many at stride 1 are 19 GB of small pictures on the host."""


class BatchPlayer:
    """Models for `seeds` plays at once, SEEDS_AT_ONCE at most; plays group after group."""

    def __init__(self, game: str, backend: Backend, reader: Reader | None, seeds: int) -> None:
        self.game, self.device = game, backend.device
        self._seeds = min(seeds, SEEDS_AT_ONCE)
        self._worlds, self._canvas = backend.worlds(self._seeds), canvas_of(backend, self._seeds)
        self._reader = reader.to(self.device) if reader else None

    def play(self, tasks: Sequence[Task]) -> list[Played]:
        """Tasks that differ in seed and kept pictures only; results in their order."""
        assert len({(task.stride, task.steps, task.reference_steps) for task in tasks}) == 1
        groups = (tasks[at : at + self._seeds] for at in range(0, len(tasks), self._seeds))
        return [played for group in groups for played in self._play_group(group)]

    def _play_group(self, tasks: Sequence[Task]) -> list[Played]:
        began, one = time.monotonic(), tasks[0]
        who = f"{len(tasks)} seeds from {one.seed}"
        starts = start_all(self.game, [task.seed for task in tasks], one.stride, self._canvas, self.device)
        dreamed = [Trace(self.game, one.stride, task.keep) for task in tasks]
        dream_all(self.game, starts, dreamed, one.steps, self._worlds, self._canvas, who)
        real = [Trace(self.game, one.stride, task.keep_real) for task in tasks]
        if one.reference_steps:
            reference_all(starts, real, one.reference_steps, who)
        played_s = time.monotonic() - began
        played = [self._judged(*each) for each in zip(tasks, dreamed, real)]
        took_s = time.monotonic() - began
        how = f"long play, {took_s:.0f} s, {took_s - played_s:.0f} s of it judging"
        print(f"{who}: {how}", file=sys.stderr, flush=True)
        return played

    def _judged(self, task: Task, dreamed: Trace, real: Trace) -> Played:
        verdict = judge(dreamed, self._reader, self.device)
        true = judge(real, self._reader, self.device) if task.reference_steps else None
        return Played(task.seed, verdict, true, dreamed.pictures, real.pictures)
