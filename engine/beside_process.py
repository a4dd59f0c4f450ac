"""The simulator beside a dream as the gateway sees it: started when a player first asks for it, fed with the
dream's step log, and watched. When it fails the dream goes on alone.
"""

import os
import subprocess
import sys
from collections.abc import Callable

from engine.inner import Follow, Logged, Progress, Stop, ToRank
from engine.protocol import Beginning, BesideState, TrueStep
from engine.step_log import StepLog

_STOP_S = 0.2  # it has nothing to put in order


class BesideProcess:
    """arguments: of engine.beside. tell: passes a message on to it."""

    def __init__(self, arguments: list[str], tell: Callable[[ToRank], None]) -> None:
        self._arguments, self._tell = arguments, tell
        self._process: subprocess.Popen[bytes] | None = None
        self._joined = False
        self._session = 0
        self._game = ""
        self._log = StepLog()

    def begin_session(self) -> None:
        """Another session's log begins; nothing is followed until asked for."""
        self.leave()
        self._log = StepLog()

    def note(self, session: int, entry: Beginning | TrueStep) -> None:
        """What the dream was made from: kept, so that the simulator can catch up whenever it is asked for."""
        self._log.add(entry)
        if self.following(session) and self._joined:
            self._tell(Logged(session=session, entry=entry))

    def following(self, session: int) -> bool:
        return self._session == session

    def follow(self, session: int, game: str) -> BesideState:
        """Let it play along; what to tell the player."""
        self._session, self._game = session, game
        if self._process is None:
            self._start()
        elif self._joined:
            self._tell_all()
        return BesideState(state="starting")

    def joined(self) -> None:
        """It is up: it gets the log from the epoch's beginning on."""
        self._joined = True
        if self._session:
            self._tell_all()

    def leave(self) -> None:
        """It stays, idle: starting it takes seconds."""
        if self._session and self._joined:
            self._tell(Stop())
        self._session = 0

    def progress(self, message: Progress) -> BesideState | None:
        """What to tell the player of it; None when it speaks of another session."""
        if not self.following(message.session):
            return None
        return BesideState(state="catching up", fraction=message.fraction)

    def check(self) -> BesideState | None:
        """What to tell the player when it has ended by itself."""
        if self._process is None or self._process.poll() is None:
            return None
        code, was_wanted = self._process.returncode, self._session != 0
        self._process, self._joined, self._session = None, False, 0
        reason = f"the simulator ended unexpectedly ({code})"
        return BesideState(state="stopped", reason=reason) if was_wanted else None

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
        self._tell(Follow(session=self._session, game=self._game, entries=self._log.entries))

    def _start(self) -> None:
        command = [sys.executable, "-m", "engine.beside", "--parent", str(os.getpid()), *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
