"""Hosts the sessions' roles of a rank in one thread: takes messages, does what is due, sleeps until the next
thing is."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from engine.hosting.aside import Aside
from engine.hosting.hosted_session import HostedSession
from engine.hosting.reporter import Reporter
from engine.hosting.role import Role
from engine.hosting.turns import PictureTurns, waits_for_true
from engine.inner import Begin, Control, Input, Joined, RankLine, Start, Stop, ToRank
from engine.pacing.clock import FPS
from engine.supervision.lifeline import BEAT_S, LOADING_S, PATIENCE_S, Lifeline

_FRAMES_HUNG = 20  # a role that needs this many times its usual time hangs, if that is more than PATIENCE_S
_LONGEST_DRAFT_S = 0.2  # longer than any step that leaves time for a second one
_SMOOTHING = 0.1  # weight of the newest step's time
_AWAY_LOOK_S = 0.01  # between two looks at what is done aside


class Cast(Protocol):
    """Who plays what on this rank; engine/hosting/cast.py."""

    names: Sequence[str]

    @property
    def drafts(self) -> bool:
        """Whether a world may draft its next step: not where all step at once."""

    def roles(self, start: Start, tell: Reporter) -> list[Role]:
        """A session's, in the order they get ready."""

    def step_worlds(self, due: Sequence[Role], now_s: float) -> None:
        """A step of one of these worlds or of several."""

    def let_go(self, session: int) -> None:
        """It is over."""

    def close(self) -> None: ...


class Host:
    """Runs this rank's roles in one thread: a step that is due goes before a decode that is due."""

    def __init__(self, cast: Cast, line: RankLine, lifeline: Lifeline, aside: Aside, rank: int = 0) -> None:
        self._cast, self._line, self._lifeline, self._aside, self._rank = cast, line, lifeline, aside, rank
        self._sessions: dict[int, HostedSession] = {}
        self._pictures = PictureTurns()
        self._stepped_world = False
        self._usual_s: dict[str, float] = {}  # role -> time of a step

    def run(self) -> None:
        self._line.send(Joined(roles=list(self._cast.names)))
        while not self._lifeline.stopping:
            for message in self._line.wait(self._idle_s()):
                self._handle(message)
            self._lifeline.beat()
            self._tend()
            self.step()

    def step(self) -> None:
        """The one thing that is due, or a draft that holds nothing up. Never two true steps in a row while a
        true frame waits to be shown: on a machine too slow for both, pictures would stop altogether."""
        now_s = time.monotonic()
        roles = self._playing()
        pictures = [role for role in roles if role.name != "world"]
        due = [role for role in roles if role.name == "world" and role.seconds_until_due(now_s) <= 0]
        if due and not (self._stepped_world and waits_for_true(pictures, now_s)):
            self._stepped_world = True
            self._timed(due[0], lambda: self._cast.step_worlds(due, now_s))
        elif (role := self._pictures.next(pictures, now_s)) is not None:
            self._stepped_world = False
            self._timed(role, lambda: role.step(now_s))
        elif (drafting := self._drafting(now_s)) is not None:
            drafting.draft()

    def close(self) -> None:
        self._aside.close()
        self._cast.close()

    def _timed(self, role: Role, work: Callable[[], None]) -> None:
        """Do it, within the time that it usually takes."""
        begun_s, usual_s = time.monotonic(), self._usual_s.get(role.name, 0.0)
        self._lifeline.beat(max(PATIENCE_S, _FRAMES_HUNG * usual_s, role.rarely_s))
        work()
        self._usual_s[role.name] = usual_s + _SMOOTHING * (time.monotonic() - begun_s - usual_s)

    def _playing(self) -> list[Role]:
        return [role for session in self._sessions.values() for role in session.playing]

    def _idle_s(self) -> float:
        if self._pictures.is_under_way:
            return 0.0
        now_s = time.monotonic()
        due_s = min((role.seconds_until_due(now_s) for role in self._playing()), default=math.inf)
        away = any(session.is_away for session in self._sessions.values())
        return 0.0 if self._drafting(now_s) is not None else min(_AWAY_LOOK_S if away else BEAT_S, due_s)

    def _drafting(self, now_s: float) -> Role | None:
        """The role that wants to make a draft which is done before a step is due, and holds no picture up for
        longer than a frame: the presentation catches up with that. Where several play, spare time is
        theirs."""
        if len(self._sessions) > 1 or not self._cast.drafts:
            return None
        roles = self._playing()
        until_s = (role.seconds_until_due(now_s) + (role.name != "world") / FPS for role in roles)
        spare_s = min((*until_s, _LONGEST_DRAFT_S))
        return next((role for role in roles if role.draft_s < spare_s), None)

    def _handle(self, message: ToRank) -> None:
        match message:
            case Start():
                self._open(message)
            case Begin() | Input() | Control() | Stop():
                if (session := self._sessions.get(message.session)) is not None:
                    session.tell(message, self._alone)
                    self._let_go()

    @property
    def _alone(self) -> bool:
        return len(self._sessions) == 1

    def _open(self, start: Start) -> None:
        if any(session.game != start.game for session in self._sessions.values()):
            self._see_off()
        tell = Reporter(self._line, self._lifeline, start.session, self._rank)
        roles = self._cast.roles(start, tell)
        session = HostedSession(start, roles, self._line, tell, self._aside)
        self._sessions[start.session] = session
        session.tell(start, self._alone)

    def _see_off(self) -> None:
        """Another game begins, so everybody has left: the last of them may still be at something aside, with
        the models that go now."""
        self._lifeline.beat(LOADING_S)
        for session in self._sessions.values():
            session.wait()
        self._tend()
        assert not self._sessions, "the gateway lets nobody in who wants another game than those who play"

    def _tend(self) -> None:
        for session in self._sessions.values():
            session.tend(self._alone)
        self._let_go()

    def _let_go(self) -> None:
        """Sessions that are over."""
        for number in [number for number, session in self._sessions.items() if session.over]:
            del self._sessions[number]
            self._cast.let_go(number)
