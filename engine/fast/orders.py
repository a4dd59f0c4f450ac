"""What the leader of a crew tells the others to do: a broadcast of a kind and a number, then what it needs.

Host tensors over gloo on every device, so that what the device does stays capturable. See leading.py for the
two crews there are."""

import queue
import threading
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from engine.errors import EngineError

Group = Any
"""A torch.distributed process group; None is all ranks."""


class Kind(IntEnum):
    END = 0
    OPEN = 1
    """number: which game, by its place in GAMES."""
    FORGET = 2
    PLACE = 3
    STEP = 4
    DECODE = 5
    KEEP = 6
    BACK = 7


class LeaderGone(EngineError):
    """The leading rank has ended, or the link to it broke."""


@dataclass(frozen=True)
class Order:
    """payload float32 [n]."""

    kind: Kind
    number: int = 0
    payload: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def give(self, group: Group) -> None:
        """To every other rank of the group; its rank 0 calls this."""
        header = torch.tensor([self.kind, self.number, self.payload.size])
        dist.broadcast(header, group=group, group_src=0)
        if self.payload.size:
            payload = torch.from_numpy(np.ascontiguousarray(self.payload, np.float32).ravel())
            dist.broadcast(payload, group=group, group_src=0)

    @classmethod
    def receive(cls, group: Group) -> "Order":
        """Waits for the next one."""
        header = torch.empty(3, dtype=torch.int64)
        dist.broadcast(header, group=group, group_src=0)
        kind, number, size = header.tolist()
        payload = torch.empty(size)
        if size:
            dist.broadcast(payload, group=group, group_src=0)
        return cls(Kind(kind), number, payload.numpy())


class OrderInbox:
    """Orders as they come. gloo can only be waited for, so a thread does, and the caller stays free to show
    that it lives."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._arrived: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True, name="orders").start()

    def next(self, timeout_s: float) -> Order | None:
        """The oldest one, or None after so long. Raises LeaderGone."""
        try:
            order = self._arrived.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if order is None:
            raise LeaderGone("the link to the leading rank is broken: start the engine again")
        return order

    def _run(self) -> None:
        try:
            while (order := Order.receive(self._group)).kind != Kind.END:
                self._arrived.put(order)
        except RuntimeError:
            pass
        self._arrived.put(None)
