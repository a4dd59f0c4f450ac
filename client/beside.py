"""The simulator beside the dream: what it plays, how far it is behind, how alike the two pictures are.

The engine's simulator plays the same seed with the same buttons, frame for frame. Both pictures of one frame
index are compared here; after some seconds the two worlds part, and that is said.
"""

from collections import OrderedDict, deque
from typing import Any

import numpy as np

from client.connection import Picture
from client.latency import percentile
from engine.protocol import BesideState, Frame

PARTED_DB = 17.0
"""Below this two pictures are hardly more alike than pictures of different places in one world."""
_PARTED_AFTER = 12  # comparisons in a row, about a second
_EVERY_PX = 4  # compared at a quarter of the size
_FAR_BEHIND = 120  # frames
_REMEMBERED = 90  # frames of the dream


class BesideView:
    """`on`: wanted by the player. `picture`: the simulator's newest; shown: how many there were. alike_db:
    PSNR of the newest frame that both have shown, None until there is one. parted_at: the frame at which they
    were seen to have parted."""

    def __init__(self) -> None:
        self.on = False
        self.picture: Picture | None = None
        self.alike_db: float | None = None
        self.parted_at: int | None = None
        self._epoch = self.shown = 0
        self._state: BesideState | None = None
        self._dreamed: OrderedDict[int, np.ndarray] = OrderedDict()
        self._recent_db: deque[float] = deque(maxlen=_PARTED_AFTER)
        self._behind: list[int] = []
        self._first_s = self._last_s = 0.0

    def toggle(self) -> bool:
        self.on = not self.on
        self._forget(self._epoch)
        return self.on

    def told(self, state: BesideState) -> None:
        """How the engine gets on with it. Where it stopped there is nothing to show."""
        self._state = state
        self.on = self.on and state.state != "stopped"

    def dreamed(self, picture: Picture) -> None:
        """A picture of the dream was received."""
        if not self.on or picture.frame.beside:
            return
        if picture.frame.epoch != self._epoch:
            self._forget(picture.frame.epoch)
        if picture.frame.kind == "true":
            self._dreamed[picture.frame.index] = _small(picture)
            if len(self._dreamed) > _REMEMBERED:
                self._dreamed.popitem(last=False)

    def simulated(self, picture: Picture) -> None:
        """A picture of the simulator was received."""
        if not self.on or picture.frame.epoch < self._epoch:
            return
        if picture.frame.epoch > self._epoch:
            self._forget(picture.frame.epoch)
        self.picture = picture
        self._state = None
        self._count(picture)
        dreamed = self._dreamed.get(picture.frame.index)
        if dreamed is not None:
            self._compare(picture, dreamed)

    def waiting(self, dream: Frame) -> str | None:
        """What is done before there is a picture of now; None when there is."""
        behind = 0 if self.picture is None else dream.index - self.picture.frame.index
        if self._state is not None and self._state.state == "catching up":
            return f"catching up with the dream: {self._state.fraction * 100:.0f} %"
        if behind > _FAR_BEHIND:
            return f"catching up with the dream: {behind} frames behind"
        return "starting the simulator" if self.picture is None else None

    def status(self, dream: Frame) -> str:
        """One line about the simulator: what it does, or how far behind the dream's frame it is."""
        if self._state is not None and self._state.state == "catching up":
            return f"catching up, {self._state.fraction * 100:.0f} %"
        if self.picture is None:
            return "starting"
        behind = max(dream.index - self.picture.frame.index, 0)
        return f"{behind} frame{'s' * (behind != 1)} behind"

    def result(self) -> dict[str, Any]:
        """For the JSON of play: how much of the simulator was shown, how far behind its pictures came."""
        span_s = self._last_s - self._first_s
        return {
            "frames": self.shown,
            "fps": round((self.shown - 1) / span_s, 3) if span_s > 0 else 0.0,
            "behind_frames_p50": percentile([float(behind) for behind in self._behind], 50),
            "alike_db": None if self.alike_db is None else round(self.alike_db, 2),
            "parted_at_frame": self.parted_at,
        }

    def _count(self, picture: Picture) -> None:
        self._first_s = self._first_s or picture.received_s
        self._last_s = picture.received_s
        self.shown += 1
        if self._dreamed:
            self._behind.append(max(next(reversed(self._dreamed)) - picture.frame.index, 0))

    def _compare(self, picture: Picture, dreamed: np.ndarray) -> None:
        error = np.square(_small(picture).astype(np.float32) - dreamed).mean()
        self.alike_db = float(10 * np.log10(255.0**2 / max(float(error), 1e-3)))
        self._recent_db.append(self.alike_db)
        full = len(self._recent_db) == _PARTED_AFTER
        if self.parted_at is None and full and max(self._recent_db) < PARTED_DB:
            self.parted_at = picture.frame.index

    def _forget(self, epoch: int) -> None:
        """Another beginning."""
        self._epoch = epoch
        self.picture = self.alike_db = self.parted_at = self._state = None
        self._dreamed.clear()
        self._recent_db.clear()


def _small(picture: Picture) -> np.ndarray:
    """uint8 [H/4, W/4, 3], a copy."""
    shape = (picture.frame.height, picture.frame.width, 3)
    pixels = np.frombuffer(picture.pixels, np.uint8).reshape(shape)
    return np.ascontiguousarray(pixels[::_EVERY_PX, ::_EVERY_PX])
