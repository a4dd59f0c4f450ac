"""How late a picture answers a key. Pure arithmetic on times that are passed in, in seconds."""

from collections import deque

_PERCENTILES = (50, 95, 99)


def percentile(values: list[float], percent: float) -> float | None:
    """Linear interpolation between the two nearest of `values`; None when there are none."""
    if not values:
        return None
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def percentiles_ms(values_ms: list[float]) -> dict[str, float | None]:
    """{"p50", "p95", "p99"}, rounded to 0.01 ms."""
    result: dict[str, float | None] = {}
    for percent in _PERCENTILES:
        value = percentile(values_ms, percent)
        result[f"p{percent}"] = None if value is None else round(value, 2)
    return result


class LatencyMeter:
    """From an input to the picture that claims it: an input is answered by the first frame whose applied_seq
    is its seq or a later one."""

    def __init__(self) -> None:
        self.samples_ms: list[float] = []
        self._pending: deque[tuple[int, float]] = deque()

    def input(self, seq: int, time_s: float) -> None:
        self._pending.append((seq, time_s))

    def shown(self, applied_seq: int, now_s: float) -> None:
        while self._pending and self._pending[0][0] <= applied_seq:
            self.samples_ms.append((now_s - self._pending.popleft()[1]) * 1000.0)

    def forget_pending(self) -> None:
        """A pause or a new start: inputs on their way will not be answered in a meaningful time."""
        self._pending.clear()
