"""The game clock and what is decided by it. Pure logic: times come in as numbers, nothing here sleeps.

    GameClock       monotonic seconds -> game time in frames (1/60 s)
    StepPace        measured times -> stride, and whether the clock must slip
    LagChooser      how late true frames come -> how far the presentation clock trails

In the way of one frame: a step runs when the clock passes the end of its button window (`world_worker`), and
the decoder shows the index that is due on the same clock, `lag` frames later (`presentation`).
"""

import math
from collections import deque

FPS = 60
MAX_STRIDE = 8
MAX_LAG = 4


class GameClock:
    """Game time in frames since the epoch's start, as a function of monotonic seconds. Starts paused at 0."""

    def __init__(self) -> None:
        self.paused = True
        self._index = 0.0  # at _since_s
        self._since_s = 0.0

    def index(self, now_s: float) -> float:
        return self._index if self.paused else self._index + (now_s - self._since_s) * FPS

    def set(self, index: float, now_s: float) -> None:
        """Jump to `index`; running or paused stays as it is."""
        self._index, self._since_s = index, now_s

    def pause(self, now_s: float) -> None:
        self.set(self.index(now_s), now_s)
        self.paused = True

    def resume(self, now_s: float) -> None:
        self.set(self.index(now_s), now_s)
        self.paused = False

    def seconds_until(self, index: float, now_s: float) -> float:
        """Until game time `index`: at most 0 when it has come, infinite when it never will by itself."""
        frames = index - self.index(now_s)
        return math.inf if self.paused and frames > 0 else frames / FPS


class FollowedClock(GameClock):
    """Another process's game clock, known only through messages "now it is this late" (durations, never
    times).

    A message can arrive late but not early, so the furthest-ahead one is believed and the others pull gently.
    """

    TOLERANCE = 2.0  # frames; further off means that the other clock slipped, or that we knew nothing yet
    PULL = 0.05  # of the difference, per message

    def heard(self, index: float, now_s: float) -> None:
        """The other clock showed `index` when the message that arrived `now_s` was sent."""
        ahead = index - self.index(now_s)
        if ahead >= 0 or -ahead > self.TOLERANCE or self.paused:
            self.set(index, now_s)
        else:
            self.set(self.index(now_s) + self.PULL * ahead, now_s)


class StepPace:
    """Chooses the smallest stride that holds real time, from measured step and decode times, with hysteresis.

    fixed: 1 to 8 keeps that stride, 0 chooses. smallest: the least stride whose long play is good.
    shown_floor: decodes per second that must fit beside the steps when both share the same cores. turns: how
    many sessions take them there, one after the other: each must fit so often into its own time.
    """

    ROOM = 0.92  # of the wall time may be planned; the rest is transport and the operating system's
    LOWER_ROOM = 0.7  # a smaller stride must fit this well before it is taken
    LOWER_AFTER_S = 3.0

    def __init__(self, fixed: int = 0, smallest: int = 1, shown_floor: float = 30.0) -> None:
        assert 0 <= fixed <= MAX_STRIDE and 1 <= smallest <= MAX_STRIDE
        self._fixed, self._smallest, self._shown_floor = fixed, smallest, shown_floor
        self._step_s: deque[float] = deque(maxlen=9)
        self._fits_since_s: float | None = None
        self._changing = 1.0  # share of the windows; the worst until it is known
        self.stride = fixed or smallest

    @property
    def slow_step_s(self) -> float:
        """What nearly every step takes: the slowest but one of the last."""
        return sorted(self._step_s)[-2:][0] if self._step_s else 0.0

    def drafts_fit(self, decode_s: float) -> bool:
        """Whether steps, those taken again because buttons changed, and the decodes beside them hold real
        time."""
        decodes = max(1.0, self._shown_floor * self.stride / FPS)
        steps = (1 + self._changing) * self.step_s
        return self.stride > 1 and steps + decode_s * decodes <= self.ROOM * self.stride / FPS

    @property
    def step_s(self) -> float:
        """Median of the last steps' times."""
        return sorted(self._step_s)[len(self._step_s) // 2] if self._step_s else 0.0

    def observe(self, step_s: float) -> None:
        self._step_s.append(step_s)

    def observe_buttons(self, changed: bool) -> None:
        """Whether buttons changed while a window was open."""
        self._changing += 0.1 * (changed - self._changing)

    def fitting(self, decode_s: float, room: float = ROOM, turns: int = 1) -> int:
        """The smallest stride whose steps, and the decodes beside them, fit in `room` of its time; else the
        largest.
        decode_s: of one decode on the same cores, 0 when the decoder has its own."""
        for stride in range(self._smallest, MAX_STRIDE):
            decodes = max(1.0, self._shown_floor * stride / FPS)
            if turns * (self.step_s + decode_s * decodes) <= room * stride / FPS:
                return stride
        return MAX_STRIDE

    def choose(self, decode_s: float, now_s: float, turns: int = 1) -> int:
        """The next step's stride. Up at once when time is not held, down by one when it long would be."""
        if self._fixed or not self._step_s:
            return self.stride
        if (needed := self.fitting(decode_s, turns=turns)) > self.stride:
            self.stride, self._fits_since_s = needed, None
        elif self.stride > self._smallest and self.fitting(decode_s, self.LOWER_ROOM, turns) < self.stride:
            self._fits_since_s = now_s if self._fits_since_s is None else self._fits_since_s
            if now_s - self._fits_since_s >= self.LOWER_AFTER_S:
                self.stride, self._fits_since_s = self.stride - 1, None
        else:
            self._fits_since_s = None
        return self.stride

    def slip_to(self, clock_index: float, next_window_end: int) -> float | None:
        """Where the clock must be set back to, when steps are hopelessly behind; None while they can catch
        up. A slip also takes a larger stride: the median step looks quick where the slow ones come in
        bursts."""
        if clock_index - next_window_end <= 2 * self.stride:
            return None
        if not self._fixed:
            self.stride, self._fits_since_s = min(self.stride + 1, MAX_STRIDE), None
        return float(next_window_end)


class LagChooser:
    """Frames by which the presentation clock trails the game clock, so that true frames come in time.

    Fed with each true frame's lateness: from its index on the game clock to its picture, in frames.
    """

    TOLERANCE = 0.75  # frames; the presentation keeps a true frame's place for a little more than this

    def __init__(self, first: int = 0) -> None:
        self.lag = min(first, MAX_LAG)
        self.saturated = False
        self._late: deque[int] = deque(maxlen=60)

    def observe(self, lateness: float) -> None:
        self._late.append(max(0, math.ceil(lateness - self.TOLERANCE)))
        recent = sorted(list(self._late)[-8:])
        typical = recent[len(recent) * 3 // 4] if len(recent) >= 4 else self.lag
        self.saturated = typical > MAX_LAG
        if typical > self.lag:
            self.lag = min(typical, MAX_LAG)
        elif len(self._late) == 60 and (worst := sorted(self._late)[53]) < self.lag:
            self.lag = worst
            self._late.clear()
