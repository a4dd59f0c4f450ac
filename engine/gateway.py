"""The gateway: clients on one side, ranks on the other, a session for each client. No torch, so it answers at
once.

    python -m engine.gateway --listen ipc://PATH --inner ipc://DIR --ranks 1 [--players 2]

In the way of one frame: a client's Buttons go to every rank; a rank's picture goes to its client, or is
dropped where that one is slow. Nothing here waits for anybody.
"""

import argparse
import os
import shutil
import sys
import time

import zmq

from engine.errors import EngineError
from engine.inner import Addresses, FromRank, Joined, Progress, Stop
from engine.lobby.attendant import Attendant
from engine.lobby.beside_process import BesideProcess
from engine.lobby.client_session import ClientSession
from engine.lobby.farewell import farewell
from engine.lobby.front import Front, Letter
from engine.lobby.ranks import Ranks
from engine.lobby.sessions import Sessions
from engine.protocol import BesideState, Command, Ended, Hello, Ping, Pong
from engine.supervision.lifeline import Ending, Failed, Lifeline, Listening

_POLL_MS = 50
_LOOK_S = 0.25  # between two looks at the simulator beside
_LINGER_MS = 800  # for what is sent to be taken; with the farewell it is less than lifeline.GRACE_S


class Gateway:
    """Acquires the sockets; raises EngineError when the address is taken."""

    def __init__(self, options: argparse.Namespace, life: Lifeline) -> None:
        self._stride, self._life = options.stride, life
        self._context = zmq.Context()
        self._front = self._listen(options.listen)
        self._ranks = Ranks(self._context, Addresses(options.inner), options.ranks, options.players)
        self._sessions = Sessions(options.players, options.game)
        beside = ["--inner", options.inner] + ["--fake"] * options.fake
        self._beside = BesideProcess(beside, self._ranks.tell_beside, self._tell_player)
        self._attendant = Attendant(self._front, self._ranks, self._beside)
        self._poller = zmq.Poller()
        for end in (self._front.socket, self._ranks.control, self._ranks.pictures):
            self._poller.register(end, zmq.POLLIN)
        if self._front.guard is not None:
            self._poller.register(self._front.guard.socket, zmq.POLLIN)
        self._looked_s = time.monotonic()

    def run(self) -> None:
        self._life.tell(Listening(self._front.address))
        orders = self._life.orders
        while not self._life.stopping and orders.empty():
            self.step()
            self._life.beat()
        # An order to end comes just before the end of the line that it came over.
        stopped = Ending("engine", "the engine was stopped", 0)
        self._end_engine(stopped if orders.empty() else orders.get())

    def step(self) -> None:
        """Whatever has come: from ranks, from clients, or nothing from a client for too long."""
        ready = dict(self._poller.poll(_POLL_MS))
        if self._ranks.control in ready:
            for is_beside, message in self._ranks.received():
                self._from_beside(message) if is_beside else self._from_rank(message)
        if self._ranks.pictures in ready:
            for picture, pixels in self._ranks.received_pictures():
                if (session := self._sessions.numbered(picture.session)) is not None:
                    self._attendant.from_picture(session, picture, pixels)
        if self._front.guard is not None:
            self._front.guard.answer()
        if self._front.socket in ready:
            for letter in self._front.received():
                self._from_client(letter)
        for session in self._sessions:
            self._attendant.tend(session, time.monotonic())
            if session.is_silent(time.monotonic()):
                self._end_session(session, "nothing was heard from this client for too long")
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
        guard = self._front.guard
        if guard is not None and guard.look():
            for session in self._sessions:
                if not guard.allows(session.key):
                    self._end_session(session, "this machine's key was revoked by the engine's owner")
        self._beside.check()

    # -- clients --------------------------------------------------------------------------------------

    def _from_client(self, letter: Letter) -> None:
        session, message = self._sessions.of(letter.client), letter.message
        if session is not None and session.key != letter.key:
            return  # another player under this one's name
        match message:
            case None:
                pass  # it did not parse
            case Hello():
                self._hello(letter, message, session)
            case Ping():
                self._front.tell(letter.client, Pong(nonce=message.nonce))
            case Command(kind="bye") if session is not None:
                self._end_session(session)
        if message is not None and (session := self._sessions.of(letter.client)) is not None:
            self._attendant.from_player(session, message)

    def _hello(self, letter: Letter, hello: Hello, session: ClientSession | None) -> None:
        if session is not None and session.is_asked_for_by(hello):
            session.again()  # repeated: the first may have crossed our answer, or the link broke
            return
        if (refusal := self._sessions.refusal(hello, letter.client)) is not None:
            self._front.tell(letter.client, refusal)
            return
        if session is not None:
            self._end_session(session)
        session = self._sessions.begin(letter.client, hello, time.monotonic(), letter.key)
        self._beside.begin_session(session.number)
        session.progress("starting the engine", 0.05)
        self._start_when_joined()

    def _tell_player(self, number: int, message: BesideState) -> None:
        if (session := self._sessions.numbered(number)) is not None:
            session.outbox.append(message)

    def _end_session(self, session: ClientSession, reason: str = "") -> None:
        """Its place is free. reason: told to the client, unless it is empty because that one asked for
        it."""
        if reason:
            self._front.tell(session.identity, Ended(role="engine", reason=reason, exit_code=0))
        self._sessions.end(session)
        self._beside.end_session(session.number)
        self._ranks.tell(Stop(session=session.number))

    # -- ranks ----------------------------------------------------------------------------------------

    def _from_rank(self, message: FromRank) -> None:
        if isinstance(message, Joined):
            self._start_when_joined()
        elif (session := self._sessions.numbered(message.session)) is not None:
            self._attendant.from_role(session, message)

    def _from_beside(self, message: FromRank) -> None:
        match message:
            case Joined():
                self._beside.joined()
            case Progress():
                self._beside.progress(message)

    def _start_when_joined(self) -> None:
        """Pass every Hello on once every rank is there."""
        for session in self._sessions:
            if self._ranks.all_joined and not session.started:
                self._ranks.tell(session.start(self._stride))

    # -- the engine -----------------------------------------------------------------------------------

    def _end_engine(self, ending: Ending) -> None:
        """Every client is told, one that just says hello too."""
        farewell(self._front, list(self._sessions), ending)

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
    parser.add_argument("--players", type=int, default=1, help="how many may play at once")
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
