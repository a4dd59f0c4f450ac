"""When a received picture goes to the screen, and how long the loop may sleep before it looks at the keys
again."""

INPUT_TICK_S, PAUSED_TICK_S = 1 / 240, 1 / 60
"""The loop never sleeps longer than this, so a key waits at most this long for its message."""

_ALPHA = 0.2
_GAP_S = 0.25
_HOLD = 0.75
_MAX_HOLD_S = 0.05


class Pacer:
    """Evens out bursts without a buffer: a picture that comes early after the last one is held for part of
    the usual interval; a newer one replaces it. All times in seconds on one monotonic clock."""

    def __init__(self) -> None:
        self._interval_s = 0.0
        self._last_arrival_s: float | None = None
        self._last_shown_s: float | None = None

    @property
    def interval_s(self) -> float:
        """Moving average of the time between arrivals; 0 until known."""
        return self._interval_s

    def arrived(self, now_s: float) -> None:
        """Note that a picture arrived. A big gap (a pause, a lost link) starts the average anew."""
        if self._last_arrival_s is not None:
            gap_s = now_s - self._last_arrival_s
            if gap_s > _GAP_S:
                self._interval_s = 0.0
            elif self._interval_s == 0.0:
                self._interval_s = gap_s
            else:
                self._interval_s += _ALPHA * (gap_s - self._interval_s)
        self._last_arrival_s = now_s

    def due_s(self, received_s: float) -> float:
        """When a picture received at `received_s` is to be shown."""
        if self._last_shown_s is None:
            return received_s
        return max(received_s, self._last_shown_s + min(_HOLD * self._interval_s, _MAX_HOLD_S))

    def shown(self, now_s: float) -> None:
        self._last_shown_s = now_s

    def sleep_s(self, now_s: float, waiting_received_s: float | None, tick_s: float = INPUT_TICK_S) -> float:
        """How long to sleep: until the waiting picture is due or the next look at the keys, whichever is
        first."""
        if waiting_received_s is None:
            return tick_s
        return min(tick_s, max(0.0, self.due_s(waiting_received_s) - now_s))
