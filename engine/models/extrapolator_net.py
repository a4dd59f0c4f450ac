"""The learned extrapolator: a small convolutional network on the last two latents, the newest buttons and the
time ahead. It sees keys that no true step has seen yet.

The network's output is a tangent at the newest latent and a gain on the last motion, so that the exponential
map is its base and hold what it does when it knows nothing; it also predicts its own error and hold's, by
which the move is trusted, damped or dropped. Geometry stays in float32 outside of the quick twins' graph,
which holds `Heads` of `forward` only."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.config import GameConfig
from engine.models.extrapolator import exp_map, log_map, tangential, trusted, uncut

MAX_STRIDE = 8
_TOLD = 48
TIMES = 4
"""Numbers that tell the network the time: see `time_features`."""


class Heads(NamedTuple):
    """push [B, C, H, W] (tangent per ratio, not yet projected), gain [B, 1, H, W] on the last motion,
    log_errors [B, 2, H, W]: of the squared errors expected of moving and of holding."""

    push: Tensor
    gain: Tensor
    log_errors: Tensor


class Block(nn.Module):
    """Residual: 3x3 convolution, conditions and the picture's mean added in, SiLU, 1x1 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.mean = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """x [B, W, H, W']; scale, shift [B, W, 1, 1]."""
        seen = self.mean(x.mean((2, 3), keepdim=True))
        return x + self.out(F.silu(self.conv(x) * (1 + scale) + shift + seen))


class ExtrapolatorNet(nn.Module):
    """About 0.6 M parameters at the shipped sizes."""

    coefficients: Tensor

    def __init__(self, config: GameConfig) -> None:
        super().__init__()
        world, own = config.world, config.extrapolator
        self.channels, self.blocks_count = world.channels, own.blocks
        self.stem = nn.Conv2d(2 * world.channels, own.width, 1)
        self.place = nn.Parameter(torch.zeros(own.width, world.rows, world.columns))
        self.told = nn.Linear(world.buttons + TIMES, _TOLD)
        self.conditions = nn.Linear(_TOLD, 2 * own.width * own.blocks)
        self.blocks = nn.ModuleList(Block(own.width) for _ in range(own.blocks))
        self.head = nn.Conv2d(own.width, world.channels + 3, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        # The linear combination's table: [two or three latents at hand, stride - 1, frames ahead - 1, 3].
        hold = torch.tensor([0.0, 0.0, 1.0]).expand(2, MAX_STRIDE, 2 * MAX_STRIDE, 3)
        self.register_buffer("coefficients", hold.clone())

    def forward(self, motion: Tensor, newest: Tensor, told: Tensor) -> Heads:
        """motion: the last motion as a tangent at newest, both [B, C, H, W]; told [B, N + TIMES]."""
        x = self.stem(torch.cat((newest, motion), 1)) + self.place
        conditions = self.conditions(F.silu(self.told(told)))[..., None, None]
        for block, condition in zip(self.blocks, conditions.chunk(self.blocks_count, 1)):
            x = block(x, *condition.chunk(2, 1))
        push, gain, log_errors = self.head(F.silu(x)).split((self.channels, 1, 2), 1)
        return Heads(push, gain, log_errors)

    def combined(self, strides: Tensor, aheads: Tensor, deep: Tensor) -> Tensor:
        """The table's coefficients [B, 3] for strides, aheads [B] in frames; deep [B] bool: three latents."""
        stride = strides.round().long().clamp(1, MAX_STRIDE) - 1
        ahead = aheads.round().long().clamp(1, 2 * MAX_STRIDE) - 1
        return self.coefficients[deep.long(), stride, ahead]


def last_motion(before: Tensor, newest: Tensor) -> Tensor:
    """Tangent at newest, [B, C, H, W]: the last motion, going on."""
    return -log_map(newest, before)


def time_features(buttons: Tensor, strides: Tensor, aheads: Tensor) -> Tensor:
    """What the network is told, [B, N + TIMES]. buttons [B, N] 0 or 1; strides, aheads [B] frames."""
    ratio = aheads / strides
    times = torch.stack((strides / 8, aheads / 8, ratio, 1 / strides), -1)
    return torch.cat((buttons, times), -1)


def moved(newest: Tensor, motion: Tensor, heads: Heads, ratio: Tensor, trust: Tensor | float = 1.0) -> Tensor:
    """The latent where the network's tangent leads. ratio [B, 1, 1, 1]; trust 0 to 1, broadcast."""
    tangent = tangential(newest, heads.push) + motion * heads.gain
    return exp_map(newest, tangent * (ratio * trust))


def gate(before: Tensor, newest: Tensor, heads: Heads) -> Tensor:
    """Trust, damp or hold, 0 to 1, [B, 1, H, W]: by predicted errors per token, by a cut for the whole
    picture."""
    errors = heads.log_errors.clamp(-12, 6).exp()
    return trusted(errors[:, :1], errors[:, 1:]) * uncut(before, newest)
