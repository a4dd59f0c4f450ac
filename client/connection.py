"""The client's end of the wire: a DEALER socket that never blocks play and keeps only the newest picture.

Way of one frame: gateway -> Connection.drain -> pacer -> screen.
"""

import contextlib
import uuid
from dataclasses import dataclass

import msgspec
import zmq
from zmq.utils.monitor import parse_monitor_message

from client.errors import UserError
from engine import keys
from engine.protocol import (
    MAX_MESSAGE_BYTES,
    Beginning,
    Command,
    Frame,
    Hello,
    ProtocolError,
    ToClient,
    ToEngine,
    TrueStep,
    Welcome,
    pack,
    unpack_to_client,
)

_HANDSHAKE_FAILURES = (
    zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
)
_BYE = Command(kind="bye")
_LINK_DEAD_MS = 1500
_MAX_PARTS_PER_DRAIN = 64  # a flood of messages must not keep the loop from drawing


@dataclass(frozen=True)
class Picture:
    """A received frame; pixels: height * width * 3 bytes, rows from the top; received_s: local monotonic
    clock."""

    frame: Frame
    pixels: memoryview
    received_s: float

    @property
    def order(self) -> tuple[int, int]:
        return self.frame.epoch, self.frame.index


@dataclass(frozen=True)
class Received:
    """What one drain found: control messages in order, the newest picture, how many older pictures it
    replaced, the newest picture of the simulator beside the dream."""

    control: tuple[ToClient, ...]
    picture: Picture | None
    superseded: int
    beside: Picture | None = None


class Connection:
    """Talks to one engine. The routing id stays the same when the link breaks and comes back. Epochs count on
    from one session to the next, so that nothing of two games is told by the same one.

    `first_epoch`: of the present session."""

    def __init__(self, address: str) -> None:
        """address: tcp://host:port or ipc://path. Raises UserError if it is not one, or if others could
        listen there and no key of that engine is known."""
        self.address = address
        self.bad_messages = 0
        self.first_epoch, self._newest_epoch = 0, -1
        self._session: str | None = None
        self._newest: tuple[int, int] = (-1, -1)  # epoch, index
        self._is_guest = False  # said hello, not yet bye
        self._was_made = self._was_remade = False
        self._handshake_failure: int | None = None
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.DEALER)
        # IMMEDIATE: nothing queues up for an engine that is not there yet, so a hello repeated while it
        # starts arrives once, and buttons pressed during a broken link do not replay afterwards.
        for option, value in (
            (zmq.ROUTING_ID, b"c" + uuid.uuid4().hex.encode()),
            (zmq.IMMEDIATE, 1),
            (zmq.LINGER, 200),
            (zmq.SNDHWM, 32),
            (zmq.RCVHWM, 4),
            (zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES),
            (zmq.IPV6, int("[" in address)),
            # A link that lost packets for a while is slow to recover by itself: it is given up soon and made
            # anew, so that play goes on soon after the way is free again.
            (zmq.HEARTBEAT_IVL, 500),
            (zmq.HEARTBEAT_TIMEOUT, _LINK_DEAD_MS),
            (zmq.CONNECT_TIMEOUT, _LINK_DEAD_MS),
            (zmq.HANDSHAKE_IVL, _LINK_DEAD_MS),
            (zmq.RECONNECT_IVL, 100),
            (zmq.RECONNECT_IVL_MAX, 500),
        ):
            self._socket.setsockopt(option, value)
        self._monitor = self._socket.get_monitor_socket(_HANDSHAKE_FAILURES | zmq.Event.HANDSHAKE_SUCCEEDED)
        self._use_keys(address)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise UserError(
                f"{address!r} is not an engine's address ({error.strerror}): write tcp://host:port", 2
            ) from None

    def _use_keys(self, address: str) -> None:
        """Authenticate and encrypt, if this engine's key is known; without it only on this machine."""
        try:
            engine = keys.engines().get(address)
            if engine is not None:
                own = keys.own_keys()
                self._socket.curve_serverkey = engine.encode()
                self._socket.curve_publickey = own.public.encode()
                self._socket.curve_secretkey = own.secret.encode()
        except keys.KeysError as error:
            self.close()
            raise UserError(str(error)) from None
        if engine is None and keys.needs_keys(address):
            self.close()
            raise UserError(
                f"no key of the engine at {address} is known, and others could listen to a link without keys:"
                " run `dreamcade pair` first, it says what to do on both machines"
            )

    def refusal(self) -> str | None:
        """Why the engine's side broke off the handshake, if it did: keys are missing or not accepted."""
        self._look_at_link()
        failed, self._handshake_failure = self._handshake_failure, None
        if failed is None:
            return None
        if failed == zmq.Event.HANDSHAKE_FAILED_AUTH:
            return "it does not know this machine's key: ask its owner for `dreamcade pair allow`"
        return "it wants a key, or has another one than is known here: run `dreamcade pair`"

    def remade(self) -> bool:
        """Whether the link was made anew since this was asked last: what was sent before may be lost."""
        self._look_at_link()
        remade, self._was_remade = self._was_remade, False
        return remade

    def send(self, message: ToEngine) -> bool:
        """Queue `message` without waiting; False when the link is down or full."""
        try:
            self._socket.send(pack(message), zmq.DONTWAIT)
        except zmq.Again:
            return False
        if isinstance(message, Hello) or message == _BYE:
            self._is_guest = message != _BYE
        return True

    def wait(self, timeout_s: float) -> bool:
        """Sleep until something arrives, `timeout_s` at most; True if something did."""
        return bool(self._socket.poll(round(max(0.0, timeout_s) * 1000.0), zmq.POLLIN))

    def drain(self, now_s: float) -> Received:
        """Take what has arrived, up to a Welcome: what follows that is for whoever plays the game. Pictures
        not newer than one already returned count as superseded."""
        control: list[ToClient] = []
        picture: Picture | None = None
        beside: Picture | None = None
        superseded = 0
        for _ in range(_MAX_PARTS_PER_DRAIN):
            message, pixels = self._receive()
            if message is None:
                break
            if not isinstance(message, Frame):
                control.append(message)
                if isinstance(message, Welcome):
                    break
                continue
            if message.beside:
                beside = Picture(message, pixels, now_s)
                continue
            order = (message.epoch, message.index)
            if order <= self._newest:
                superseded += 1
                continue
            superseded += picture is not None
            self._newest = order
            picture = Picture(message, pixels, now_s)
        return Received(tuple(control), picture, superseded, beside)

    def close(self) -> None:
        """Says bye to an engine that was not told: it keeps a place for this client until then."""
        if self._is_guest:
            self.send(_BYE)
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()
        self._context.term()

    def _receive(self) -> tuple[ToClient | None, memoryview]:
        """The next message that parses, or None when nothing is left."""
        while True:
            try:
                parts = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return None, memoryview(b"")
            with contextlib.suppress(ProtocolError):
                if len(parts) == 1:
                    message, pixels = unpack_to_client(parts[0].buffer)
                    return self._counted_on(message), pixels
            self.bad_messages += 1

    def _counted_on(self, message: ToClient) -> ToClient:
        """With its epoch as it is counted here: engines count each session's from 0."""
        if isinstance(message, Welcome) and message.session != self._session:
            self._session, self.first_epoch = message.session, self._newest_epoch + 1
        elif isinstance(message, Frame | Beginning | TrueStep):
            message = msgspec.structs.replace(message, epoch=self.first_epoch + message.epoch)
            self._newest_epoch = max(self._newest_epoch, message.epoch)
        return message

    def _look_at_link(self) -> None:
        while self._monitor.poll(0):
            event = parse_monitor_message(self._monitor.recv_multipart())["event"]
            if event == zmq.Event.HANDSHAKE_SUCCEEDED:
                self._was_remade |= self._was_made
                self._was_made, self._handshake_failure = True, None
            else:
                self._handshake_failure = event
