"""A dream at one step."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Snapshot:
    """All of a step but its ring: latent [C, H, W]; told [F], its telemetry in model's terms; totals [F], the
    same in units, counts and events as running totals. float32."""

    latent: np.ndarray
    told: np.ndarray
    totals: np.ndarray
