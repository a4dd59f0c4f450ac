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

from engine.beside_process import BesideProcess
from engine.client_session import ClientSession, opening_refusal
from engine.errors import EngineError
from engine.farewell import farewell
from engine.front import Front, Letter
from engine.inner import (
    Addresses,
    Begin,
    Control,
    FromRank,
    Input,
    Joined,
    Logged,
    Opened,
    Picture,
    Progress,
    Stop,
)
from engine.lifeline import Ending, Failed, Lifeline, Listening
from engine.protocol import (
    BesideState,
    Buttons,
    Command,
    Ended,
    Hello,
    Ping,
    Pong,
    pack,
)
from engine.ranks import Ranks

_POLL_MS = 50
_LOOK_S = 0.25  # between two looks at the simulator beside
_LINGER_MS = 800  # for what is sent to be taken; with the farewell it is less than lifeline.GRACE_S


class Gateway:
    """Acquires the sockets; raises EngineError when the address is taken."""

    def __init__(self, options: argparse.Namespace, life: Lifeline) -> None:
        self._only_game, self._stride, self._life = options.game, options.stride, life
        self._context = zmq.Context()
        self._front = self._listen(options.listen)
        self._ranks = Ranks(self._context, Addresses(options.inner), options.ranks)
        beside = ["--inner", options.inner] + ["--fake"] * options.fake
        self._beside = BesideProcess(beside, self._ranks.tell_beside)
        self._poller = zmq.Poller()
        for end in (self._front.socket, self._ranks.control, self._ranks.pictures):
            self._poller.register(end, zmq.POLLIN)
        if self._front.guard is not None:
            self._poller.register(self._front.guard.socket, zmq.POLLIN)
        self._session: ClientSession | None = None
        self._sessions = 0
        self._looked_s = time.monotonic()

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
        if self._ranks.control in ready:
            for is_beside, message in self._ranks.received():
                self._from_beside(message) if is_beside else self._from_rank(message)
        if self._ranks.pictures in ready:
            for picture, pixels in self._ranks.received_pictures():
                self._from_picture(picture, pixels)
        if self._front.guard is not None:
            self._front.guard.answer()
        if self._front.socket in ready:
            for letter in self._front.received():
                self._from_client(letter)
        if self._session is not None:
            self._session.flush(self._front)
            if self._session.should_wait(time.monotonic()):
                self._wait(self._session, True)
            if self._session.is_silent(time.monotonic()):
                self._end_session("nothing was heard from this client for too long")
        self._look_around(time.monotonic())

    def close(self) -> None:
        """Leaves no socket file behind."""
        self._beside.close()
        self._context.destroy(linger=_LINGER_MS)
        self._front.remove_file()
        self._ranks.remove_files()

    def _look_around(self, now_s: float) -> None:
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        guard, session = self._front.guard, self._session
        if guard is not None and guard.look() and session is not None and not guard.allows(session.key):
            self._end_session("this machine's key was revoked by the engine's owner")
        if (state := self._beside.check()) is not None and self._session is not None:
            self._session.outbox.append(state)

    # -- clients --------------------------------------------------------------------------------------

    def _from_client(self, letter: Letter) -> None:
        identity, message = letter.client, letter.message
        if message is None:
            return
        mine = self._session is not None and self._session.identity == identity
        match message:
            case Hello():
                self._hello(letter, message)
            case Ping():
                self._front.tell(identity, Pong(nonce=message.nonce))
            case Buttons() | Command() if not mine:
                pass  # nobody here expects it
            case Command(kind="bye"):
                self._end_session("")
            case Buttons():
                self._buttons(message)
            case Command() if self._session is not None and self._session.welcomed:
                self._command(self._session, message)
        if mine and self._session is not None:
            self._session.heard_s = time.monotonic()
            self._wait(self._session, False)

    def _hello(self, letter: Letter, hello: Hello) -> None:
        identity = letter.client
        session = self._session
        if session is not None and session.identity == identity and session.hello == hello:
            session.again()  # repeated: the first may have crossed our answer, or the link broke
            return
        other = session if session is not None and session.identity != identity else None
        refusal = opening_refusal(hello, self._only_game, other)
        if refusal is not None:
            self._front.tell(identity, refusal)
            return
        self._end_session("")
        self._sessions += 1
        self._beside.begin_session()
        self._session = ClientSession(identity, self._sessions, hello, time.monotonic(), letter.key)
        self._session.progress("starting the engine", 0.05)
        self._start_when_joined()

    def _wait(self, session: ClientSession, waiting: bool) -> None:
        """Let the game stand still while the player's link is lost, and go on when it is back."""
        if session.waiting != waiting:
            session.waiting = waiting
            if not session.paused:
                self._ranks.tell(Control(kind="pause" if waiting else "resume"))

    def _command(self, session: ClientSession, message: Command) -> None:
        match message.kind:
            case "beside" if session.hello.mode == "reference":
                reason = "this is the simulator already"
                session.outbox.append(BesideState(state="stopped", reason=reason))
            case "beside":
                session.outbox.append(self._beside.follow(session.number, session.hello.game))
            case "alone":
                self._beside.leave()
            case "pause" | "resume" | "step" | "reset" | "new_seed":
                if message.kind in ("pause", "resume"):
                    session.paused = message.kind == "pause"
                self._ranks.tell(Control(kind=message.kind, seed=message.seed))

    def _buttons(self, message: Buttons) -> None:
        session = self._session
        if session is not None and session.note_input(message.seq, time.monotonic()):
            self._ranks.tell(Input(seq=message.seq, held=message.held, pressed=message.pressed))

    def _end_session(self, reason: str) -> None:
        """Back to idle. reason: told to the client, unless it is empty because that one asked for it."""
        if self._session is None:
            return
        if reason:
            self._front.tell(self._session.identity, Ended(role="engine", reason=reason, exit_code=0))
        self._session = None
        self._beside.leave()
        self._ranks.tell(Stop())

    # -- ranks ----------------------------------------------------------------------------------------

    def _from_rank(self, message: FromRank) -> None:
        session = self._session
        if isinstance(message, Joined):
            self._start_when_joined()
            return
        if session is None or message.session != session.number:
            return
        match message:
            case Progress():
                session.progress(message.stage, message.fraction)
            case Logged():
                self._beside.note(session.number, message.entry)
                if session.hello.record_hashes:
                    session.outbox.append(message.entry)
            case Opened():
                session.opened.append(message)
                if session.all_opened and not session.welcomed:
                    self._ranks.tell(Begin(lag=session.welcome(time.monotonic()).lag))

    def _from_beside(self, message: FromRank) -> None:
        if isinstance(message, Joined):
            self._beside.joined()
            return
        state = self._beside.progress(message) if isinstance(message, Progress) else None
        if state is not None and self._session is not None:
            self._session.outbox.append(state)

    def _from_picture(self, picture: Picture, pixels: memoryview) -> None:
        session = self._session
        if session is None or picture.session != session.number or not session.welcomed:
            return
        if not picture.frame.beside or self._beside.following(session.number):
            self._forward(session, picture, pixels)

    def _forward(self, session: ClientSession, picture: Picture, pixels: memoryview) -> None:
        session.flush(self._front)
        ready = session.ready_frame(picture.frame, time.monotonic(), picture.rank)
        if ready is None:
            return
        if session.outbox or not self._front.send(session.identity, pack(ready, pixels)):
            session.dropped += 1

    def _start_when_joined(self) -> None:
        """Pass the Hello on once every rank is there."""
        session = self._session
        if session is not None and self._ranks.all_joined:
            self._ranks.tell(session.start(self._stride))

    # -- sending --------------------------------------------------------------------------------------

    def _end_engine(self, ending: Ending) -> None:
        """Every client is told, one that just says hello too."""
        farewell(self._front, self._session, ending)

    # -- sockets --------------------------------------------------------------------------------------

    def _listen(self, listen: str) -> Front:
        try:
            return Front(self._context, listen)
        except EngineError:
            self._context.destroy(linger=0)
            raise


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m engine.gateway", description=__doc__)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--inner", required=True)
    parser.add_argument("--ranks", type=int, required=True, help="how many will join")
    parser.add_argument("--game", default="")
    parser.add_argument("--stride", type=int, default=0)
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--fake", action="store_true")
    options = parser.parse_args(argv)
    life = Lifeline(options.parent)
    try:
        gateway = Gateway(options, life)
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
