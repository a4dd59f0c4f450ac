"""A rank that shares another's work: does what its leader orders, and shows that it lives.

It hears nothing from the gateway. What it loads, when, and what it computes comes from the first rank of its
crew (engine/fast/orders.py)."""

from collections.abc import Callable

from engine.fast.leading import Follower
from engine.fast.orders import Kind, OrderInbox
from engine.supervision.lifeline import BEAT_S, CREW_PATIENCE_S, LOADING_S, Lifeline
from games import GAMES


class FollowingRank:
    """make: this rank's share of a game's world or decoder, loaded when the leader loads its own."""

    def __init__(self, make: Callable[[str], Follower], inbox: OrderInbox, lifeline: Lifeline) -> None:
        self._make, self._inbox, self._lifeline = make, inbox, lifeline
        self._own: Follower | None = None

    def run(self) -> None:
        """Until stopped. Raises LeaderGone, WeightsError."""
        while not self._lifeline.stopping:
            self._lifeline.beat()
            self.step()

    def step(self) -> None:
        """The next order, if one comes soon."""
        if (order := self._inbox.next(BEAT_S)) is None:
            return
        if order.kind == Kind.OPEN:
            self._lifeline.beat(LOADING_S)
            self._own = None  # the memory first
            self._own = self._make(list(GAMES)[order.number])
            return
        assert self._own is not None
        self._lifeline.beat(CREW_PATIENCE_S)
        self._own.obey(order)
