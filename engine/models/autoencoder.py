"""Pictures to latents on the token sphere, and back. The decoder is what a CPU must afford 60 times a second.

Encoder after DC-AE (2410.10733): residual blocks with space-to-channel shortcuts. Decoder: 3x3 convolutions,
SiLU and pixel shuffles only, no norms, most of its width at 1/48 and 1/24 of the resolution."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.config import AutoencoderConfig
from engine.models.layers import ConvBlock, to_sphere

FIRST_SHUFFLE = 4
DOWN_FACTORS = (2, 2, 3)
UP_FACTORS = (2, 3, 2)
"""Between the decoder's stages at 1/48, 1/24, 1/8 and, where it has a fourth, 1/4 of the resolution."""


class Down(nn.Module):
    """1/f of the resolution: a learned 1x1 on space-to-channel, plus the channels' group means as a
    shortcut."""

    def __init__(self, old: int, new: int, factor: int) -> None:
        super().__init__()
        self.factor, self.new = factor, new
        self.conv = nn.Conv2d(old * factor * factor, new, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_unshuffle(x, self.factor)
        groups = x.shape[1] // self.new
        shortcut = x[:, : groups * self.new].unflatten(1, (self.new, groups)).mean(2)
        return self.conv(x) + shortcut


class Up(nn.Module):
    """f times the resolution: a learned 1x1, then channel-to-space."""

    def __init__(self, old: int, new: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(old, new * factor * factor, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), self.factor)


class Encoder(nn.Module):
    """float pictures [B, 3, H, W] in 0..1, H and W multiples of 48 -> latents [B, C, H/48, W/48] on the
    sphere."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, blocks = config.encoder_widths, config.encoder_blocks
        layers: list[nn.Module] = [nn.Conv2d(3 * FIRST_SHUFFLE**2, widths[0], 3, padding=1)]
        for stage, (width, count) in enumerate(zip(widths, blocks)):
            layers += [ConvBlock(width, norm=True) for _ in range(count)]
            if stage < len(DOWN_FACTORS):
                layers.append(Down(width, widths[stage + 1], DOWN_FACTORS[stage]))
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], config.channels, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.pixel_unshuffle(pictures * 2.0 - 1.0, FIRST_SHUFFLE)
        return to_sphere(self.head(self.body(x)).float(), dim=1)


class Decoder(nn.Module):
    """latents [B, C, h, w] -> float pictures [B, 3, 48h, 48w], 0..1 but not clamped."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, blocks = config.decoder_widths, config.decoder_blocks
        layers: list[nn.Module] = [nn.Conv2d(config.channels, widths[0], 3, padding=1)]
        for stage, (width, count) in enumerate(zip(widths, blocks)):
            layers += [ConvBlock(width, norm=False) for _ in range(count)]
            if stage + 1 < len(widths):
                layers.append(Up(width, widths[stage + 1], UP_FACTORS[stage]))
        self.body = nn.Sequential(*layers)
        self.last_shuffle = 48 // math.prod(UP_FACTORS[: len(widths) - 1])
        self.tail = nn.Conv2d(widths[-1], 3 * self.last_shuffle**2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        return F.pixel_shuffle(self.tail(F.silu(self.body(latents))), self.last_shuffle) * 0.5 + 0.5


def with_decoder_of(config: AutoencoderConfig, state: Mapping[str, Tensor]) -> AutoencoderConfig:
    """`config` with the widths and blocks of the Decoder whose state this is. KeyError if it is none's."""
    widths, blocks, number = [state["body.0.weight"].shape[0]], [0], 1
    while True:
        if f"body.{number}.conv1.weight" in state:
            blocks[-1] += 1
        elif (up := state.get(f"body.{number}.conv.weight")) is not None:
            widths.append(up.shape[0] // UP_FACTORS[len(blocks) - 1] ** 2)
            blocks.append(0)
        else:
            return replace(config, decoder_widths=tuple(widths), decoder_blocks=tuple(blocks))
        number += 1


def to_bytes(pictures: Tensor) -> Tensor:
    """float [B, 3, H, W] in 0..1 -> uint8 [B, H, W, 3]."""
    return (pictures.clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def from_bytes(pictures: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in 0..1."""
    return pictures.permute(0, 3, 1, 2).float() / 255.0
