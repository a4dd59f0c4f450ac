"""Latents from one accelerator to another, none left out: double-buffered, asynchronous point-to-point sends.

For engines that run as fast as they can (benchmarks, many worlds at once); play in real time wants the newest
only and has engine/hosting/links.py. On GPUs over NCCL, in the order of the current stream: neither end's
host waits. On the CPU over gloo the same code waits in place."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from engine.fast.orders import Group


def link_group(device: str) -> Group:
    """A group of all ranks for latents alone; every rank has to call this. On GPUs messages over the default
    one were measured 6 % slower (a decoder's ticks); on the CPU it is the default one."""
    return dist.new_group(backend="nccl") if device == "cuda" else None


class _Buffers:
    def __init__(self, like: Tensor) -> None:
        self._buffers = [torch.empty_like(like) for _ in range(2)]
        self._works: list[Any] = [None, None]
        self._turn = 0

    def _finish(self) -> None:
        for work in self._works:
            if work is not None:
                work.wait()


class DeviceSender(_Buffers):
    """like: a tensor of the shape, type and device of what will be sent."""

    def __init__(self, like: Tensor, to_rank: int, group: Group = None) -> None:
        super().__init__(like)
        self._to_rank, self._group = to_rank, group

    def send(self, value: Tensor) -> None:
        """`value` may change at once, on the current stream."""
        turn = self._turn
        if self._works[turn] is not None:
            self._works[turn].wait()
        self._buffers[turn].copy_(value)
        self._works[turn] = dist.isend(self._buffers[turn], group=self._group, group_dst=self._to_rank)
        self._turn ^= 1

    def close(self) -> None:
        """Two more, for the receives that the other end has begun."""
        for _ in range(2):
            self.send(self._buffers[self._turn])
        self._finish()


class DeviceReceiver(_Buffers):
    """The next receive is under way while the last value is used."""

    def __init__(self, like: Tensor, from_rank: int, group: Group = None) -> None:
        super().__init__(like)
        self._from_rank, self._group = from_rank, group
        for turn in range(2):
            self._begin(turn)

    def receive(self, into: Tensor) -> None:
        """The oldest one that was not received yet."""
        self._works[self._turn].wait()
        into.copy_(self._buffers[self._turn])
        self._begin(self._turn)
        self._turn ^= 1

    def close(self) -> None:
        """Takes what the sender's close sends: a receive that is under way may not be forgotten."""
        self._finish()

    def _begin(self, turn: int) -> None:
        self._works[turn] = dist.irecv(self._buffers[turn], group=self._group, group_src=self._from_rank)


class SentWorld:
    """A world's results on the device of whoever decodes them: `step` takes the next ones from the link.
    latent [B, C, h, w], told [B, F] float32."""

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        telemetry: int,
        worlds: int,
        device: str,
        from_rank: int,
        group: Group = None,
    ) -> None:
        self.latent = torch.zeros(worlds, *latent_shape, device=device)
        self.told = torch.zeros(worlds, telemetry, device=device)
        self._both = packed(self.latent, self.told)
        self._link = DeviceReceiver(self._both, from_rank, group)

    def step(self, controls: np.ndarray) -> None:
        self._link.receive(self._both)
        latents, told = self._both.split((self.latent[0].numel(), self.told.shape[1]), 1)
        self.latent.copy_(latents.view_as(self.latent))
        self.told.copy_(told)

    def close(self) -> None:
        """When the sender closes."""
        self._link.close()


def packed(latent: Tensor, told: Tensor) -> Tensor:
    """[B, C * h * w + F]: one message instead of two."""
    return torch.cat((latent.flatten(1), told), 1)
