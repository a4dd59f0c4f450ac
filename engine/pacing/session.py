"""What the player held, frame by frame on the game clock. Pure logic.

In the way of one frame: inputs are recorded as they arrive, the world role closes a step's window and gets
the share of it each button was held; the simulator role closes windows of one frame.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

NO_INPUT = 0
"""applied_seq of a picture that depends on no input yet; inputs count from 1."""


@dataclass(frozen=True)
class Window:
    """The buttons of frames begin to end - 1, which lead to the picture of index `end`.

    share: float32 [N], part of these frames each button was held. mask: what was held in the last of them.
    seq: newest input inside or before the window. masks: what was held in each of them.
    """

    begin: int
    end: int
    share: np.ndarray
    mask: int
    seq: int
    masks: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Event:
    frame: int
    seq: int
    held: int
    pressed: int


def as_floats(mask: int, n_buttons: int) -> np.ndarray:
    """Bit mask -> float32 [N] of 0 and 1."""
    return np.array([mask >> i & 1 for i in range(n_buttons)], np.float32)


def share_held(masks: Sequence[int], n_buttons: int) -> np.ndarray:
    """The part of these frames that each button was held, float32 [N]."""
    held = np.stack([as_floats(mask, n_buttons) for mask in masks])
    return held.mean(axis=0, dtype=np.float32)


class ButtonTimeline:
    """Inputs of one session on the game clock. An input counts from the frame in which it arrives; one
    pressed and released within a frame counts for that frame. Windows are closed in order; what arrives for a
    closed one counts for the next. A repeated or stale `seq` is a keep-alive and changes nothing."""

    def __init__(self, n_buttons: int) -> None:
        self.n_buttons = n_buttons
        self.newest_seq = NO_INPUT
        self.newest_held = 0
        self._events: deque[_Event] = deque()
        self._closed = 0  # first frame that is still open
        self._held = 0  # at the end of the last closed frame
        self._seq = NO_INPUT

    def record(self, seq: int, held: int, pressed: int, clock_index: float) -> None:
        if seq <= self.newest_seq:
            return
        known = (1 << self.n_buttons) - 1
        self.newest_seq, self.newest_held = seq, held & known
        frame = max(int(clock_index), self._closed)
        self._events.append(_Event(frame, seq, held & known, pressed & known))

    def close(self, end: int) -> Window:
        """Close the frames from the last window's end to `end` - 1."""
        window = self.assumed(end)
        while self._events and self._events[0].frame < end:
            event = self._events.popleft()
            self._held, self._seq = event.held, event.seq
        self._closed = end
        return window

    def assumed(self, end: int) -> Window:
        """What `close` would give if nothing more came: what is held now is held until the end."""
        begin = self._closed
        assert end > begin, f"window {begin}..{end}"
        held, seq, masks, events = self._held, self._seq, [], deque(self._events)
        for frame in range(begin, end):
            touched = 0
            while events and events[0].frame <= frame:
                event = events.popleft()
                touched |= event.held | event.pressed
                held, seq = event.held, event.seq
            masks.append(held | touched)
        share = share_held(masks, self.n_buttons)
        return Window(begin, end, share, masks[-1], seq, tuple(masks))

    def slipped(self, clock_index: float) -> None:
        """The game clock was set back to `clock_index`: what has come counts from there, not when it gets as
        far again."""
        frame = max(int(clock_index), self._closed)
        self._events = deque(replace(event, frame=min(event.frame, frame)) for event in self._events)

    def restart(self) -> None:
        """Game time begins again at 0; what is held stays held."""
        self._held, self._closed = self.newest_held, 0
        self._seq = self.newest_seq
        self._events.clear()
