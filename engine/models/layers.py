"""Building blocks shared by the autoencoder and the world model, and the token sphere they meet on."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def to_sphere(x: Tensor, dim: int = -1) -> Tensor:
    """Each token scaled to radius sqrt(C), C = x.shape[dim]: unit mean square per channel."""
    return x * torch.rsqrt(x.square().mean(dim, keepdim=True) + 1e-6)


def perturb_on_sphere(z: Tensor, sigma: Tensor | float, noise: Tensor, dim: int = -1) -> Tensor:
    """z moved along the sphere by tangential noise of root mean square `sigma` per channel."""
    tangent = noise - z * (noise * z).mean(dim, keepdim=True)
    return to_sphere(z + sigma * tangent, dim)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension; no bias. `affine=False` leaves the scale to the
    caller."""

    def __init__(self, width: int, affine: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        return y if self.scale is None else y * self.scale


class ChannelNorm(nn.Module):
    """RMS norm over the channels of [B, C, H, W], for the encoder (the decoder has no norms, so that it
    splits exactly)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6) * self.scale.view(-1, 1, 1)


class ConvBlock(nn.Module):
    """x + conv(silu(conv(x))): a residual block of two 3x3 convolutions, the second one starting at zero."""

    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        self.norm = ChannelNorm(width) if norm else nn.Identity()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(self.norm(x))))


def rotary(positions: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """cos and sin of rotary angles, each [..., head_width / 2] for positions [...] in steps (RoFormer,
    2104.09864).

    Angles are taken in float64: positions grow for as long as somebody plays.
    """
    half = head_width // 2
    rates = torch.exp(
        torch.arange(half, dtype=torch.float64, device=positions.device) * (-math.log(100.0) / half)
    )
    angles = positions.to(torch.float64)[..., None] * rates
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., head_width] turned by the angles; cos, sin broadcast over x's halves."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)
