"""World step t + 1 beside decode t: two streams of one GPU and a third for copies to the host.

Each tick's pictures go through a lane of its own (decoder, pinned host buffer); lanes take turns. A lane is
used again only when its pictures were given out, so no tick overwrites what another still reads, and the only
wait is for the oldest lane, behind newer ones that keep the GPU busy. On the CPU the same code runs in
order."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from engine.fast.cuda_graph import GraphDecoder


@dataclass(frozen=True)
class Shown:
    """One tick's result on the host: pictures uint8 [B, H, W, 3], told [B, F] in model's terms. Views of
    pinned memory: good until the next push."""

    tick: int
    pictures: np.ndarray
    told: np.ndarray


class Lane:
    """One tick's buffers from latents to the host, and the event after its last copy."""

    def __init__(self, decoder: GraphDecoder, told: Tensor) -> None:
        self.decoder, cuda = decoder, told.is_cuda
        self.told = torch.empty_like(told)
        self.pictures_host = torch.empty(decoder.pictures.shape, dtype=torch.uint8, pin_memory=cuda)
        self.told_host = torch.empty(told.shape, pin_memory=cuda)
        self.stepped, self.decoded, self.copied = (_event(cuda) for _ in range(3))
        self.tick: int | None = None

    def finish(self) -> Shown | None:
        """Wait for the tick under way here, if any."""
        if self.tick is None:
            return None
        self.copied.synchronize()
        shown = Shown(self.tick, self.pictures_host.numpy(), self.told_host.numpy())
        self.tick = None
        return shown


class Stepping(Protocol):
    """A world as a pipeline sees it: stepped here, or its results sent here (device_link.SentWorld)."""

    latent: Tensor
    told: Tensor

    def step(self, controls: np.ndarray) -> None: ...


class Pipeline:
    """`push` begins a tick, then gives an earlier one: with two decoders the one before."""

    def __init__(self, world: Stepping, decoders: list[GraphDecoder]) -> None:
        assert len(decoders) > 1, "one lane would wait for itself"
        self.world = world
        self.lanes = [Lane(decoder, world.told) for decoder in decoders]
        cuda = world.latent.is_cuda
        self._streams = [torch.cuda.Stream() if cuda else None for _ in range(3)]
        if cuda:
            for stream in self._streams:
                assert stream is not None
                stream.wait_stream(torch.cuda.current_stream())
        self._tick = 0

    def push(self, controls: np.ndarray) -> Shown | None:
        """controls: Controls.packed of the next step. Call `flush` before touching the world otherwise."""
        stepping, decoding, copying = self._streams
        lane = self.lanes[self._tick % len(self.lanes)]
        assert lane.tick is None
        if stepping is not None:  # what the caller placed goes before the step
            stepping.wait_stream(torch.cuda.current_stream())
        with _on(stepping):
            self.world.step(controls)
            lane.decoder.latents.copy_(self.world.latent)
            lane.told.copy_(self.world.told)
            lane.stepped.record()
        with _on(decoding):
            lane.stepped.wait()
            lane.decoder.replay()
            lane.decoded.record()
        with _on(copying):
            lane.decoded.wait()
            lane.pictures_host.copy_(lane.decoder.pictures, non_blocking=True)
            lane.told_host.copy_(lane.told, non_blocking=True)
            lane.copied.record()
        lane.tick = self._tick
        self._tick += 1
        return self.lanes[self._tick % len(self.lanes)].finish()

    def flush(self) -> list[Shown]:
        """Finish everything under way, oldest first."""
        first = self._tick % len(self.lanes)
        ordered = self.lanes[first:] + self.lanes[:first]
        return [shown for lane in ordered if (shown := lane.finish()) is not None]


class _NoEvent:
    """Stands for an event where everything happens in order."""

    def record(self) -> None: ...
    def wait(self) -> None: ...
    def synchronize(self) -> None: ...


def _event(cuda: bool) -> Any:
    return torch.cuda.Event() if cuda else _NoEvent()


def _on(stream: "torch.cuda.Stream | None") -> AbstractContextManager[Any]:
    return nullcontext() if stream is None else torch.cuda.stream(stream)
