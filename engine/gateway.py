"""The gateway: clients on one side, ranks on the other, one session at a time. No torch, so it answers at
once.

    python -m engine.gateway --listen ipc://PATH --inner ipc://DIR --ranks 1

In the way of one frame: a client's Buttons go to every rank; a rank's picture goes to the client, or is
dropped where that one is slow. Nothing here waits for anybody.
"""

import argparse
import os
import shutil
import sys
import time

import zmq

from engine import inner, protocol
from engine.client_session import ClientSession, opening_refusal
from engine.errors import EngineError
from engine.front import Front
from engine.inner import (
    Addresses,
    Begin,
    Control,
    Input,
    Joined,
    Opened,
    Progress,
    Start,
    Stop,
    remove_ipc_file,
)
from engine.lifeline import Ending, Failed, Lifeline, Listening
from engine.protocol import Buttons, Command, Ended, Hello, Message, Ping, Pong, ProtocolError, Refused

_POLL_MS = 50
_MESSAGES_AT_ONCE = 64  # from the ranks before clients are looked at
_LAST_WORDS_S = 0.3  # for clients that are just arriving while the engine ends
_LAST_WORD_S = 0.5  # for the one that plays to make room for it
_LINGER_MS = 800  # for what is sent to be taken; both together are less than lifeline.GRACE_S


class Gateway:
    """Acquires the sockets; raises EngineError when the address is taken."""

    def __init__(
        self, listen: str, addresses: Addresses, n_ranks: int, only_game: str, stride: int, life: Lifeline
    ):
        self._n_ranks, self._only_game, self._stride, self._life = n_ranks, only_game, stride, life
        self._addresses = addresses
        self._context = zmq.Context()
        self._front = self._listen(listen)
        self._ranks = self._bind_inner(zmq.ROUTER, addresses.ranks)
        self._pictures = self._bind_inner(zmq.PULL, addresses.pictures)
        self._poller = zmq.Poller()
        for end in (self._front.socket, self._ranks, self._pictures):
            self._poller.register(end, zmq.POLLIN)
        self._joined: list[bytes] = []
        self._session: ClientSession | None = None
        self._sessions = 0
        self.garbage = 0
        """Messages that did not parse, or that nobody here expects."""

    def run(self) -> None:
        self._life.tell(Listening(self._front.address))
        while not self._life.stopping:
            self.step()
            self._life.beat()
            if not self._life.orders.empty():
                self._end_engine(self._life.orders.get())
                return
        self._end_engine(Ending("engine", "the engine was stopped", 0))

    def step(self) -> None:
        """Whatever has come: from ranks, from clients, or nothing from a client for too long."""
        ready = dict(self._poller.poll(_POLL_MS))
        if self._ranks in ready:
            self._from_ranks()
        if self._pictures in ready:
            self._from_pictures()
        if self._front.socket in ready:
            for client, part in self._front.received():
                self._from_client(client, part)
        if self._session is not None:
            self._flush(self._session)
            if self._session.is_silent(time.monotonic()):
                self._end_session("nothing was heard from this client for too long")

    def close(self) -> None:
        """Leaves no socket file behind."""
        self._context.destroy(linger=_LINGER_MS)
        self._front.remove_file()
        for address in (self._addresses.ranks, self._addresses.pictures):
            remove_ipc_file(address)

    # -- clients --------------------------------------------------------------------------------------

    def _from_client(self, identity: bytes, part: bytes) -> None:
        version = protocol.hello_version(part)
        if version is not None and version != protocol.PROTOCOL_VERSION:
            ours = protocol.PROTOCOL_VERSION
            reason = f"this engine speaks protocol version {ours}, this client version {version}"
            self._front.tell(
                identity, Refused(reason=reason, fix="install the same version of dreamcade on both sides")
            )
            return
        try:
            message = protocol.unpack_to_engine(part)
        except ProtocolError:
            self.garbage += 1
            return
        mine = self._session is not None and self._session.identity == identity
        match message:
            case Hello():
                self._hello(identity, message)
            case Ping():
                self._front.tell(identity, Pong(nonce=message.nonce))
            case Buttons() | Command() if not mine:
                self.garbage += 1
            case Command(kind="bye"):
                self._end_session("")
            case Buttons():
                self._buttons(message)
            case Command(kind=kind) if self._session is not None and self._session.welcomed and kind != "bye":
                self._to_ranks(Control(kind=kind, seed=message.seed))
        if mine and self._session is not None:
            self._session.heard_s = time.monotonic()

    def _hello(self, identity: bytes, hello: Hello) -> None:
        session = self._session
        if session is not None and session.identity == identity and session.hello == hello:
            session.again()  # repeated: the first may have crossed our answer, or the link broke
            return
        refusal = opening_refusal(
            hello, self._only_game, busy=session is not None and session.identity != identity
        )
        if refusal is not None:
            self._front.tell(identity, refusal)
            return
        self._end_session("")
        self._sessions += 1
        self._session = ClientSession(identity, self._sessions, hello, time.monotonic())
        self._session.progress("starting the engine", 0.05)
        self._start_when_joined()

    def _buttons(self, message: Buttons) -> None:
        session = self._session
        if session is not None and session.note_input(message.seq, time.monotonic()):
            self._to_ranks(Input(seq=message.seq, held=message.held, pressed=message.pressed))

    def _end_session(self, reason: str) -> None:
        """Back to idle. reason: told to the client, unless it is empty because that one asked for it."""
        if self._session is None:
            return
        if reason:
            self._front.tell(self._session.identity, Ended(role="engine", reason=reason, exit_code=0))
        self._session = None
        self._to_ranks(Stop())

    # -- ranks ----------------------------------------------------------------------------------------

    def _from_ranks(self) -> None:
        for _ in range(_MESSAGES_AT_ONCE):
            try:
                identity, part = self._ranks.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = inner.decode_from_rank(part)
            if isinstance(message, Joined):
                self._joined.append(identity)
                self._start_when_joined()
            elif self._session is not None and message.session == self._session.number:
                self._from_rank(self._session, message)

    def _from_rank(self, session: ClientSession, message: Progress | Opened) -> None:
        if isinstance(message, Progress):
            session.progress(message.stage, message.fraction)
            return
        session.opened.append(message)
        if session.all_opened and not session.welcomed:
            welcome = session.welcome(time.monotonic())
            self._to_ranks(Begin(lag=welcome.lag))

    def _from_pictures(self) -> None:
        for _ in range(_MESSAGES_AT_ONCE):
            try:
                header, pixels = self._pictures.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            picture = inner.decode_picture(header.buffer)
            session = self._session
            if session is not None and picture.session == session.number and session.welcomed:
                self._forward(session, picture, pixels.buffer)

    def _forward(self, session: ClientSession, picture: inner.Picture, pixels: memoryview) -> None:
        self._flush(session)
        ready = session.ready_frame(picture.frame, time.monotonic(), picture.rank)
        if ready is None:
            return
        if session.outbox or not self._front.send(session.identity, protocol.pack(ready, pixels)):
            session.dropped += 1

    def _start_when_joined(self) -> None:
        """Pass the Hello on once every rank is there."""
        session = self._session
        if session is None or len(self._joined) < self._n_ranks:
            return
        hello = session.hello
        self._to_ranks(
            Start(
                session=session.number,
                game=hello.game,
                seed=hello.seed,
                mode=hello.mode,
                stride=self._stride or hello.stride,
                record_hashes=hello.record_hashes,
            )
        )

    def _to_ranks(self, message: inner.ToRank) -> None:
        part = inner.encode(message)
        for identity in self._joined:
            self._ranks.send_multipart([identity, part], zmq.NOBLOCK)

    # -- sending --------------------------------------------------------------------------------------

    def _flush(self, session: ClientSession) -> None:
        """Messages that must not be lost, in order, as far as the client takes them."""
        while session.outbox and self._front.tell(session.identity, session.outbox[0]):
            session.outbox.popleft()

    def _end_engine(self, ending: Ending) -> None:
        """Every client is told, one that just says hello too."""
        ended = Ended(role=ending.role, reason=ending.reason, exit_code=ending.exit_code)
        reason, _, fix = ending.reason.partition("; ")
        refused = Refused(reason=reason, fix=fix)
        playing = self._session is not None and self._session.welcomed
        last_words = refused if ending.user_error and not playing else ended
        if self._session is not None:
            self._tell_last(self._session, last_words)
            return
        until_s = time.monotonic() + (_LAST_WORDS_S if ending.exit_code else 0.0)
        while (left_s := until_s - time.monotonic()) > 0:
            if self._front.socket.poll(int(left_s * 1000)):
                for client, _ in self._front.received():
                    self._front.tell(client, last_words)

    def _tell_last(self, session: ClientSession, last_words: Message) -> None:
        """Pictures may fill the queue of a slow client: wait for room, but not for long."""
        session.outbox.append(last_words)
        until_s = time.monotonic() + _LAST_WORD_S
        self._flush(session)
        while session.outbox and time.monotonic() < until_s:
            time.sleep(0.01)
            self._flush(session)

    # -- sockets --------------------------------------------------------------------------------------

    def _listen(self, listen: str) -> Front:
        try:
            return Front(self._context, listen)
        except EngineError:
            self._context.destroy(linger=0)
            raise

    def _bind_inner(self, kind: int, address: str) -> zmq.Socket[bytes]:
        end = self._context.socket(kind)
        if kind == zmq.PULL:
            end.setsockopt(zmq.RCVHWM, inner.PICTURES_DEEP)
        end.bind(address)
        return end


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m engine.gateway", description=__doc__)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--inner", required=True)
    parser.add_argument("--ranks", type=int, required=True, help="how many will join")
    parser.add_argument("--game", default="")
    parser.add_argument("--stride", type=int, default=0)
    parser.add_argument("--parent", type=int, default=0)
    options = parser.parse_args(argv)
    life = Lifeline(options.parent)
    addresses = Addresses(options.inner)
    try:
        gateway = Gateway(options.listen, addresses, options.ranks, options.game, options.stride, life)
    except EngineError as error:
        life.tell(Failed(str(error), error.exit_code))
        sys.exit(error.exit_code)
    try:
        gateway.run()
    finally:
        gateway.close()
        if options.inner.startswith("ipc://"):
            shutil.rmtree(options.inner.removeprefix("ipc://"), ignore_errors=True)
    sys.stderr.flush()
    os._exit(0)  # the control thread may still be reading


if __name__ == "__main__":
    main()
