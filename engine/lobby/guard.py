"""Who may come in: the ZAP handler behind a CURVE socket. It knows the paired players' keys, nothing else.

libzmq asks it during each handshake, before a byte of anybody's is believed; an unknown key gets no answer
but the refusal of the handshake. The list is read again when it changes, so a revoked key is out at once.
"""

import os
from typing import Any

import zmq
from zmq.utils import z85

from engine import keys
from engine.errors import EngineError

DOMAIN = b"dreamcade"
_ADDRESS = "inproc://zeromq.zap.01"  # the one place where libzmq looks for it


class Guard:
    """Raises EngineError when the keys cannot be read. The gateway polls `socket` and calls `answer`."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self._stamp: tuple[int, int] | None = None
        self._allowed: frozenset[str] = frozenset()
        try:
            self._own = keys.own_keys()
            self._allowed = frozenset(keys.players().values())
        except keys.KeysError as error:
            raise EngineError(str(error)) from None
        self._stamp = _stamp()
        self.socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(_ADDRESS)

    def protect(self, socket: zmq.Socket[bytes]) -> None:
        """Only paired players may talk to this socket; call before it binds."""
        socket.curve_server = True
        socket.curve_secretkey = self._own.secret.encode()
        socket.curve_publickey = self._own.public.encode()
        socket.zap_domain = DOMAIN

    def answer(self) -> None:
        """Decide the handshakes that wait."""
        while self.socket.poll(0):
            version, request, domain, _, _, mechanism, *credentials = self.socket.recv_multipart()
            key = z85.encode(credentials[0]).decode() if len(credentials) == 1 else ""
            allowed = (
                (version, domain, mechanism) == (b"1.0", DOMAIN, b"CURVE")
                and len(credentials[0]) == 32
                and self.allows(key)
            )
            status = [b"200", b"OK", key.encode(), b""] if allowed else [b"400", b"unknown key", b"", b""]
            self.socket.send_multipart([b"1.0", request, *status])

    def allows(self, key: str) -> bool:
        return key in self._allowed

    def look(self) -> bool:
        """Read the list again if it changed; True if it did. A list that cannot be read lets nobody in."""
        if (stamp := _stamp()) == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._allowed = frozenset(keys.players().values())
        except keys.KeysError:
            self._allowed = frozenset()
        return True


def _stamp() -> tuple[int, int] | None:
    """Changes whenever the list of players is replaced."""
    try:
        found = os.stat(keys.folder() / keys.PLAYERS)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
