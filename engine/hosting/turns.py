"""Whose turn it is among the sessions of a rank. Pure logic: roles say when they are due."""

from collections import deque
from collections.abc import Sequence

from engine.hosting.role import Role, owes_true_frame


class PictureTurns:
    """Whoever's picture is due gets one before anybody gets another; among them true frames go first."""

    def __init__(self) -> None:
        self._round: deque[Role] = deque()

    @property
    def is_under_way(self) -> bool:
        return bool(self._round)

    def next(self, roles: Sequence[Role], now_s: float) -> Role | None:
        """One that is due, or was when the round began; None when nobody is."""
        here = {id(role) for role in roles}
        while self._round:
            if id(role := self._round.popleft()) in here:
                return role
        due = [role for role in roles if role.seconds_until_due(now_s) <= 0]
        self._round.extend(sorted(due, key=owes_true_frame, reverse=True))
        return self._round.popleft() if self._round else None


def waits_for_true(roles: Sequence[Role], now_s: float) -> bool:
    """Whether a true frame is due from one of them."""
    return any(role.seconds_until_due(now_s) <= 0 and owes_true_frame(role) for role in roles)


def step_first_closed(worlds: Sequence[Role], now_s: float) -> None:
    """A step of the world whose button window closed first. worlds: at least one, all of them due."""
    min(worlds, key=lambda world: world.seconds_until_due(now_s)).step(now_s)
