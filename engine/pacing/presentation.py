"""Which picture is shown next: a true frame at its own index, or one filled in between. Pure logic.

In the way of one frame: latents arrive from the world, the clock says which index is due, `choose` says what
to decode for it. Indices never decrease; a filled frame reaches at most twice as far beyond the newest true
one as the next true one is.
"""

import math
from collections import deque
from dataclasses import dataclass

from engine.pacing.clock import FPS, MAX_LAG, GameClock, LagChooser


@dataclass(frozen=True)
class Choice:
    """Show `index`: the true frame of that index, or one extrapolated from the true frame `base` < index."""

    index: int
    base: int

    @property
    def ahead(self) -> int:
        return self.index - self.base


@dataclass(frozen=True)
class Turn:
    """Whose frame an index is, where decoder ranks take turns: own, own + of, ... are this one's."""

    own: int = 0
    of: int = 1

    def has(self, index: int) -> bool:
        return index % self.of == self.own

    def at_most(self, index: int) -> int:
        return index - (index - self.own) % self.of

    def at_least(self, index: int) -> int:
        return index + (self.own - index) % self.of


EVERY_FRAME = Turn()


class Presentation:
    """One epoch's presentation clock. `decode_s`: measured time of one decode, kept by the caller; turn: the
    indices that are shown from here, when several ranks share them; fills: False shows true frames alone, for
    ablations."""

    KEPT = 4  # newest true frames
    QUICK = 0.8  # frames; a decoder that takes no longer shows a skipped index late rather than never

    def __init__(
        self, clock: GameClock, lag: LagChooser, turn: Turn = EVERY_FRAME, fills: bool = True
    ) -> None:
        self._clock, self._lag, self._turn, self._fills = clock, lag, turn, fills
        self._trues: deque[tuple[int, int]] = deque(maxlen=self.KEPT)  # (index, that of the next one)
        self._shown = -1
        self.decode_s = 0.0

    @property
    def lag(self) -> int:
        return self._lag.lag

    def arrived(self, index: int, next_index: int, now_s: float) -> None:
        """The true latent of `index` is here; the one after it will be `next_index`'s."""
        self._trues.append((index, next_index))
        if index and not self._clock.paused:
            self._lag.observe(self._clock.index(now_s) - index + self.decode_s * FPS)

    def drafted(self, took_s: float) -> None:
        """A draft has come that took so long: the lag shall be such that a draft begun at a true frame's own
        index serves the frame after it."""
        if not self._clock.paused:
            self._lag.observe((took_s + self.decode_s) * FPS - 1 + LagChooser.TOLERANCE)

    def choose(self, now_s: float) -> Choice | None:
        """What to decode now; None when nothing is due.

        The index is the one due when the decode will be done, or the one before it where a step held that up
        and a quick decoder will soon have caught up. A true frame goes first, and a little early
        rather than late: where a decode takes longer than a frame, filling in before it would push it back.
        Its place is kept free for a frame's time, so that the lag need not cover the last fraction of one.
        """
        due = self._caught_up(self._exactly_due(now_s))
        true = self._unshown_true(due)
        if true is not None:
            early = true - due
            if early <= 0 or early < self.decode_s * FPS or self._clock.paused:
                return Choice(true, true)
        if (base := self._base(due)) is None or self._clock.paused or not self._fills:
            return None
        index = self._turn.at_most(min(due, self._furthest(base, due)))
        index -= self._turn.of * (index == base[1])  # the next true frame's own place
        return Choice(index, base[0]) if index > max(self._shown, base[0]) else None

    def shown(self, choice: Choice) -> None:
        self._shown = choice.index

    def seconds_until_due(self, now_s: float) -> float:
        """Until `choose` has something, as far as the clock alone decides; a new latent may come first."""
        if self.choose(now_s) is not None:
            return 0.0
        if self._clock.paused or not self._trues:
            return math.inf
        wanted = self._turn.at_least(max(self._shown, self._trues[0][0]) + 1)
        base = self._base(wanted)
        if not self._fills:
            wanted = self._trues[-1][0]
            if wanted <= self._shown:
                return math.inf
        elif base is not None:
            here = any(index == wanted for index, _ in self._trues)
            wanted += self._turn.of * (wanted == base[1] and not here)
            if wanted > self._furthest(base, wanted):
                true = self._unshown_true(math.floor(self._exactly_due(now_s)))
                if true is None:
                    return math.inf
                wanted = true
        return max(0.0005, self._clock.seconds_until(wanted + self.lag, now_s) - self.decode_s)

    def _exactly_due(self, now_s: float) -> float:
        """The index, with its fraction, of the moment when a decode begun now will be done."""
        decode = 0.0 if self._clock.paused else self.decode_s * FPS
        return self._clock.index(now_s) + decode - self.lag + 1e-6

    def _caught_up(self, exact: float) -> int:
        """What is due, or the index before it if that was skipped and showing it late costs no later one. A
        true frame does not wait for it where it would be a frame late then, or always is late."""
        due = math.floor(exact)
        true = self._unshown_true(due)
        if self._turn.of > 1 or self._shown < 0 or self.decode_s * FPS > self.QUICK:
            return due
        if true is not None and (self.lag >= MAX_LAG or exact + self.decode_s * FPS - true > 1):
            return due
        return min(due, max(self._shown + 1, due - 1))

    def _unshown_true(self, due: int) -> int | None:
        """The newest true frame's index that is shown from here and due, or the next one, if it still can be:
        not once one of another rank's is due. A game that stands still shows the newest."""
        coming = None
        for index, _ in reversed(self._trues):
            if self._turn.has(index):
                if index <= self._shown:
                    return coming
                if index <= due or self._clock.paused:
                    return index
                coming = index
            elif index <= due:
                return coming
        return coming

    def _base(self, due: int) -> tuple[int, int] | None:
        """The newest true frame before `due`."""
        return next((true for true in reversed(self._trues) if true[0] < due), None)

    def _furthest(self, base: tuple[int, int], due: int) -> int:
        """The last index that may be filled in beyond a true frame: up to the next one's place, further once
        that one is a whole frame late. Where true frames always come later than the largest lag allows, never
        further, so that they can still be shown at their own index."""
        index, following = base
        late = due > following and not self._lag.saturated
        return 2 * following - index if late else following - 1
