"""What a dream was made from: an epoch's beginning, then every true step with the buttons of its frames.

The simulator beside a dream follows this log, a recording keeps it, and `engine.verify` dreams it again.
"""

import hashlib

import numpy as np

from engine.pacing.session import Window
from engine.protocol import Beginning, TrueStep

SKETCH = 32  # values of a latent that are kept to tell how far off another one is


def latent_hash(latents: np.ndarray) -> str:
    """BLAKE2b, 8 bytes as hex, of a latent's float32 values (or of several in order)."""
    return hashlib.blake2b(np.ascontiguousarray(latents, np.float32).tobytes(), digest_size=8).hexdigest()


def sketch(latent: np.ndarray) -> list[float]:
    """SKETCH of the values of latent [C, 10, 15], spread evenly over it."""
    flat = np.asarray(latent, np.float32).ravel()
    return flat[:: max(flat.size // SKETCH, 1)][:SKETCH].tolist()


def step_entry(epoch: int, step: int, window: Window, latent: np.ndarray, hashed: bool) -> TrueStep:
    """The log's entry of a step. hashed: with its hash and sketch."""
    return TrueStep(
        epoch=epoch,
        step=step,
        index=window.end,
        buttons=list(window.masks),
        latent_hash=latent_hash(latent) if hashed else "",
        sketch=sketch(latent) if hashed else [],
    )


class StepLog:
    """The present epoch's log, as the gateway keeps it: some ten megabytes an hour."""

    def __init__(self) -> None:
        self.entries: list[Beginning | TrueStep] = []

    def add(self, entry: Beginning | TrueStep) -> None:
        """Hashes and sketches are not kept: who follows the log needs the buttons only."""
        if isinstance(entry, Beginning):
            self.entries = [entry]
        else:
            self.entries.append(
                TrueStep(epoch=entry.epoch, step=entry.step, index=entry.index, buttons=entry.buttons)
            )
