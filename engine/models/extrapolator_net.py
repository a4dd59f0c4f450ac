"""The learned extrapolator: a small convolutional network on the last two latents, the newest buttons and the
time ahead. It sees keys that no true step has seen yet. One network, two modes.

Without a draft its output is a tangent at the newest latent and a gain on the last motion, so that the
exponential map is its base and hold what it does when it knows nothing; it also predicts its own error and
hold's, by which the move is trusted, damped or dropped. With a draft of the next true latent it gives how far
the way there bows out from the great circle, which is what it does when it knows nothing. Geometry stays in
float32 outside of the quick twins' graph, which holds `Heads` of `forward` only."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.config import GameConfig
from engine.models.extrapolator import exp_map, log_map, tangential, trusted, uncut

MAX_STRIDE = 8
STILL_ANGLE = 0.05
"""Tokens whose way to a draft is shorter (radians) bow out less than they would: what stands still may not
shimmer."""
_TOLD = 48
TIMES = 4
"""Numbers that tell the network the time: see `time_features`."""


class Heads(NamedTuple):
    """push [B, C, H, W] (tangent per ratio, not yet projected), gain [B, 1, H, W] on the last motion,
    log_errors [B, 2, H, W]: of the squared errors expected of moving and of holding. With a draft, push and
    gain (on the tangent towards it) are the bow at half way, and instead of holding it is the great circle.
    """

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


class DraftPath(nn.Module):
    """What a network that takes drafts has besides: a way in for the draft, blocks, and heads of its own.

    The blocks begin as identities and the heads at zero: a network that it is added to follows the great
    circle to a draft. What that one does without a draft never passes here."""

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.toward = nn.Conv2d(channels, width, 1, bias=False)
        self.drafted = nn.Linear(1, _TOLD, bias=False)
        self.conditions = nn.Linear(_TOLD, 2 * width * blocks)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.mix = nn.Conv2d(width + 2 * channels, 2 * width, 1)
        self.head = nn.Conv2d(2 * width, channels + 3, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def made(self, x: Tensor, newest: Tensor, toward: Tensor) -> Tensor:
        """[B, C + 3, H, W]. A token's own latents pass by the narrow trunk here."""
        return self.head(F.silu(self.mix(torch.cat((F.silu(x), newest, toward), 1))))


class ExtrapolatorNet(nn.Module):
    """About 0.6 M parameters at the shipped sizes without drafts, 1.1 M with them."""

    coefficients: Tensor

    def __init__(self, config: GameConfig) -> None:
        super().__init__()
        world, own = config.world, config.extrapolator
        self.takes_drafts = own.draft_blocks > 0
        self.channels = world.channels
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
        if self.takes_drafts:
            self.draft = DraftPath(world.channels, own.width, own.draft_blocks)

    def forward(
        self,
        motion: Tensor,
        newest: Tensor,
        told: Tensor,
        toward: Tensor | None = None,
        drafted: Tensor | None = None,
    ) -> Heads:
        """motion: the last motion as a tangent at newest, both [B, C, H, W]; told [B, N + TIMES]. toward:
        the tangent at newest that leads to a draft, zero where drafted [B, 1] is 0 and not 1; a network that
        takes none looks at neither, and without them no row has a draft."""
        x = self.stem(torch.cat((newest, motion), 1)) + self.place
        heard = self.told(told)
        if toward is None or drafted is None or not self.takes_drafts:
            made = self.head(F.silu(_through(self.blocks, x, self.conditions(F.silu(heard)))))
        else:
            heard = F.silu(heard + self.draft.drafted(drafted))
            x = _through(self.blocks, x + self.draft.toward(toward), self.conditions(heard))
            deeper = _through(self.draft.blocks, x, self.draft.conditions(heard))
            towards = self.draft.made(deeper, newest, toward)
            made = torch.where(drafted[..., None, None] > 0, towards, self.head(F.silu(x)))
        return Heads(*made.split((self.channels, 1, 2), 1))

    def combined(self, strides: Tensor, aheads: Tensor, deep: Tensor) -> Tensor:
        """The table's coefficients [B, 3] for strides, aheads [B] in frames; deep [B] bool: three latents."""
        stride = strides.round().long().clamp(1, MAX_STRIDE) - 1
        ahead = aheads.round().long().clamp(1, 2 * MAX_STRIDE) - 1
        return self.coefficients[deep.long(), stride, ahead]


def _through(blocks: nn.ModuleList, x: Tensor, conditions: Tensor) -> Tensor:
    """conditions [B, 2 x width x blocks]: each block's scale and shift."""
    for block, condition in zip(blocks, conditions[..., None, None].chunk(len(blocks), 1)):
        x = block(x, *condition.chunk(2, 1))
    return x


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


def between(newest: Tensor, toward: Tensor, heads: Heads, ratio: Tensor) -> Tensor:
    """The latent at `ratio` (0 to 1, [B, 1, 1, 1]) of the way to the draft where `toward` leads: the great
    circle, bowed out as the network says, but in no token further than its way is long, and in one that
    hardly moves hardly at all. Exact at both ends."""
    out = toward * heads.gain + tangential(newest, heads.push)
    way = toward.norm(dim=1, keepdim=True)
    furthest = way * (way / (STILL_ANGLE * newest.shape[1] ** 0.5)).clamp(max=1)
    bow = torch.minimum(4 * ratio * (1 - ratio), furthest / out.norm(dim=1, keepdim=True).clamp(min=1e-6))
    return exp_map(newest, toward * ratio + out * bow)


def gate(before: Tensor, newest: Tensor, heads: Heads) -> Tensor:
    """Trust, damp or hold, 0 to 1, [B, 1, H, W]: by predicted errors per token, by a cut for the whole
    picture."""
    errors = heads.log_errors.clamp(-12, 6).exp()
    return trusted(errors[:, :1], errors[:, 1:]) * uncut(before, newest)
