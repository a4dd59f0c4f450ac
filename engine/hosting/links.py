"""Latents from the world role to the decoder roles: in memory when one process hosts both, over
torch.distributed point-to-point when they are apart. The sender never waits: it keeps only the newest one
while a send is pending, and a draft that follows it. The receiver drains whatever has come.

One message is one fixed-size uint8 tensor (gloo and NCCL carry it alike): header, telemetry, latent. gloo's
point-to-point work cannot be asked whether it is complete, only waited for, so each end has a thread that
waits.
"""

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from engine.errors import EngineError

MAX_TELEMETRY = 64
MAX_LATENT = 256 * 10 * 15  # floats
_HEADER = struct.Struct("<9q2d5i")  # the last five: draft, and sizes
MESSAGE_BYTES = _HEADER.size + 4 * (MAX_TELEMETRY + MAX_LATENT)
KEPT = 8
"""Newest latents of a session that nobody has drained yet: true ones and drafts."""
_BROKEN_S = 3.0


@dataclass(frozen=True)
class Latent:
    """A true step's result on its way to the decoder.

    index: the picture's frame number; next_index: that of the true one after it (a draft's own, which comes
    again as that); step: true steps executed in this epoch; seq, buttons: as in a Frame;
    slips: times the game clock slipped; clock_index: the game clock's time when this was sent, frames;
    world_ms: what the step took. draft: it was not taken yet, this is what it gives if buttons stay as they
    are since input `seq`; the true one follows. telemetry float32 [F], units; latent float32 [C, 10, 15].
    """

    session: int
    epoch: int
    index: int
    stride: int
    next_index: int
    step: int
    seq: int
    buttons: int
    slips: int
    clock_index: float
    world_ms: float
    draft: bool
    telemetry: np.ndarray
    latent: np.ndarray


_FACTS = tuple(field.name for field in fields(Latent))[:-2]  # what goes into the header, in its order


class LatentSender(Protocol):
    def send(self, latent: Latent) -> None:
        """Never waits; an unsent older one is replaced, but not a true one by a draft."""

    def close(self) -> None: ...


class LatentReceiver(Protocol):
    def drain(self) -> list[Latent]:
        """What has come since the last call, oldest first, at most the newest few."""

    def close(self) -> None: ...


class MemoryLink:
    """Both ends in one process; an epoch's first latent may come from another thread, where a session of
    several begins aside."""

    def __init__(self) -> None:
        self._arrived: deque[Latent] = deque(maxlen=KEPT)

    def send(self, latent: Latent) -> None:
        self._arrived.append(latent)

    def drain(self) -> list[Latent]:
        return emptied(self._arrived)

    def close(self) -> None:
        self._arrived.clear()


def emptied(arrived: deque[Latent]) -> list[Latent]:
    """What is there, oldest first; what another thread adds meanwhile is in it or stays."""
    latents = []
    while arrived:
        latents.append(arrived.popleft())
    return latents


class FanOut:
    """To several decoder ranks, each at its own speed."""

    def __init__(self, senders: Sequence[LatentSender]) -> None:
        self._senders = senders

    def send(self, latent: Latent) -> None:
        for sender in self._senders:
            sender.send(latent)

    def close(self) -> None:
        for sender in self._senders:
            sender.close()


def pack_into(buffer: np.ndarray, latent: Latent) -> None:
    """Write one message into `buffer`, uint8 [MESSAGE_BYTES]."""
    telemetry = np.ascontiguousarray(latent.telemetry, np.float32)
    values = np.ascontiguousarray(latent.latent, np.float32)
    assert telemetry.size <= MAX_TELEMETRY and values.size <= MAX_LATENT and values.ndim == 3
    facts = (getattr(latent, name) for name in _FACTS)
    _HEADER.pack_into(buffer.data, 0, *facts, telemetry.size, *values.shape)
    body = np.concatenate([telemetry, values.ravel()]).view(np.uint8)
    buffer[_HEADER.size : _HEADER.size + body.size] = body


def unpack_from(buffer: np.ndarray) -> Latent:
    """The message in `buffer`; its arrays are copies."""
    header = _HEADER.unpack_from(buffer.data)
    n_telemetry, c, h, w = header[len(_FACTS) : len(_FACTS) + 4]
    floats = buffer[_HEADER.size :].view(np.float32)
    telemetry = floats[:n_telemetry].copy()
    values = floats[n_telemetry : n_telemetry + c * h * w].reshape(c, h, w).copy()
    facts = dict(zip(_FACTS, header))
    return Latent(**facts | {"draft": bool(facts["draft"])}, telemetry=telemetry, latent=values)


def check_link(broken_s: float | None, other: str) -> None:
    """Raises EngineError when the link to the `other` rank broke longer ago than a supervisor needs to end us
    with it."""
    if broken_s is not None and time.monotonic() - broken_s > _BROKEN_S:
        raise EngineError(f"the link to the {other} rank is broken: start the engine again")


def queued(waiting: list[Latent], latent: Latent) -> list[Latent]:
    """What still has to be sent: a true latent replaces everything, a draft replaces another one."""
    return [one for one in waiting if latent.draft and not one.draft] + [latent]


class DistributedSender:
    """World's end: one latent on its way; of each session the newest true one waiting, and the newest draft
    behind it."""

    def __init__(self, to_rank: int) -> None:
        import torch

        self._to_rank = to_rank
        self._buffer = torch.zeros(MESSAGE_BYTES, dtype=torch.uint8)
        self._waiting: dict[int, list[Latent]] = {}  # by session; who has waited longest comes first
        self._broken_s: float | None = None
        self._ready = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, daemon=True, name="latent-sender").start()

    def send(self, latent: Latent) -> None:
        """Raises EngineError when the link has been broken for a while."""
        check_link(self._broken_s, "decoder")
        with self._ready:
            waiting = self._waiting.get(latent.session, [])
            self._waiting[latent.session] = queued(waiting, latent)
            self._ready.notify()

    def close(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify()

    def _run(self) -> None:
        import torch.distributed as dist

        while (latent := self._next()) is not None:
            pack_into(self._buffer.numpy(), latent)
            try:
                work = dist.isend(self._buffer, self._to_rank)
                assert work is not None
                work.wait()
            except RuntimeError:  # the decoder rank is gone
                self._broken_s = time.monotonic()
                return

    def _next(self) -> Latent | None:
        with self._ready:
            self._ready.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            session = next(iter(self._waiting))
            first, *rest = self._waiting.pop(session)
            if rest:
                self._waiting[session] = rest
            return first


class DistributedReceiver:
    """Decoder's end. Two buffers: the next receive is posted before the last message is read. `wake` becomes
    readable when something has come; RankLine empties it."""

    def __init__(self, from_rank: int, sessions: int = 1) -> None:
        """sessions: at once; of each the newest few are kept."""
        import torch

        self._from_rank = from_rank
        self._buffers = [torch.zeros(MESSAGE_BYTES, dtype=torch.uint8) for _ in range(2)]
        self._arrived: deque[Latent] = deque(maxlen=KEPT * sessions)
        self._broken_s: float | None = None
        self.wake, self._waker = socket.socketpair()
        self.wake.setblocking(False)
        self._waker.setblocking(False)
        threading.Thread(target=self._run, daemon=True, name="latent-receiver").start()

    def drain(self) -> list[Latent]:
        """Raises EngineError when the link has been broken for a while."""
        check_link(self._broken_s, "world")
        return emptied(self._arrived)

    def close(self) -> None:
        self.wake.close()

    def _run(self) -> None:
        import torch.distributed as dist

        try:
            pending = dist.irecv(self._buffers[0], self._from_rank)
            while pending is not None:
                pending.wait()
                self._buffers.reverse()
                pending = dist.irecv(self._buffers[0], self._from_rank)
                self._arrived.append(unpack_from(self._buffers[1].numpy()))
                self._notify()
        except RuntimeError:  # the world rank is gone
            self._broken_s = time.monotonic()

    def _notify(self) -> None:
        with contextlib.suppress(OSError):  # full: the reader is awake anyway; closed: it is gone
            self._waker.send(b"!")
