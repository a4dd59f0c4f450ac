"""Whether the engine is still there: what was heard when, signs of life, and when to give up."""

import dataclasses
import time

from client.connection import Connection
from client.engine_process import EngineProcess
from client.errors import UserError
from client.handshake import hello
from client.options import PlayOptions
from client.view import WARN_S
from client.wishes import Wishes

LOST_S = 10.0
LINK_LOST_S = 60.0  # over a network; the engine holds a session for half of it, then a new one begins
FIRST_PICTURE_S = 60.0
_HELLO_S = 0.5
_ENGINE_CHECK_S = 0.2


class Link:
    """engine: the local one; None when it is somebody else's."""

    def __init__(self, options: PlayOptions, connection: Connection, engine: EngineProcess | None) -> None:
        self._options, self._connection, self._engine = options, connection, engine
        self._heard_s = self._picture_s = self._said_s = self._checked_s = time.perf_counter()

    def heard(self, now_s: float) -> None:
        """Something came from the engine."""
        self._heard_s = now_s

    def expect_pictures(self, now_s: float) -> None:
        """One came, or is to come from now on."""
        self._picture_s = now_s

    def silent_s(self, now_s: float, standing: bool) -> float:
        """Since a picture came; since anything came, where that is long, or where no picture is to come
        (standing)."""
        unheard_s = now_s - self._heard_s
        return unheard_s if standing or unheard_s > WARN_S else now_s - self._picture_s

    def keep_in_touch(self, now_s: float, paused: bool, wishes: Wishes) -> None:
        """Say hello again, whose answer tells that the session is there: while no pictures come, and where
        the engine may lack something that was said."""
        if now_s - self._said_s < _HELLO_S:
            return
        self._said_s = now_s
        standing = paused or wishes.starting
        if standing or wishes.in_doubt() or self.silent_s(now_s, standing) > WARN_S:
            self._connection.send(hello(dataclasses.replace(self._options, seed=wishes.seed)))

    def failure(self, now_s: float, paused: bool, starting: bool) -> UserError | None:
        """Why there is no going on. starting: a world is on its way, which may take longer."""
        if self._engine is not None and now_s - self._checked_s > _ENGINE_CHECK_S:
            self._checked_s = now_s
            try:
                self._engine.check()
            except UserError as error:
                return error
        lost_s = LINK_LOST_S if (self._options.engine or "").startswith("tcp://") else LOST_S
        patience_s = max(FIRST_PICTURE_S, lost_s) if starting else lost_s
        if self.silent_s(now_s, paused) <= patience_s:
            return None
        return UserError(f"the engine sent no picture for {patience_s:.0f} s; {self._what_to_do()}")

    def _what_to_do(self) -> str:
        if self._options.engine is not None:
            return f"check that it still runs and that {self._options.engine} can be reached"
        return "run `dreamcade doctor` and play again"
