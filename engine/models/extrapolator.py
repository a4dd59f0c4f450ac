"""Frames between true steps: the newest latents continued along the token sphere.

The sphere's exponential map: each token goes on along the great circle through its last two places. A gate
damps it: tokens that turned far are likelier to have shown something new than to go on turning, so their
motion counts for less, and beyond `trust` they hold."""

import torch
from torch import Tensor

GAIN = 0.5
"""Share of the last motion that is continued; fitted on training seeds, see engine/training/LOG.md."""
TRUST_COS = 0.3
"""Tokens whose last turn has a cosine below this hold still."""


def extrapolate(
    before: Tensor, newest: Tensor, ratio: float | Tensor, gain: float = GAIN, trust_cos: float = TRUST_COS
) -> Tensor:
    """before, newest: latents [..., C, H, W] on the sphere, one step apart; ratio: time beyond the newest
    over the time between the two. Returns the latent then, on the sphere."""
    cos = (before * newest).mean(-3, keepdim=True).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.arccos(cos)
    tangent = (newest * cos - before) / torch.sin(angle)
    gate = ((cos - trust_cos) / (1 - trust_cos)).clamp(min=0)
    turn = angle * (gain * gate * ratio)
    return newest * torch.cos(turn) + tangent * torch.sin(turn)
