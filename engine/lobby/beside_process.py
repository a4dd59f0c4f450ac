"""The simulator beside a dream as the gateway sees it: started when a player first asks for it, fed with the
dream's step log, and watched. One player has it at a time. When it fails the dream goes on alone.
"""

import os
import subprocess
import sys
from collections.abc import Callable

from engine.inner import Follow, Logged, Progress, Stop, ToRank
from engine.pacing.step_log import StepLog
from engine.protocol import Beginning, BesideState, TrueStep

_STOP_S = 0.2  # it has nothing to put in order
_NOBODY = 0  # sessions count from 1

TellPlayer = Callable[[int, BesideState], None]
"""Session number, how the simulator gets on."""


class BesideProcess:
    """arguments: of engine.beside. tell: passes a message on to it; tell_player: to the player of a
    session."""

    def __init__(self, arguments: list[str], tell: Callable[[ToRank], None], tell_player: TellPlayer) -> None:
        self._arguments, self._tell, self._tell_player = arguments, tell, tell_player
        self._process: subprocess.Popen[bytes] | None = None
        self._joined = False
        self._session = _NOBODY
        self._game = ""
        self._logs: dict[int, StepLog] = {}

    def begin_session(self, session: int) -> None:
        """Its log begins; nothing is followed until asked for."""
        self._logs[session] = StepLog()

    def end_session(self, session: int) -> None:
        self.leave(session)
        self._logs.pop(session, None)

    def note(self, session: int, entry: Beginning | TrueStep) -> None:
        """What the dream was made from: kept, so that the simulator can catch up whenever it is asked for."""
        self._logs[session].add(entry)
        if self.following(session) and self._joined:
            self._tell(Logged(session=session, entry=entry))

    def following(self, session: int) -> bool:
        return self._session == session

    def follow(self, session: int, game: str) -> None:
        """Let it play along, unless somebody else has it. Asked again, it goes on where it is."""
        if self.following(session):
            return
        if self._session != _NOBODY:
            reason = "another player of this engine has the simulator beside their dream; try again later"
            self._tell_player(session, BesideState(state="stopped", reason=reason))
            return
        self._session, self._game = session, game
        if self._process is None:
            self._start()
        elif self._joined:
            self._tell_all()
        self._tell_player(session, BesideState(state="starting"))

    def joined(self) -> None:
        """It is up: it gets the log from the epoch's beginning on."""
        self._joined = True
        if self._session != _NOBODY:
            self._tell_all()

    def leave(self, session: int) -> None:
        """It stays, idle: starting it takes seconds."""
        if not self.following(session):
            return
        if self._joined:
            self._tell(Stop(session=session))
        self._session = _NOBODY

    def progress(self, message: Progress) -> None:
        """It says how far it is."""
        if self.following(message.session):
            self._tell_player(message.session, BesideState(state="catching up", fraction=message.fraction))

    def check(self) -> None:
        """Whether it has ended by itself: then its player is told."""
        if self._process is None or self._process.poll() is None:
            return
        code, session = self._process.returncode, self._session
        self._process, self._joined, self._session = None, False, _NOBODY
        if session != _NOBODY:
            reason = f"the simulator ended unexpectedly ({code})"
            self._tell_player(session, BesideState(state="stopped", reason=reason))

    def close(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell_all(self) -> None:
        log = self._logs[self._session]
        self._tell(Follow(session=self._session, game=self._game, entries=log.entries))

    def _start(self) -> None:
        command = [sys.executable, "-m", "engine.beside", "--parent", str(os.getpid()), *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
