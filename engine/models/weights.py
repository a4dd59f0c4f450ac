"""Weights on disk: safetensors, int8 with one scale per output channel, gzipped, checksums in config.json.
Nothing is unpickled.

A game's directory holds config.json (the models' shapes, training facts, `files`: name -> sha256 of the file
as it lies there) and <part>.safetensors.gz (stored.py) for each part: encoder, decoder, world, and where they
were trained extrapolator, decoder-wide, a GPU's decoder of the same latents, and sight. Matrices and
convolutions are int8 `name` with float16 `name.scale`, of as many levels as their part needs; everything else
is float16."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from engine.config import ConfigError, GameConfig
from engine.models.autoencoder import Decoder, Encoder
from engine.models.extrapolator_net import ExtrapolatorNet
from engine.models.sight_net import SightNet
from engine.models.stored import ENDING, compress, expand, file_name
from engine.models.stored import SHIPPED as SHIPPED  # for all who load weights
from engine.models.world_model import WorldModel

WIDE, SIGHT = "decoder-wide", "sight"
PARTS = ("encoder", "decoder", "world", "extrapolator", WIDE, SIGHT)
OPTIONAL = ("extrapolator", WIDE, SIGHT)
"""Parts a directory may do without: there is something simpler in their place."""
MOST_LEVELS = 127
"""Of a weight in int8, on either side of zero."""
_ADVICE = "reinstall dreamcade, or name a good directory with --weights"


class WeightsError(ValueError):
    """Weights that cannot be used; the text says which and what to do."""


def levels_of(part: str) -> int:
    """How many levels a part is stored with where nothing else is asked for. Fewer make a smaller file: 63
    cost a world 0.01 dB of its next step, but a wide decoder 1.4 dB."""
    return {"world": MOST_LEVELS // 2, SIGHT: MOST_LEVELS // 4}.get(part, MOST_LEVELS)


def build(config: GameConfig, part: str) -> nn.Module:
    """An untrained model of `config` for one of PARTS. Raises ConfigError where it has none."""
    if part == "world":
        return WorldModel(config.world)
    if part == "extrapolator":
        return ExtrapolatorNet(config)
    if part == WIDE:
        if config.wide_decoder is None:
            raise ConfigError("it has no 'wide_decoder'")
        return Decoder(config.wide_decoder.of(config.autoencoder))
    if part == SIGHT:
        if config.sight is None:
            raise ConfigError("it has no 'sight'")
        return SightNet(config)
    return (Encoder if part == "encoder" else Decoder)(config.autoencoder)


def load_config(directory: Path) -> tuple[GameConfig, dict[str, str]]:
    """The game's config and its files' checksums. Raises WeightsError."""
    path = directory / "config.json"
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = data.pop("files")
        if not (isinstance(files, dict) and all(isinstance(v, str) for v in files.values())):
            raise ConfigError("'files' must map file names to sha256 sums")
        if any(not name.endswith(ENDING) for name in files):
            raise ConfigError(f"its files must be {ENDING}, as `dreamcade train GAME pack` writes them")
        return GameConfig.from_json(data), files
    except FileNotFoundError:
        raise WeightsError(f"no weights in {directory}: {path.name} is missing; {_ADVICE}") from None
    except (
        KeyError,
        AttributeError,
        TypeError,
        ValueError,
    ) as error:  # ConfigError and JSON errors are ValueErrors
        raise WeightsError(f"{path} cannot be used: {error}; {_ADVICE}") from None


def has_part(directory: Path, part: str) -> bool:
    """The directory's config lists `part`. Raises WeightsError."""
    return file_name(part) in load_config(directory)[1]


def load_part(directory: Path, part: str) -> nn.Module:
    """The trained model of one part, in eval mode, float32. Raises WeightsError."""
    config, files = load_config(directory)
    path = directory / file_name(part)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing; {_ADVICE}") from None
    if hashlib.sha256(data).hexdigest() != files.get(path.name):
        raise WeightsError(
            f"{path} is truncated or altered: its checksum is not the one in config.json; {_ADVICE}"
        )
    try:
        model = build(config, part)
    except ConfigError as error:
        raise WeightsError(f"{path} does not fit its config.json ({error}); {_ADVICE}") from None
    try:
        fill(model, data)
    except (ValueError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as gzipped safetensors ({error}); {_ADVICE}") from None
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise WeightsError(f"{path} does not fit the shapes in config.json ({first}); {_ADVICE}") from None
    return model.eval().requires_grad_(False)


def fill(model: nn.Module, data: bytes) -> None:
    """Load `data`, a stored file, into `model`. Raises ValueError where it cannot be expanded,
    SafetensorError where that is no safetensors, RuntimeError where its shapes are not the model's."""
    # float32 and a header would fit: twice what to_int8 can make of these shapes.
    most = 4 * sum(value.numel() for value in model.state_dict().values()) + 2**20
    model.load_state_dict(from_int8(load(expand(data, most))))


def stored(model: nn.Module, levels: int = MOST_LEVELS) -> bytes:
    """`model` as a stored file."""
    return compress(save(to_int8(model.state_dict(), levels)))


def weights_id(directory: Path) -> str:
    """First 12 hex digits of a checksum over config.json, which holds the files' checksums."""
    try:
        return hashlib.sha256((directory / "config.json").read_bytes()).hexdigest()[:12]
    except FileNotFoundError:
        raise WeightsError(f"no weights in {directory}; {_ADVICE}") from None


def store(
    directory: Path,
    config: GameConfig,
    models: dict[str, nn.Module],
    levels: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Write the given parts (int8) and config.json; parts not given stay as they are. levels: by part, where
    they are not those of `levels_of`."""
    directory.mkdir(parents=True, exist_ok=True)
    for part, model in models.items():
        data = stored(model, levels.get(part, levels_of(part)))
        (directory / file_name(part)).write_bytes(data)
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for part in PARTS
        if (path := directory / file_name(part)).exists()
    }
    text = json.dumps({**config.to_json(), "files": files}, indent=1)
    (directory / "config.json").write_text(text + "\n", encoding="utf-8")


def to_int8(state: dict[str, Tensor], levels: int = MOST_LEVELS) -> dict[str, Tensor]:
    out = {}
    for name, value in state.items():
        value = value.float().contiguous()
        if value.ndim < 2 or value.numel() < 4096:
            out[name] = value.half()
            continue
        # Rounded to half before it divides, so that the rounding costs the weights nothing.
        scale = (value.abs().flatten(1).amax(1) / levels).half().clamp(min=6e-8)
        shaped = scale.float().view(-1, *[1] * (value.ndim - 1))
        out[name] = (value / shaped).round().clamp(-levels, levels).to(torch.int8)
        out[f"{name}.scale"] = scale
    return out


def from_int8(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    out = {}
    for name, value in stored.items():
        if name.endswith(".scale") and name.removesuffix(".scale") in stored:
            continue
        scale = stored.get(f"{name}.scale") if value.dtype == torch.int8 else None
        if scale is not None:
            value = value.float() * scale.float().view(-1, *[1] * (value.ndim - 1))
        out[name] = value.float()
    return out
