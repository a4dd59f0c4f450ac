"""Kernels with many tiles: built by many processes at once, checked, then timed one by one in a graph."""

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.bench.timing import timed, wait

Launch = Callable[[], Tensor]
"""Runs the kernel once; gives what it wrote."""
_LAUNCHES, _REPLAYS = 8, 5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""On a CPU, in Triton's interpreter, everything runs, and the times mean nothing."""


@dataclass(frozen=True)
class Case:
    """One kernel of one shape with one tile. build(*args) allocates its inputs, the same for all tiles of a
    shape, and gives a Launch; it is a module's function, so that other processes can be told of it."""

    shape: str
    tile: str
    build: Callable[..., Launch]
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Tried:
    """off: relative distance from the first case of the same shape. why: it could not be had."""

    case: Case
    ms: float = 0.0
    off: float = 0.0
    why: str = ""


def prepare(case: Case) -> str:
    """Build and run it once, for the cache on disk. Returns what went wrong."""
    try:
        case.build(*case.args)()
        wait(DEVICE)
    except Exception as error:  # compilers and drivers fail in words of their own
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:80]}"
    return ""


def tried(cases: Sequence[Case], processes: int = 0) -> list[Tried]:
    """All of them, those that work timed in turns. A kernel that fails takes only its own process along."""
    context = multiprocessing.get_context("spawn")
    count = processes or min(12, os.cpu_count() or 1, len(cases))
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        wrong = list(pool.map(prepare, cases))
    out: list[Tried] = []
    expected: dict[str, Tensor] = {}
    for case, why in zip(cases, wrong):
        if why:
            out.append(Tried(case, why=why))
            continue
        launch = case.build(*case.args)
        made = launch().float()
        first = expected.setdefault(case.shape, made.clone())
        off = float((made - first).norm() / first.norm()) if made.shape == first.shape else 0.0
        out.append(Tried(case, graph_ms(launch), off))
    return out


def graph_ms(launch: Launch) -> float:
    """Median milliseconds of one launch among several in a graph."""
    if DEVICE == "cpu":
        return timed({"": launch}, DEVICE, 1, warm_up=0)[""].median_ms
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.graph(graph, stream=side):
        for _ in range(_LAUNCHES):
            launch()
    times = []
    for _ in range(_REPLAYS + 1):
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        graph.replay()
        ended.record()
        ended.synchronize()
        times.append(begun.elapsed_time(ended) / _LAUNCHES)
    return sorted(times[1:])[_REPLAYS // 2]


def table(results: Sequence[Tried], gflop: dict[str, float], best: int = 3) -> str:
    """A line a shape: the references (their names in brackets), then the best tiles: ms (TFLOP/s)."""
    lines = []
    for shape, work in gflop.items():
        own = [one for one in results if one.case.shape == shape]
        good = sorted((one for one in own if not one.why), key=lambda one: one.ms)
        named = [one for one in good if one.case.tile.startswith("(")]
        tiles = [one for one in good if one not in named]
        said = [f"{one.case.tile} {one.ms:.4f} ({work / one.ms:.0f})" for one in named + tiles[:best]]
        worst = max((one.off for one in tiles), default=0.0)
        lines.append(f"{shape}: {'; '.join(said)}; off <= {worst:.0e}, {len(own) - len(good)} failed")
    whys = sorted({one.why for one in results if one.why})
    return "\n".join([*lines, *(f"failed: {why}" for why in whys[:4])])


def to_json(results: Sequence[Tried]) -> str:
    return json.dumps(
        [
            {"shape": one.case.shape, "tile": one.case.tile, "ms": one.ms, "off": one.off, "why": one.why}
            for one in results
        ],
        indent=1,
    )
