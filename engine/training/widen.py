"""A decoder made wider and deeper that still paints the same picture: a trained small one's head start.

After Net2Net (Chen et al., 2015), but channels are added instead of copied: the old weights stay where they
are, nothing flows from new channels to old ones yet (zeros), and the new ones begin with random features of
all. So the picture is the old one's exactly, and no two channels are alike, which copies would have to be
shaken out of."""

from collections.abc import Iterator

import torch
from torch import nn

from engine.config import AutoencoderConfig, ConfigError
from engine.models.autoencoder import Decoder, Up


@torch.no_grad()
def widened(old: Decoder, config: AutoencoderConfig) -> Decoder:
    """A decoder of `config` that makes old's pictures. Raises ConfigError where it is smaller anywhere."""
    new = Decoder(config)
    for ours, theirs in _pairs(new, old):
        outputs, inputs = theirs.weight.shape[:2]
        assert ours.bias is not None and theirs.bias is not None
        ours.weight[:outputs, inputs:] = 0
        ours.weight[:outputs, :inputs] = theirs.weight
        ours.bias[:outputs] = theirs.bias
    return new


def _pairs(new: Decoder, old: Decoder) -> Iterator[tuple[nn.Conv2d, nn.Conv2d]]:
    """Convolutions in the same place. Blocks beyond old's come last in their stage and add nothing: a block's
    second convolution starts at zero."""
    large, small = _stages(new), _stages(old)
    if len(large) != len(small):
        raise ConfigError(f"a decoder of {len(small)} stages cannot be widened to {len(large)}")
    for number, (layers, olds) in enumerate(zip(large, small)):
        if len(layers) < len(olds):
            raise ConfigError(f"stage {number} of the wide decoder has fewer blocks than the other one's")
        for layer, other in zip(layers, olds):
            yield from _fitting(number, layer, other)
    yield from _fitting(len(large), new.tail, old.tail)


def _fitting(number: int, layer: nn.Module, other: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.Conv2d]]:
    for ours, theirs in zip(_convolutions(layer), _convolutions(other)):
        if any(a < b for a, b in zip(ours.weight.shape, theirs.weight.shape)):
            raise ConfigError(f"stage {number} of the wide decoder is narrower than the other one's")
        yield ours, theirs


def _stages(decoder: Decoder) -> list[list[nn.Module]]:
    """The body's layers: a stage begins with the first convolution or an up step."""
    stages: list[list[nn.Module]] = [[]]
    for layer in decoder.body:
        if isinstance(layer, Up):
            stages.append([])
        stages[-1].append(layer)
    return stages


def _convolutions(layer: nn.Module) -> list[nn.Conv2d]:
    return [module for module in layer.modules() if isinstance(module, nn.Conv2d)]
