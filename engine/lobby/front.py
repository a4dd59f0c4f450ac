"""The gateway's socket towards clients: bound with care, never waits, says whether a send was taken."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import zmq

from engine.errors import EngineError
from engine.inner import remove_ipc_file
from engine.keys import needs_keys
from engine.lobby.address import in_use, make_room
from engine.lobby.guard import Guard
from engine.protocol import (
    PROTOCOL_VERSION,
    Message,
    ProtocolError,
    Refused,
    ToEngine,
    hello_version,
    pack,
    unpack_to_engine,
)

_MESSAGES_AT_ONCE = 64  # before the other side is looked at: a flood must not starve it
_FRAMES_QUEUED = 2  # towards a client; more would be lag
_HANDSHAKE_MS = 5000  # who has not said who they are by then is cut off
_MAX_FROM_CLIENT = 1 << 16  # bytes; clients send nothing large


@dataclass(frozen=True)
class Letter:
    """A message from a client; None: it did not parse. key: the public key it came in with, empty where none
    is needed."""

    client: bytes
    message: ToEngine | None
    key: str


class Front:
    """Acquires the address; raises EngineError when it is taken. `address` has the port the system chose, if
    it did; `guard` is there where others can reach it."""

    def __init__(self, context: zmq.Context[Any], listen: str) -> None:
        make_room(listen)
        self.guard = Guard(context) if needs_keys(listen) else None
        self.socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        if self.guard is not None:
            self.guard.protect(self.socket)
        options: dict[Any, int] = {
            zmq.ROUTER_MANDATORY: 1,  # a full queue is an error we count, not a silent loss
            zmq.ROUTER_HANDOVER: 1,  # a client that reconnects takes over its own name
            zmq.SNDHWM: _FRAMES_QUEUED,
            zmq.RCVHWM: 256,
            zmq.MAXMSGSIZE: _MAX_FROM_CLIENT,
            zmq.HANDSHAKE_IVL: _HANDSHAKE_MS,
            zmq.HEARTBEAT_IVL: 1000,
            zmq.HEARTBEAT_TIMEOUT: 5000,
            zmq.IPV6: int("[" in listen),
        }
        for option, value in options.items():
            self.socket.setsockopt(option, value)
        try:
            self.socket.bind(listen)
        except zmq.ZMQError as error:
            self.socket.close(linger=0)
            if error.errno == zmq.EADDRINUSE:
                raise in_use(listen) from None
            raise EngineError(
                f"cannot listen on {listen}: {error.strerror}; choose another --listen"
            ) from None
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def received(self) -> Iterator[Letter]:
        """Messages that are here, as many as may be taken at once. Those of a key that was revoked meanwhile
        are not even looked at; those of another protocol version are answered here."""
        for _ in range(_MESSAGES_AT_ONCE):
            try:
                client, *parts = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            key = str(parts[0].get("User-Id")) if self.guard is not None and parts else ""
            if self.guard is None or self.guard.allows(key):
                message = self._opened(client.bytes, parts[0].bytes) if len(parts) == 1 else None
                yield Letter(client.bytes, message, key)

    def _opened(self, client: bytes, part: bytes) -> ToEngine | None:
        version = hello_version(part)
        if version is not None and version != PROTOCOL_VERSION:
            reason = f"this engine speaks protocol version {PROTOCOL_VERSION}, this client version {version}"
            fix = "install the same version of dreamcade on both sides"
            self.tell(client, Refused(reason=reason, fix=fix))
            return None
        try:
            return unpack_to_engine(part)
        except ProtocolError:
            return None

    def send(self, client: bytes, part: bytes) -> bool:
        """False when this client's queue is full, or it is gone."""
        try:
            self.socket.send_multipart([client, part], zmq.NOBLOCK, copy=False)
        except zmq.ZMQError:
            return False
        return True

    def tell(self, client: bytes, message: Message) -> bool:
        return self.send(client, pack(message))

    def remove_file(self) -> None:
        remove_ipc_file(self.address)
