"""The gateway's end of the lines to its ranks, and to the simulator beside a dream, which is no rank.

In the way of one frame: orders go out to every rank, what ranks report and the pictures they made come in.
"""

from collections.abc import Iterator
from typing import Any

import zmq

from engine import inner
from engine.inner import Addresses, FromRank, Joined, Picture, remove_ipc_file

BESIDE = b"beside"
_MESSAGES_AT_ONCE = 64  # before clients are looked at


class Ranks:
    """Binds both sockets. `n_ranks`: how many will join; players: at once, a picture of each may wait."""

    def __init__(self, context: zmq.Context[Any], addresses: Addresses, n_ranks: int, players: int) -> None:
        self._addresses, self._n_ranks = addresses, n_ranks
        self.control: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self.control.bind(addresses.ranks)
        self.pictures: zmq.Socket[bytes] = context.socket(zmq.PULL)
        self.pictures.setsockopt(zmq.RCVHWM, inner.PICTURES_DEEP * players)
        self.pictures.bind(addresses.pictures)
        self._joined: list[bytes] = []

    @property
    def all_joined(self) -> bool:
        return len(self._joined) >= self._n_ranks

    def tell(self, message: inner.ToRank) -> None:
        part = inner.encode(message)
        for identity in self._joined:
            self.control.send_multipart([identity, part], zmq.NOBLOCK)

    def tell_beside(self, message: inner.ToRank) -> None:
        """Lost when it is not there."""
        self.control.send_multipart([BESIDE, inner.encode(message)], zmq.NOBLOCK)

    def received(self) -> Iterator[tuple[bool, FromRank]]:
        """(whether it is from the simulator beside, message) that are here, as many as may be taken at
        once."""
        for _ in range(_MESSAGES_AT_ONCE):
            try:
                identity, part = self.control.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = inner.decode_from_rank(part)
            if isinstance(message, Joined) and identity != BESIDE:
                self._joined.append(identity)
            yield identity == BESIDE, message

    def received_pictures(self) -> Iterator[tuple[Picture, memoryview]]:
        """(header, pixels) that are here, as many as may be taken at once."""
        for _ in range(_MESSAGES_AT_ONCE):
            try:
                header, pixels = self.pictures.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            yield inner.decode_picture(header.buffer), pixels.buffer

    def remove_files(self) -> None:
        for address in (self._addresses.ranks, self._addresses.pictures):
            remove_ipc_file(address)
