"""The models' shapes, as frozen dataclasses that check themselves; `assets/weights/<game>/config.json` holds
one."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any


class ConfigError(ValueError):
    """A configuration that cannot be; the text names the field."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """480x720 pictures <-> latents [channels, 10, 15]. Widths are channels per stage, blocks residual blocks
    per stage.

    The encoder's stages stand at 1/4, 1/8, 1/16, 1/48 of the resolution, the decoder's at 1/48, 1/24, 1/8
    and, with a fourth, 1/4: a non-linear layer that near the pixels draws sharper edges for the same
    milliseconds."""

    channels: int = 128
    encoder_widths: tuple[int, ...] = (64, 112, 160, 224)
    encoder_blocks: tuple[int, ...] = (1, 2, 2, 1)
    decoder_widths: tuple[int, ...] = (224, 160, 64, 48)
    decoder_blocks: tuple[int, ...] = (2, 2, 1, 1)

    def __post_init__(self) -> None:
        _require(8 <= self.channels <= 256, "channels", "8 to 256")
        _require(len(self.encoder_widths) == len(self.encoder_blocks) == 4, "encoder_widths", "four stages")
        _require(all(w > 0 for w in self.encoder_widths), "encoder_widths", "positive")
        _require_stages("decoder_", self.decoder_widths, self.decoder_blocks)


@dataclass(frozen=True)
class WideDecoderConfig:
    """A second decoder of the same latents, for GPUs: AutoencoderConfig's decoder, wider where it is near the
    pixels. There a channel costs few parameters and many products, which is what a GPU has to spare."""

    widths: tuple[int, ...] = (224, 160, 128, 64)
    blocks: tuple[int, ...] = (2, 2, 2, 3)

    def __post_init__(self) -> None:
        _require_stages("", self.widths, self.blocks)

    def of(self, autoencoder: AutoencoderConfig) -> AutoencoderConfig:
        """`autoencoder` with this decoder in place of its own."""
        return replace(autoencoder, decoder_widths=self.widths, decoder_blocks=self.blocks)


@dataclass(frozen=True)
class WorldConfig:
    """The world model: a transformer over 150 latent tokens and 10 of its own (8 registers, action,
    telemetry)."""

    channels: int = 128
    buttons: int = 4
    telemetry: int = 12
    width: int = 320
    layers: int = 9
    heads: int = 8
    mlp_ratio: int = 4
    time_layers: tuple[int, ...] = (2, 5, 8)
    """Layers that also attend over time, each token to its own past."""
    context: int = 16
    """Steps a time layer sees, the current one included; the key-value ring holds context - 1."""
    registers: int = 8
    noise: int = 32
    """Dimensions of the random vector that chooses among possible futures."""
    temperature: float = 0.7
    """What that vector is multiplied by in play; it was trained with 1. Less is calmer: a dream goes less far
    astray and invents less."""
    lively: float = 0.0
    """Share of the steps in play whose vector is as in training, drawn by lot: what is rare, a pit or a step,
    takes a vector that a low temperature never makes."""
    max_stride: int = 8
    rows: int = 10
    columns: int = 15

    def __post_init__(self) -> None:
        _require(self.width % (2 * self.heads) == 0, "heads", "an even share of width")
        _require(
            all(0 <= layer < self.layers for layer in self.time_layers), "time_layers", "layers that exist"
        )
        _require(2 <= self.context <= 64, "context", "2 to 64")
        _require(0 <= self.temperature <= 2, "temperature", "0 to 2")
        _require(0 <= self.lively <= 1, "lively", "0 to 1")
        _require(1 <= self.max_stride <= 8, "max_stride", "1 to 8")
        _require(min(self.buttons, self.telemetry, self.noise) > 0, "buttons", "positive")

    @property
    def latent_tokens(self) -> int:
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        return self.latent_tokens + self.registers + 2

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class ExtrapolatorConfig:
    """The small network that fills frames between true steps; channels, buttons and grid are the world's."""

    width: int = 96
    blocks: int = 5
    draft_blocks: int = 0
    """Further blocks of a network that was also trained to fill in towards a draft; 0: it was not."""

    def __post_init__(self) -> None:
        _require(min(self.width, self.blocks) > 0, "extrapolator", "positive sizes")
        _require(self.draft_blocks >= 0, "draft_blocks", "0 or more")


@dataclass(frozen=True)
class SightConfig:
    """The net that reads telemetry off a latent: which fields (positions in the game's telemetry), and its
    widths."""

    fields: tuple[int, ...] = ()
    width: int = 24
    hidden: int = 40

    def __post_init__(self) -> None:
        _require(min(self.width, self.hidden) > 0, "sight", "positive sizes")
        _require(all(field >= 0 for field in self.fields), "fields", "positions in the telemetry")


@dataclass(frozen=True)
class GameConfig:
    """One game's models. `wide_decoder`, `sight` None: it has none. `training` holds facts for the reader
    (commands, minutes, figures), never used in code."""

    game: str
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    extrapolator: ExtrapolatorConfig = field(default_factory=ExtrapolatorConfig)
    wide_decoder: WideDecoderConfig | None = None
    sight: SightConfig | None = None
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(
            self.autoencoder.channels == self.world.channels, "channels", "the same in autoencoder and world"
        )
        seen = self.sight.fields if self.sight else ()
        _require(all(field < self.world.telemetry for field in seen), "fields", "positions in the telemetry")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "GameConfig":
        """Raises ConfigError for unknown keys, wrong types and impossible shapes."""
        given = _known(cls, data)
        parts = {
            "autoencoder": _build(AutoencoderConfig, given.get("autoencoder", {})),
            "world": _build(WorldConfig, given.get("world", {})),
            "extrapolator": _build(ExtrapolatorConfig, given.get("extrapolator", {})),
        }
        for name, kind in (("wide_decoder", WideDecoderConfig), ("sight", SightConfig)):
            if given.get(name) is not None:
                parts[name] = _build(kind, given[name])
        return cls(game=str(given.get("game", "")), training=dict(given.get("training", {})), **parts)


def _require(fine: bool, name: str, wanted: str) -> None:
    if not fine:
        raise ConfigError(f"config field {name!r} must be: {wanted}")


def _require_stages(prefix: str, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    """Of a decoder; prefix: of its fields' names."""
    _require(len(widths) == len(blocks) in (3, 4), f"{prefix}widths", "three or four stages")
    _require(all(w > 0 for w in widths), f"{prefix}widths", "positive")


def _known(cls: type, data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ConfigError(f"a {cls.__name__} must be a JSON object")
    unknown = sorted(set(data) - {f.name for f in fields(cls)})
    if unknown:
        raise ConfigError(f"unknown keys in {cls.__name__}: {', '.join(map(str, unknown))}")
    return data


def _build(cls: type, data: Any) -> Any:
    values = {}
    for name, value in _known(cls, data).items():
        default = getattr(cls(), name)
        if isinstance(default, tuple):
            if not (isinstance(value, list | tuple) and all(type(v) is int for v in value)):
                raise ConfigError(f"config field {name!r} must be a list of whole numbers")
            value = tuple(value)
        elif isinstance(default, float):
            if type(value) not in (int, float):
                raise ConfigError(f"config field {name!r} must be a number")
            value = float(value)
        elif type(value) is not int:
            raise ConfigError(f"config field {name!r} must be a whole number")
        values[name] = value
    return cls(**values)
