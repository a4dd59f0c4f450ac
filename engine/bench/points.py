"""A benchmark's series of points, each at one size, within a time and a memory."""

import gc
import math
import time
from collections.abc import Callable
from typing import Any

import torch


class Points:
    """Measures until the time is up; where a point does not fit into memory, larger ones of its series do
    not."""

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s
        self.skipped: list[str] = []

    def of(self, name: str, values: tuple[int, ...], work: Callable[[int], dict[str, Any]]) -> list[Any]:
        points: list[Any] = []
        full = math.inf
        for value in values:
            late = time.monotonic() > self._until_s
            why = "out of memory" if value >= full else "out of time" if late else ""
            if not why:
                try:
                    points.append({name: value} | work(value))
                    continue
                except torch.OutOfMemoryError:
                    full, why = value, "out of memory"
                finally:
                    give_back()
            self.skipped.append(f"{name} {value}: {why}")
        return points


def give_back() -> None:
    """Graphs and their pools die in cycles: what the last point held is free for the next."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
