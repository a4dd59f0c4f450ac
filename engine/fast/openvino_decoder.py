"""The decoder as an OpenVINO graph, node by node: the same numbers as engine/models/autoencoder.py, in an
order that a CPU likes, and in int8 where `ranges` say how wide the activations are.

Pixel shuffles take their blocks first (rows of the convolution before are permuted to match), so that whole
runs of channels are copied, and pixels become bytes before the last shuffle, which `pixels` does as it
copies. In int8 every convolution has its input at 256 levels between a measured low and high; its weights
already lie on the int8 grid they were stored on. The residual stream between blocks stays wide."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino
import torch
from openvino import opset13 as op
from torch import Tensor, nn

from engine.models.autoencoder import Decoder, Up
from engine.models.layers import ConvBlock

Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest value of a convolution's input, by the convolution's name in the module; one that is
missing stays in floating point."""
_ACTIVATION_LEVELS, _WEIGHT_LEVELS = 256, 255


class _Builder:
    """Strings convolutions together and remembers what goes into each."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self.inputs: dict[str, Any] = {}

    def convolution(self, x: Any, name: str, weight: Tensor, bias: Tensor) -> Any:
        """Stride 1, same size."""
        self.inputs[name] = x
        rows = weight.detach().float().numpy()
        kernel = op.constant(rows)
        if name in self.ranges:
            low, high = (np.float32(end) for end in self.ranges[name])
            x = op.fake_quantize(x, low, high, low, high, _ACTIVATION_LEVELS)
            most = np.abs(rows).max((1, 2, 3), keepdims=True).clip(1e-8)
            kernel = op.fake_quantize(kernel, -most, most, -most, most, _WEIGHT_LEVELS)
        pad = [weight.shape[2] // 2] * 2
        made = op.convolution(x, kernel, [1, 1], pad, pad, [1, 1])
        return op.add(made, bias.detach().float().numpy().reshape(1, -1, 1, 1))


def decoder_graph(decoder: Decoder, rows: int, columns: int, ranges: Ranges | None = None) -> openvino.Model:
    """latent float32 [1, C, rows, columns] -> uint8 [1, h, w, f, 3f], for `pixels`; f: the last shuffle's
    factor. Raises KeyError if `ranges` are not this decoder's."""
    return _built(decoder, rows, columns, ranges or {})[0]


def observed_graph(decoder: Decoder, rows: int, columns: int) -> tuple[openvino.Model, tuple[str, ...]]:
    """The graph in floating point, with every convolution's input as a further output, and their names."""
    graph, inputs = _built(decoder, rows, columns, {})
    graph.add_outputs([inputs[name].output(0) for name in inputs])
    return graph, tuple(inputs)


def _built(
    decoder: Decoder, rows: int, columns: int, ranges: Ranges
) -> tuple[openvino.Model, dict[str, Any]]:
    builder = _Builder(ranges)
    stem = decoder.body[0]
    assert isinstance(stem, nn.Conv2d) and stem.bias is not None
    latent = op.parameter([1, stem.in_channels, rows, columns], np.float32, name="latent")
    x = builder.convolution(latent, "body.0", stem.weight, stem.bias)
    for number, layer in list(enumerate(decoder.body))[1:]:
        name = f"body.{number}"
        if isinstance(layer, ConvBlock):
            first, second = layer.conv1, layer.conv2
            assert first.bias is not None and second.bias is not None
            hidden = op.swish(builder.convolution(x, f"{name}.conv1", first.weight, first.bias))
            x = op.add(x, builder.convolution(hidden, f"{name}.conv2", second.weight, second.bias))
        else:
            assert isinstance(layer, Up)
            weight, bias = blocks_first(layer.conv, layer.factor)
            x = builder.convolution(x, f"{name}.conv", weight, bias)
            x = op.depth_to_space(x, "blocks_first", layer.factor)
    weight, bias = blocks_first(decoder.tail, decoder.last_shuffle)
    # -1 to 1 becomes 0 to 255, and half a level more: the conversion to bytes cuts off.
    x = builder.convolution(op.swish(x), "tail", weight * 127.5, bias * 127.5 + 128.0)
    x = op.convert(op.clamp(x, 0.0, 255.0), "u8")
    x = op.transpose(x, op.constant(np.array([0, 2, 3, 1])))
    factor = decoder.last_shuffle
    shape = np.array([1, 48 * rows // factor, 48 * columns // factor, factor, 3 * factor])
    x = op.reshape(x, op.constant(shape), False)
    if unknown := set(ranges) - set(builder.inputs):
        raise KeyError(f"no convolution called {', '.join(sorted(unknown))}")
    return openvino.Model([x], [latent], "decoder"), builder.inputs


def blocks_first(conv: nn.Conv2d, factor: int) -> tuple[Tensor, Tensor]:
    """A convolution's weight and bias with its outputs ordered (down, right, channel) for the shuffle after
    it, not (channel, down, right)."""
    assert conv.bias is not None
    order = torch.arange(conv.out_channels).view(-1, factor * factor).T.flatten()
    return conv.weight.detach()[order], conv.bias.detach()[order]


def pixels(tiles: np.ndarray) -> np.ndarray:
    """The last shuffle: uint8 [h, w, f, 3f] -> a new uint8 [h * f, w * f, 3]. A tile's row moves as one item
    of 3f bytes, which numpy copies in half the time of single bytes."""
    height, width, factor, run = tiles.shape
    rows = np.ascontiguousarray(tiles).view(np.dtype((np.void, run)))[..., 0]
    made = np.ascontiguousarray(rows.transpose(0, 2, 1))
    return made.view(np.uint8).reshape(height * factor, width * factor, 3)
