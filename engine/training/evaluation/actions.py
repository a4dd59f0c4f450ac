"""Does the dream do what the buttons say? The reader guesses the buttons from pictures, real and dreamed.

Counted are identifiable frames: a button was held during all of the step or none of it, and on the real
pictures of the same step the reader is sure (its chance is beyond 0.1 or 0.9). Balanced accuracy: the mean of
the shares right among frames with the button held and among those without."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.training.evaluation.figures import rounded

SURE = 0.9
FEWEST = 10
"""Frames with and without the button that an accuracy needs."""
TRUSTED = 0.85
"""Below this accuracy on real pictures the reader says nothing about dreams."""


def balanced_accuracy(guessed: Tensor, held: Tensor) -> float | None:
    """Both bool [T]; None where there are too few frames of either kind."""
    if min(int(held.sum()), int((~held).sum())) < FEWEST:
        return None
    right = (guessed == held).float()
    return float(right[held].mean() + right[~held].mean()) / 2


@dataclass
class ActionFollowing:
    """Gathers steps; each list holds tensors [T, N]."""

    names: tuple[str, ...]
    shares: list[Tensor] = field(default_factory=list)
    real: list[Tensor] = field(default_factory=list)
    dream: list[Tensor] = field(default_factory=list)

    def add(self, shares: np.ndarray, real: Tensor, dream: Tensor) -> None:
        """shares: of each step each button was held; real, dream: the reader's chances on its pictures."""
        self.shares.append(torch.from_numpy(shares))
        self.real.append(real)
        self.dream.append(dream)

    def result(self) -> tuple[dict[str, dict[str, Any]] | None, float | None, list[str]]:
        """Per button {real, dream, ratio, frames held and free}; the least ratio; notes on what is
        missing."""
        if not self.shares:
            return None, None, []
        shares, real, dream = (torch.cat(column) for column in (self.shares, self.real, self.dream))
        accuracy: dict[str, dict[str, Any]] = {}
        ratios, notes = [], []
        for i, name in enumerate(self.names):
            whole = (shares[:, i] == 0) | (shares[:, i] == 1)
            sure = (real[:, i] > SURE) | (real[:, i] < 1 - SURE)
            at = whole & sure
            held = shares[at, i] == 1
            on_real = balanced_accuracy(real[at, i] > 0.5, held)
            on_dream = balanced_accuracy(dream[at, i] > 0.5, held)
            ratio = None
            if on_real is None or on_dream is None:
                notes.append(f"{name}: fewer than {FEWEST} identifiable frames held or free; use more seeds")
            elif on_real < TRUSTED:
                notes.append(f"{name}: the reader tells it on {on_real:.0%} of real frames, too few to judge")
            else:
                ratio = on_dream / on_real
                ratios.append(ratio)
            accuracy[name] = {
                "real": rounded(on_real),
                "dream": rounded(on_dream),
                "ratio": rounded(ratio),
                "held": int(held.sum()),
                "free": int((~held).sum()),
            }
        return accuracy, rounded(min(ratios)) if ratios else None, notes
