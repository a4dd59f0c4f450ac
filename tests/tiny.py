"""Tiny untrained models with the real shapes at the border, so that tests run the real engine quickly."""

from pathlib import Path

import torch
from torch import nn

from engine.config import (
    AutoencoderConfig,
    ExtrapolatorConfig,
    GameConfig,
    SightConfig,
    WideDecoderConfig,
    WorldConfig,
)
from engine.models.weights import PARTS, build, store
from games import GAMES

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
"""Where kernels are tested; see conftest.py."""


def tiny_config(game: str = "racing") -> GameConfig:
    spec = GAMES[game]
    return GameConfig(
        game=game,
        autoencoder=AutoencoderConfig(
            channels=16,
            encoder_widths=(8, 8, 16, 16),
            encoder_blocks=(1, 1, 1, 1),
            decoder_widths=(16, 16, 8),
            decoder_blocks=(1, 1, 1),
        ),
        world=WorldConfig(
            channels=16,
            buttons=spec.n_buttons,
            telemetry=len(spec.telemetry),
            width=32,
            layers=3,
            heads=2,
            time_layers=(0, 2),
            context=5,
            registers=2,
            noise=4,
        ),
        extrapolator=ExtrapolatorConfig(width=16, blocks=1, draft_blocks=1),
        wide_decoder=WideDecoderConfig(widths=(16, 24, 16), blocks=(1, 2, 2)),
        sight=SightConfig(fields=(3, 5), width=4, hidden=6),
    )


def shaken(model: nn.Module) -> nn.Module:
    """Zero-initialised parameters made random, so that every path matters."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.abs().sum() == 0:
            parameter.data.normal_(0, 0.1)
    return model.eval().requires_grad_(False)


def store_tiny(directory: Path, game: str = "racing") -> GameConfig:
    """A directory of weights as `--weights` takes it."""
    config = tiny_config(game)
    torch.manual_seed(0)
    store(directory, config, {part: shaken(build(config, part)) for part in PARTS})
    return config
