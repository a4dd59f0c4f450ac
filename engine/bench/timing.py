"""Times of several pieces of work, measured in turns in one run, so that a machine's drift meets them all."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call."""

    median_ms: float
    p99_ms: float
    runs: int

    @classmethod
    def of(cls, times_s: list[float]) -> "Timing":
        ordered = sorted(times_s)
        late = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        return cls(statistics.median(ordered) * 1e3, late * 1e3, len(ordered))


Name = TypeVar("Name")


def timed(
    works: Mapping[Name, Callable[[], object]], device: str, runs: int, calls: int = 1, warm_up: int = 2
) -> dict[Name, Timing]:
    """Each run times `calls` calls of each work in turn, and waits for the device after them."""
    for work in works.values():
        for _ in range(warm_up):
            work()
    took: dict[Name, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            wait(device)
            begun_s = time.perf_counter()
            for _ in range(calls):
                work()
            wait(device)
            took[name].append((time.perf_counter() - begun_s) / calls)
    return {name: Timing.of(times_s) for name, times_s in took.items()}


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def hardware(device: str) -> str:
    """The name to put beside a figure."""
    from engine import machine

    return torch.cuda.get_device_name() if device.startswith("cuda") else machine.cpu_name()
