"""Messages between the gateway and the ranks of one engine, and a rank's end of that line. No torch, no
pickle.

Two local sockets in a 0700 directory: `ranks` (gateway ROUTER, ranks DEALER) for control both ways,
`pictures` (ranks PUSH, gateway PULL, one or two deep a player) for frames, so that a waiting picture never
holds up a message. Every message names the session that it is about.
A picture is two parts: session number with the protocol's Frame, and its pixels, uint8 [H, W, 3].
"""

import contextlib
import math
import os
import socket
from typing import Literal

import msgspec
import numpy as np
import zmq

from engine.protocol import Beginning, Frame, TrueStep

PICTURES_DEEP = 1


class InnerMessage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


# -- gateway -> ranks ---------------------------------------------------------------------------------


class Start(InnerMessage, frozen=True, kw_only=True):
    """Get ready for session number `session`; answered with Opened by each role that takes part."""

    session: int
    game: str
    seed: int
    mode: Literal["dream", "reference"]
    stride: int
    record_hashes: bool


class Begin(InnerMessage, frozen=True, kw_only=True):
    """Every role of the session is ready: game time starts. lag: the first estimate, frames."""

    session: int
    lag: int


class Input(InnerMessage, frozen=True, kw_only=True):
    session: int
    seq: int
    held: int
    pressed: int


class Control(InnerMessage, frozen=True, kw_only=True):
    session: int
    kind: Literal["pause", "resume", "step", "reset", "new_seed"]
    seed: int = 0


class Stop(InnerMessage, frozen=True, kw_only=True):
    """The session is over; keep what is loaded."""

    session: int


class Follow(InnerMessage, frozen=True, kw_only=True):
    """To the simulator beside a dream: the epoch's beginning, what followed since, oldest first."""

    session: int
    game: str
    entries: list[Beginning | TrueStep]


# -- ranks -> gateway ---------------------------------------------------------------------------------


class Joined(InnerMessage, frozen=True, kw_only=True):
    """A rank is up and hosts these roles."""

    roles: list[str]


class Progress(InnerMessage, frozen=True, kw_only=True):
    session: int
    stage: str
    fraction: float


class Opened(InnerMessage, frozen=True, kw_only=True):
    """A role is ready. cost_frames: measured time of one of its steps, in frames; ranks: how many have this
    role, each says so itself. The rest describes it for Welcome; empty or 0 where another role knows."""

    session: int
    role: str
    cost_frames: float
    ranks: int = 1
    stride: int = 0
    device: str = ""
    backend: str = ""
    decoder: str = ""
    weights: str = ""


class Logged(InnerMessage, frozen=True, kw_only=True):
    """What the dream of a session was made from, step by step."""

    session: int
    entry: Beginning | TrueStep


class Picture(InnerMessage, frozen=True, kw_only=True):
    """Header of a picture. `frame.dropped` counts this rank's drops; the gateway adds its own."""

    session: int
    frame: Frame
    rank: int = 0


ToRank = Start | Begin | Input | Control | Stop | Follow | Logged
FromRank = Joined | Progress | Opened | Logged

_encoder = msgspec.msgpack.Encoder()
_to_rank = msgspec.msgpack.Decoder(ToRank)
_from_rank = msgspec.msgpack.Decoder(FromRank)
_picture = msgspec.msgpack.Decoder(Picture)

encode = _encoder.encode
decode_to_rank = _to_rank.decode
decode_from_rank = _from_rank.decode
decode_picture = _picture.decode


class Addresses(msgspec.Struct, frozen=True):
    """Where the gateway and its ranks meet. `base`: ipc://DIR, or tcp://127.0.0.1:PORT where ipc is missing
    (then PORT and PORT + 1)."""

    base: str

    @property
    def ranks(self) -> str:
        return f"{self.base}/ranks" if self.base.startswith("ipc:") else self.base

    @property
    def pictures(self) -> str:
        if self.base.startswith("ipc:"):
            return f"{self.base}/pictures"
        host, _, port = self.base.rpartition(":")
        return f"{host}:{int(port) + 1}"


class RankLine:
    """A rank's end: waits for messages, and for anything else that may wake it."""

    def __init__(self, addresses: Addresses, name: str, players: int = 1) -> None:
        """players: at once, a picture of each may wait."""
        self._context = zmq.Context()
        self._ranks = self._context.socket(zmq.DEALER)
        self._ranks.setsockopt(zmq.IDENTITY, name.encode())
        self._ranks.setsockopt(zmq.LINGER, 0)
        self._ranks.connect(addresses.ranks)
        self._pictures = self._context.socket(zmq.PUSH)
        self._pictures.setsockopt(zmq.SNDHWM, PICTURES_DEEP * players)
        self._pictures.setsockopt(zmq.LINGER, 0)
        self._pictures.connect(addresses.pictures)
        self._wakers: list[socket.socket] = []
        self._poller = zmq.Poller()
        self._poller.register(self._ranks, zmq.POLLIN)

    def wake_on(self, waker: socket.socket) -> None:
        """`wait` also returns when this (non-blocking) can be read, and empties it: whoever nobody reads
        between two sessions must not keep a rank awake."""
        self._wakers.append(waker)
        self._poller.register(waker, zmq.POLLIN)

    def wait(self, timeout_s: float) -> list[ToRank]:
        """Messages that are here, after at most `timeout_s`."""
        if timeout_s > 0:
            self._poller.poll(math.ceil(timeout_s * 1000))
        for waker in self._wakers:
            with contextlib.suppress(BlockingIOError):
                waker.recv(4096)
        messages: list[ToRank] = []
        while self._ranks.poll(0):
            messages.append(decode_to_rank(self._ranks.recv()))
        return messages

    def send(self, message: FromRank) -> None:
        self._ranks.send(encode(message))

    def send_picture(self, picture: Picture, pixels: np.ndarray) -> bool:
        """pixels uint8 [H, W, 3], C-contiguous. False when the line is full: the picture is dropped, nobody
        waits."""
        try:
            self._pictures.send(encode(picture), zmq.SNDMORE | zmq.NOBLOCK)
            self._pictures.send(pixels.data, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        self._context.destroy(linger=0)


def remove_ipc_file(address: str) -> None:
    """An ipc socket's file outlives a killed process; nobody may be listening on it."""
    if address.startswith("ipc://"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address.removeprefix("ipc://"))
