"""engine/models -> OpenVINO graphs, with bytes at the picture's end inside the graph. Needs torch."""

import warnings
from pathlib import Path

import openvino
import torch
from torch import Tensor, nn

from engine.config import GameConfig, WorldConfig
from engine.models.autoencoder import from_bytes
from engine.models.extrapolator_net import TIMES
from engine.models.weights import load_part
from engine.models.world_model import Inputs


class DecodeToBytes(nn.Module):
    """latent [1, C, 10, 15] -> uint8 [1, 480, 720, 3]"""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: Tensor) -> Tensor:
        picture = self.decoder(latent).clamp(0.0, 1.0) * 255.0 + 0.5
        return picture.permute(0, 2, 3, 1).to(torch.uint8)


class EncodeBytes(nn.Module):
    """uint8 [1, 480, 720, 3] -> latent [1, C, 10, 15]"""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, picture: Tensor) -> Tensor:
        return self.encoder(from_bytes(picture))


class FlatStep(nn.Module):
    """WorldModel.step with its inputs one by one, in the order of engine.fast.dream."""

    def __init__(self, world: nn.Module) -> None:
        super().__init__()
        self.world = world

    def forward(
        self, latent: Tensor, previous: Tensor, buttons: Tensor, strides: Tensor, telemetry: Tensor,
        context_noise: Tensor, noise: Tensor, cos: Tensor, sin: Tensor, ring: Tensor, bias: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        inputs = Inputs(buttons, strides, telemetry, context_noise, noise)
        return self.world.step(latent, previous, inputs, cos, sin, ring, bias)  # type: ignore[operator]


class FlatHeads(nn.Module):
    """ExtrapolatorNet.forward as a plain tuple."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, motion: Tensor, newest: Tensor, told: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(self.net(motion, newest, told))  # type: ignore[return-value]


def export(directory: Path, config: GameConfig, part: str, path: Path) -> None:
    """Write the graph of `part` to `path` (.xml, and .bin beside it). Raises WeightsError."""
    model = load_part(directory, part)
    if part == "world":
        module, example = FlatStep(model), world_example(config.world)
    elif part == "decoder":
        module, example = DecodeToBytes(model), (torch.randn(1, config.world.channels, 10, 15),)  # type: ignore[assignment]
    elif part == "extrapolator":
        module, example = FlatHeads(model), extrapolator_example(config.world)  # type: ignore[assignment]
    else:
        module, example = EncodeBytes(model), (torch.zeros(1, 480, 720, 3, dtype=torch.uint8),)  # type: ignore[assignment]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenVINO traces by torch.jit, which newer PyTorch calls deprecated
        graph = openvino.convert_model(module.eval(), example_input=example)
    graph.reshape({i: list(x.shape) for i, x in enumerate(example)})
    openvino.save_model(graph, path, compress_to_fp16=False)


def extrapolator_example(config: WorldConfig) -> tuple[Tensor, ...]:
    """Inputs of FlatHeads, of the right shapes."""
    latent = torch.randn(1, config.channels, config.rows, config.columns)
    return latent, latent, torch.zeros(1, config.buttons + TIMES)


def world_example(config: WorldConfig) -> tuple[Tensor, ...]:
    """Inputs of FlatStep, of the right shapes."""
    latent = torch.randn(1, config.channels, config.rows, config.columns)
    slots, half = config.context - 1, config.head_width // 2
    ring = torch.zeros(len(config.time_layers), 2, slots, config.tokens, config.heads, config.head_width)
    one = torch.zeros(1, 1)
    return (
        latent, latent, torch.zeros(1, 1, config.buttons), one + 4, torch.zeros(1, 1, config.telemetry), one,
        torch.randn(1, 1, config.noise), torch.ones(half), torch.zeros(half), ring, torch.zeros(slots),
    )  # fmt: skip
