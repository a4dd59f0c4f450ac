"""CUDA graphs for training: what is launched thousands of times is captured once and replayed.

An update of these small models is some five hundred kernels of a few microseconds, a simulated frame some
nine hundred: launched one by one from Python they leave the GPU idle for two thirds of the time. On a CPU
everything here calls through."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

WARM_UP_CALLS = 3
"""Eager calls before a capture: they compile, choose algorithms and make the optimisers' state. They count:
a warm-up update is an update."""


@dataclass(frozen=True)
class Graph:
    """A captured call: write to `given`, replay, read `made`."""

    graph: torch.cuda.CUDAGraph
    given: tuple[Tensor, ...]
    made: Any


class Captured:
    """A function of tensors and plain keywords, captured once for each set of shapes and keywords.

    device: where it computes; None: where its first tensor is. It must not wait for the device nor read
    values back. Whatever else it reads or writes must stay where it is in memory. What it returns (a tensor,
    a tuple of them, or None) is overwritten by the next call."""

    def __init__(self, function: Callable[..., Any], device: str | None = None) -> None:
        self.function, self.device = function, device
        self.calls: dict[Any, int] = {}
        self.graphs: dict[Any, Graph] = {}
        self.stream: torch.cuda.Stream | None = None

    def __call__(self, *given: Tensor, **plain: Any) -> Any:
        if (self.device or given[0].device.type) != "cuda":  # a CPU's work would not be in the graph
            return self.function(*given, **plain)
        key = (tuple((t.shape, t.dtype) for t in given), tuple(sorted(plain.items())))
        self.calls[key] = self.calls.get(key, 0) + 1
        if self.calls[key] <= WARM_UP_CALLS:
            return self._eager(given, plain)
        if key not in self.graphs:
            self.graphs[key] = self._capture(given, plain)
        known = self.graphs[key]
        for mine, theirs in zip(known.given, given):
            mine.copy_(theirs)
        known.graph.replay()
        return known.made

    def _eager(self, given: tuple[Tensor, ...], plain: dict[str, Any]) -> Any:
        """On a stream of our own, as a capture wants it."""
        self.stream = self.stream or torch.cuda.Stream()
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            made = self.function(*given, **plain)
        torch.cuda.current_stream().wait_stream(self.stream)
        return made

    def _capture(self, given: tuple[Tensor, ...], plain: dict[str, Any]) -> Graph:
        mine = tuple(t.clone() for t in given)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            made = self.function(*mine, **plain)
        return Graph(graph, mine, made)


def tensors_of(thing: Any) -> list[Tensor]:
    """All tensors in a dataclass of tensors and dataclasses, in order; of a tensor, itself."""
    if isinstance(thing, Tensor):
        return [thing]
    if is_dataclass(thing):
        return [t for f in fields(thing) for t in tensors_of(getattr(thing, f.name))]
    return []


def rebuilt(thing: Any, tensors: list[Tensor]) -> Any:
    """`thing` with its tensors replaced, in the order of `tensors_of`; takes them from the list."""
    if isinstance(thing, Tensor):
        return tensors.pop(0)
    if is_dataclass(thing) and not isinstance(thing, type):
        return replace(thing, **{f.name: rebuilt(getattr(thing, f.name), tensors) for f in fields(thing)})
    return thing


class Pinned:
    """A world's tensors kept at fixed places, so that a graph of its step finds them.

    `settle` after anything that gave the world new tensors: their values move to the fixed places."""

    def __init__(self, world: Any) -> None:
        self.world = world
        values = vars(world)
        self.names = [name for name, value in values.items() if tensors_of(value)]
        # Tensors may share memory (one zero for many fields): every place is its own.
        self.places = [t.clone() for name in self.names for t in tensors_of(values[name])]
        self.settle()

    def settle(self) -> None:
        now = [t for name in self.names for t in tensors_of(getattr(self.world, name))]
        taken = {place.data_ptr() for place in self.places}
        moved = [(p, v) for p, v in zip(self.places, now) if p is not v]
        moved = [(p, v.clone() if v.data_ptr() in taken else v) for p, v in moved]
        for place, value in moved:
            place.copy_(value)
        left = list(self.places)
        for name in self.names:
            setattr(self.world, name, rebuilt(getattr(self.world, name), left))
