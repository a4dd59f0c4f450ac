"""Sizes to measure: the two games as shipped, with either decoder, and untrained ones in which one role is
the bottleneck."""

import json
from dataclasses import replace

from engine.config import AutoencoderConfig, GameConfig, WideDecoderConfig, WorldConfig
from engine.models.weights import SHIPPED
from engine.profiles import WIDE
from games import GAMES

UNTRAINED = {
    "small": GameConfig(
        "small",
        AutoencoderConfig(
            channels=16, encoder_widths=(8, 8, 16, 16), decoder_widths=(32, 24, 16), decoder_blocks=(1, 1, 1)
        ),
        WorldConfig(channels=16, width=64, layers=3, heads=4, time_layers=(1,), context=8, noise=8),
    ),
    "wide-world": GameConfig(  # f24: 600 latent tokens, 40 of its own, so that 2 to 16 ranks divide them
        "wide-world",
        world=WorldConfig(
            width=2048, layers=12, heads=16, time_layers=(2, 5, 8, 11), registers=38, rows=20, columns=30
        ),
    ),
    "wide-decoder": GameConfig(  # as dear as the games' wide ones, and wider: channels fill the matrix units
        "wide-decoder", AutoencoderConfig(decoder_widths=(512, 320, 128), decoder_blocks=(2, 3, 2))
    ),
    "heavy-decoder": GameConfig(
        "heavy-decoder", AutoencoderConfig(decoder_widths=(768, 512, 256), decoder_blocks=(4, 4, 4))
    ),
    "balanced": GameConfig(  # world and decoder both fill a GPU; `bench split --balance` evens them out
        "balanced",
        AutoencoderConfig(decoder_widths=(768, 512, 256), decoder_blocks=(2, 2, 3)),
        WorldConfig(width=1024, layers=16, heads=8, time_layers=(3, 7, 11, 15)),
    ),
}
NAMES = (*GAMES, *(game + WIDE for game in GAMES), *UNTRAINED)


def preset(name: str) -> GameConfig:
    """Shapes by name; those of a game come from its shipped weights, GAME-wide has its wide decoder."""
    if name in UNTRAINED:
        return UNTRAINED[name]
    game = name.removesuffix(WIDE)
    path, config = SHIPPED / game / "config.json", GameConfig(game)
    if path.exists():
        data = json.loads(path.read_text(encoding="utf-8"))
        data.pop("files", None)
        config = GameConfig.from_json(data)
    if game == name:
        return config
    wide = config.wide_decoder or WideDecoderConfig()
    return replace(config, autoencoder=wide.of(config.autoencoder))


def label(name: str) -> str:
    return f"{name} (untrained)" if name in UNTRAINED else name
