"""Frames between true steps: the newest latents continued along the token sphere.

In the way of one frame: the decoder rank has true latents one stride apart and a frame index beyond the
newest; an estimator says what the latent there is. All estimators stand here side by side except the learned
network (engine/models/extrapolator_net.py). Latents are [..., C, H, W], each token on the sphere of radius
sqrt(C), so that an angle is sqrt(mean over channels of the squared tangent). `ratio`: time beyond the newest
latent over the time between the last two."""

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.layers import to_sphere

GAIN = 0.5
"""Share of the last motion that the gated map continues; fitted on training seeds."""
TRUST_COS = 0.3
"""Tokens whose last turn has a cosine below this hold still."""
CUT_COS = (0.1, 0.3)
"""Mean cosine between the last two latents: below the first the picture was cut, above the second it was
not."""
ERROR_RATIO = (1.4, 2.2)
"""Predicted error of moving over that of holding: trusted up to the first, held from the second on. The
network doubts itself too soon: moves it took for as bad as holding were better, on training seeds too."""
_RIDGE = 0.3


def log_map(base: Tensor, other: Tensor) -> Tensor:
    """The tangent at `base` that leads to `other` along their great circle; its length is the angle."""
    cos = (base * other).mean(-3, keepdim=True).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.arccos(cos)
    return (other - base * cos) * (angle / torch.sin(angle))


def exp_map(base: Tensor, tangent: Tensor) -> Tensor:
    """Where one arrives from `base` along `tangent`, on the sphere."""
    angle = (tangent.square().mean(-3, keepdim=True) + 1e-12).sqrt()
    return base * torch.cos(angle) + tangent * (torch.sin(angle) / angle)


def tangential(base: Tensor, vector: Tensor) -> Tensor:
    """The part of `vector` that is tangent to the sphere at `base`."""
    return vector - base * (vector * base).mean(-3, keepdim=True)


def hold(newest: Tensor) -> Tensor:
    return newest


def linear(before: Tensor, newest: Tensor, ratio: float | Tensor) -> Tensor:
    """Straight on through space, then back onto the sphere."""
    return to_sphere(newest + (newest - before) * ratio, -3)


def quadratic(oldest: Tensor, before: Tensor, newest: Tensor, ratio: float | Tensor) -> Tensor:
    """The parabola through three latents (TaylorSeer, 2503.06923), then back onto the sphere."""
    first = newest - before
    second = newest - 2 * before + oldest
    return to_sphere(newest + first * ratio + second * (ratio * (ratio + 1) / 2), -3)


def exponential(before: Tensor, newest: Tensor, ratio: float | Tensor) -> Tensor:
    """Each token goes on along its great circle, as fast as before."""
    return exp_map(newest, -log_map(newest, before) * ratio)


def exponential_in_basis(oldest: Tensor, before: Tensor, newest: Tensor, ratio: float | Tensor) -> Tensor:
    """The exponential map with its tangent projected on a local basis: the last motions of the eight
    neighbours and the token's own motion before. Latents are [B, C, H, W].

    What neighbours and past do not share is taken for noise. The projection is a ridge regression: bases of
    moving pictures are nearly degenerate."""
    b, c, h, w = newest.shape
    motion = -log_map(newest, before)
    around = F.unfold(motion, 3, padding=1).view(b, c, 9, h * w)
    past = -log_map(before, oldest).view(b, c, 1, h * w)
    basis = torch.cat((around[:, :, [0, 1, 2, 3, 5, 6, 7, 8]], past), 2).permute(0, 3, 2, 1)  # [B, HW, 9, C]
    at, own = (x.flatten(2).mT for x in (newest, motion))  # [B, HW, C]
    basis = basis - at[:, :, None] * (basis * at[:, :, None]).mean(-1, keepdim=True)
    gram = basis @ basis.mT
    ridge = _RIDGE * gram.diagonal(dim1=-2, dim2=-1).mean(-1) + 1e-4
    solved = torch.linalg.solve_ex(
        gram + ridge[..., None, None] * torch.eye(9, device=gram.device), basis @ own[..., None]
    )[0]
    projected = (basis.mT @ solved)[..., 0].mT.view(b, c, h, w)
    return exp_map(newest, projected * ratio)


def combination(oldest: Tensor, before: Tensor, newest: Tensor, coefficients: Tensor) -> Tensor:
    """A learned linear combination (after OLSS, 2503.07699), then back onto the sphere. coefficients [...,
    3]: of oldest, before, newest; for batches [B, 3]."""
    oldest_by, before_by, newest_by = coefficients[..., None, None, None].unbind(-4)
    return to_sphere(oldest * oldest_by + before * before_by + newest * newest_by, -3)


def extrapolate(
    before: Tensor, newest: Tensor, ratio: float | Tensor, gain: float = GAIN, trust_cos: float = TRUST_COS
) -> Tensor:
    """The gated exponential map: what is used where no network was trained.

    Tokens that turned far are likelier to have shown something new than to go on turning, so their motion
    counts for less, and beyond `trust_cos` they hold."""
    cos = (before * newest).mean(-3, keepdim=True)
    trust = ((cos - trust_cos) / (1 - trust_cos)).clamp(min=0)
    return exp_map(newest, -log_map(newest, before) * (gain * trust * ratio))


def uncut(before: Tensor, newest: Tensor) -> Tensor:
    """0 where the whole picture was cut between the two latents (respawn, a new level), 1 where it went on,
    between the two in between; [..., 1, 1, 1]."""
    low, high = CUT_COS
    return (((before * newest).mean((-3, -2, -1), keepdim=True) - low) / (high - low)).clamp(0, 1)


def trusted(moved_error: Tensor, held_error: Tensor) -> Tensor:
    """How much of a predicted move to make, 0 to 1, from the errors predicted for it and for holding."""
    low, high = ERROR_RATIO
    return ((high - moved_error / held_error.clamp(min=1e-6)) / (high - low)).clamp(0, 1)
