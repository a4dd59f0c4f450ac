"""Long plays of many seeds, one after the other by this process or by several at once.

    Task: a seed, and how long -> long_play.begin, dream, reference -> judge -> Played
A trace of ten minutes is half a gigabyte: it stays in the process that played it. What goes back is Played,
verdicts and the few pictures that somebody asked for. On a GPU one process plays all at once: batch.py."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from engine.backend import Backend, load_backend
from engine.errors import EngineError
from engine.training.evaluation.judge import Verdict, judge
from engine.training.evaluation.long_play import begin, dream, reference
from engine.training.reader import Reader, load_reader


@dataclass(frozen=True)
class Models:
    """What plays and what judges, as any process can load it. threads: on a CPU, of all processes together,
    at least one each; weights: a directory instead of the shipped weights; decoder: see
    engine.backend.load_backend."""

    game: str
    device: str = "cpu"
    threads: int = 2
    weights: Path | None = None
    decoder: str | None = None

    def backend(self) -> Backend:
        """Raises WeightsError."""
        return load_backend(
            self.game,
            device=self.device,
            roles=("world", "decoder", "encoder"),
            threads=self.threads,
            weights=str(self.weights) if self.weights else None,
            decoder=self.decoder,
        )

    def reader(self) -> Reader | None:
        """None where none was trained. Raises WeightsError."""
        return load_reader(self.game, self.weights)


@dataclass(frozen=True)
class Task:
    """One seed's play: steps of the dream and of the simulator beside it, 0: no simulator. keep, keep_real:
    the steps whose pictures shall come back, of either."""

    seed: int
    stride: int
    steps: int
    reference_steps: int
    keep: frozenset[int] = frozenset()
    keep_real: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Played:
    """What is left of a seed's play. real: None where no simulator played; pictures, pictures_real uint8
    [240, 360, 3] by step."""

    seed: int
    dreamed: Verdict
    real: Verdict | None
    pictures: dict[int, np.ndarray]
    pictures_real: dict[int, np.ndarray]


class LongPlayer:
    """One process's models, loaded once; plays seed after seed."""

    def __init__(self, game: str, backend: Backend, reader: Reader | None) -> None:
        self.game, self.reader = game, reader
        self.world, self.decoder, self.encoder = backend.world(), backend.decoder(), backend.encoder()

    def play(self, task: Task) -> Played:
        """The dream and the simulator from the same start, judged by the same code."""
        began, who = time.monotonic(), f"seed {task.seed}"
        start = begin(self.game, task.seed, task.stride, self.encoder)
        models = self.world, self.encoder, self.decoder
        dreamed = dream(self.game, start, task.stride, task.steps, *models, task.keep, who)
        verdict, real, true = judge(dreamed, self.reader), None, None
        if task.reference_steps:
            true = reference(self.game, start, task.stride, task.reference_steps, task.keep_real, who)
            real = judge(true, self.reader)
        print(f"{who}: long play, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        return Played(task.seed, verdict, real, dreamed.pictures, true.pictures if true else {})


def play_by_processes(models: Models, tasks: Sequence[Task], jobs: int) -> list[Played]:
    """Every task by the next of `jobs` processes that is free; results in the tasks' order. What one of them
    raises is raised here, and ends the others; EngineError where one is killed."""
    jobs = min(jobs, len(tasks))
    share = replace(models, threads=max(1, models.threads // jobs))
    context = multiprocessing.get_context("spawn")  # CUDA survives no fork
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(jobs, context, _begin_process, (os.getpid(),)) as pool:
        try:
            return list(pool.map(partial(_play_here, share), tasks))
        except BaseException as error:
            # The pool's own end would wait for minutes of play.
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            if isinstance(error, BrokenProcessPool):
                raise EngineError(
                    f"one of {jobs} processes was killed, perhaps for want of memory: try fewer --jobs"
                ) from error
            raise


def _begin_process(parent: int) -> None:
    """Ctrl-C reaches every process of a terminal: the parent answers it, for all."""
    from engine.supervision.lifeline import die_with_parent  # needs msgspec, which bare GPU machines lack

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent, getattr(signal, "SIGKILL", signal.SIGTERM))
    torch.set_num_threads(1)


# Models load with the first task and not in _begin_process: what fails there has no message in the parent.
@cache
def _player(models: Models) -> LongPlayer:
    return LongPlayer(models.game, models.backend(), models.reader())


def _play_here(models: Models, task: Task) -> Played:
    return _player(models).play(task)
