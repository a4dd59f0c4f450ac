"""engine/models -> OpenVINO graphs: the decoder built node by node, the others traced. Needs torch."""

import warnings
from pathlib import Path

import openvino
import torch
from torch import Tensor, nn

from engine.config import GameConfig, WorldConfig
from engine.fast.int8_ranges import FILE
from engine.fast.openvino_backend import DRAFTS
from engine.fast.openvino_decoder import Ranges, decoder_graph
from engine.fast.openvino_int8 import quantised
from engine.models.autoencoder import Decoder, from_bytes
from engine.models.extrapolator_net import TIMES
from engine.models.weights import WeightsError, load_part
from engine.models.world_model import Inputs


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

    def forward(
        self,
        motion: Tensor,
        newest: Tensor,
        told: Tensor,
        toward: Tensor | None = None,
        drafted: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(self.net(motion, newest, told, toward, drafted))  # type: ignore[return-value]


def export(directory: Path, config: GameConfig, part: str, path: Path, ranges: Ranges | None = None) -> None:
    """Write the graph of `part` to `path` (.xml, and .bin beside it), in int8 with `ranges`. Raises
    WeightsError."""
    model = load_part(directory, "extrapolator" if part == DRAFTS else part)
    try:
        if isinstance(model, Decoder):
            graph = decoder_graph(model, config.world.rows, config.world.columns, ranges)
        else:
            graph = quantised(traced(model, config, part), ranges or {})
    except KeyError as error:
        text = f"{directory / FILE} does not fit: {error.args[0]}; remove that file"
        raise WeightsError(text) from None
    openvino.save_model(graph, path, compress_to_fp16=False)


def traced(model: nn.Module, config: GameConfig, part: str) -> openvino.Model:
    """The graph of a world, an extrapolator or an encoder, with fixed shapes."""
    if part == "world":
        module, example = FlatStep(model), world_example(config.world)
    elif part in ("extrapolator", DRAFTS):
        module, example = FlatHeads(model), extrapolator_example(config, part == DRAFTS)  # type: ignore[assignment]
    else:
        module, example = EncodeBytes(model), (torch.zeros(1, 480, 720, 3, dtype=torch.uint8),)  # type: ignore[assignment]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenVINO traces by torch.jit, which newer PyTorch calls deprecated
        graph = openvino.convert_model(module.eval(), example_input=example)
    graph.reshape({i: list(x.shape) for i, x in enumerate(example)})
    return graph


def extrapolator_example(config: GameConfig, draft: bool) -> tuple[Tensor, ...]:
    """Inputs of FlatHeads, of the right shapes, without or with a draft."""
    world = config.world
    latent = torch.randn(1, world.channels, world.rows, world.columns)
    plain = (latent, latent, torch.zeros(1, world.buttons + TIMES))
    return (*plain, latent, torch.ones(1, 1)) if draft else plain


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
