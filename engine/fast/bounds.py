"""What a dream tells of itself is kept to what telemetry can be.

A world model is told at every step what it told before. Telemetry that it never met in training, a sine and a
cosine of no angle, a road more curved than any, it answers with more of the same, until the dream ends in
mush. So numbers are kept within their range, and pairs that are sine and cosine of one angle
(GameSpec.circles) on their circle; what is hardly off is left as it is. An event that counts the whole units
of a count (GameSpec.whole_units) happens when one is full, not when the model says so: once told of a lap, it
told of another at every step.

In the way of a frame: between what the world model made and what is filed of it, see Dream."""

import numpy as np

from engine.models.telemetry import MOST, TelemetryScale
from engine.without import without
from games.spec import GameSpec

OFF = 0.03
"""So far off, in halves of a field's range or in radii, and it is put right."""


class Bounds:
    """Of one game's telemetry; with DREAMCADE_WITHOUT=bounds all is told as the model does."""

    def __init__(self, spec: GameSpec) -> None:
        self._on = "bounds" not in without()
        self._most = np.array([MOST[field.kind] for field in spec.telemetry], np.float32)
        pairs = [[spec.field_index(name) for name in pair] for pair in spec.circles]
        self._pairs = np.array(pairs, np.int64).reshape(-1, 2)
        self._whole_units = [[spec.field_index(name) for name in pair] for pair in spec.whole_units]
        self._bound = TelemetryScale(spec.telemetry).bound.numpy()

    def kept(self, told: np.ndarray) -> np.ndarray:
        """told [F] in model's terms, itself where it is possible."""
        radii = np.hypot(*told[self._pairs].T)
        off = np.abs(radii - 1) > OFF
        if not self._on or not (off.any() or (np.abs(told) > self._most + OFF).any()):
            return told
        kept = told.copy()
        kept[self._pairs[off]] /= np.maximum(radii[off, None], 1e-3)
        beyond = np.abs(kept) > self._most + OFF
        return np.where(beyond, np.clip(kept, -self._most, self._most), kept)

    def counted(
        self, told: np.ndarray, totals: np.ndarray, before: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """told [F] in model's terms and the totals [F] in units after the step, put right; they themselves
        where they tell of all that happened and of nothing else. before: the totals [F] before the step."""
        for event, count in self._whole_units if self._on else ():
            change = max(np.floor(totals[count]) - before[event], 0)
            if change != totals[event] - before[event]:
                told, totals = told.copy(), totals.copy()
                told[event], totals[event] = change / self._bound[event], before[event] + change
        return told, totals
