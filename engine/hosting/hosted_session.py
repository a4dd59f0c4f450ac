"""One session's roles on a rank, and what they are told.

While others play, what takes its world long (opening, beginning again) is done aside; what comes for the
world meanwhile waits for it. Whoever plays alone does it at once: nobody is held up."""

import itertools
import time
from collections import deque
from concurrent.futures import Future

from engine.errors import EngineError
from engine.hosting.aside import Aside
from engine.hosting.reporter import Reporter
from engine.hosting.role import Role
from engine.inner import Begin, Control, Input, Opened, RankLine, Start, Stop
from engine.supervision.lifeline import LOADING_S

ToSession = Start | Begin | Input | Control | Stop


class HostedSession:
    """roles: in the order they get ready. `over`: every role has ended."""

    def __init__(self, start: Start, roles: list[Role], line: RankLine, tell: Reporter, aside: Aside) -> None:
        self.game, self.roles = start.game, roles
        self._line, self._tell, self._aside = line, tell, aside
        self._playing = self._stopped = False
        self._away: Role | None = None
        self._tasks: deque[Future[Opened | None]] = deque()
        """What its role was told aside, one thing after the other; the role is back when all are done."""
        self._away_since_s = 0.0
        self._waiting: deque[ToSession] = deque()

    @property
    def playing(self) -> list[Role]:
        """Those that may step now."""
        return [role for role in self.roles if role is not self._away] if self._playing else []

    @property
    def is_away(self) -> bool:
        return self._away is not None

    @property
    def over(self) -> bool:
        return self._stopped and not self.is_away

    def tell(self, message: ToSession, alone: bool) -> None:
        """alone: nobody else is here. What is for a game that has not begun is nobody's."""
        if isinstance(message, Begin):
            self._playing = True
        if isinstance(message, Input | Control) and not self._playing:
            return
        if isinstance(message, Stop):
            self._playing, self._stopped = False, True
        for role in self.roles:
            self._pass_on(role, message, alone)

    def tend(self, alone: bool) -> None:
        """What was said aside is sent; a world that has come back hears what has waited. Raises what went
        wrong there, EngineError where it never ends."""
        finished = list(itertools.takewhile(Future.done, self._tasks))
        self._tell.post()
        if not self._tasks:
            return
        for task in finished:
            self._tasks.popleft()
            self._answer(task.result())
        if self._tasks:
            if time.monotonic() - self._away_since_s > LOADING_S:
                raise EngineError(f"a world did not begin within {LOADING_S:.0f} s: start the engine again")
            return
        role, self._away = self._away, None
        assert role is not None
        while self._waiting and not self.is_away:
            self._pass_on(role, self._waiting.popleft(), alone)

    def wait(self) -> None:
        """Until what is done aside is done."""
        for task in self._tasks:
            task.exception()

    def _pass_on(self, role: Role, message: ToSession, alone: bool) -> None:
        if role is self._away and isinstance(message, Stop):
            # Behind what it is at, and before whoever comes next: that one needs its place.
            self._waiting.clear()
            self._send_away(role, message)
        elif role is self._away:
            self._waiting.append(message)
        elif takes_long(role, message) and not alone:
            self._send_away(role, message)
        else:
            self._answer(done(role, message))

    def _send_away(self, role: Role, message: ToSession) -> None:
        self._away, self._away_since_s = role, time.monotonic()
        self._tasks.append(self._aside.start(lambda: done(role, message)))

    def _answer(self, opened: Opened | None) -> None:
        if opened is not None:
            self._line.send(opened)


def takes_long(role: Role, message: ToSession) -> bool:
    """Pictures are rendered and encoded, steps are dreamed: tenths of a second."""
    return role.name == "world" and (
        isinstance(message, Start) or (isinstance(message, Control) and message.kind in ("reset", "new_seed"))
    )


def done(role: Role, message: ToSession) -> Opened | None:
    """Have a role do what it is told."""
    now_s = time.monotonic()
    match message:
        case Start():
            return role.open(message)
        case Begin():
            role.begin(message, now_s)
        case Input():
            role.input(message, now_s)
        case Control():
            role.control(message, now_s)
        case Stop():
            role.end()
            role.close()
    return None
