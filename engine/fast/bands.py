"""A decode shared by several ranks: each makes a band of rows of every picture, or whole pictures in turn.

The decoder has no norms, so a band depends on the latents of its receptive field alone. Nothing is exchanged:
every layer computes the rows that the layers after it still need, so the halo shrinks on its way to the
pixels (after MCUNetV2's patches, 2110.15352). Bands are cut where the slowest of them is cheapest."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.config import AutoencoderConfig
from engine.models.autoencoder import Decoder, Up
from engine.models.layers import ConvBlock


@dataclass(frozen=True)
class Rows:
    """Rows begin to end - 1 of a tensor that is `height` rows tall when whole."""

    begin: int
    end: int
    height: int

    def widened(self, by: int) -> "Rows":
        return Rows(max(0, self.begin - by), min(self.height, self.end + by), self.height)

    def before(self, factor: int) -> "Rows":
        """The rows from which these come when each becomes `factor`."""
        return Rows(self.begin // factor, -(-self.end // factor), self.height // factor)

    def after(self, factor: int) -> "Rows":
        return Rows(self.begin * factor, self.end * factor, self.height * factor)

    def cut(self, x: Tensor, given: "Rows") -> Tensor:
        """These rows of x [B, C, rows, W], which holds `given`."""
        assert given.begin <= self.begin and self.end <= given.end, "a band's halo is too small"
        return x[:, :, self.begin - given.begin : self.end - given.begin]

    def __len__(self) -> int:
        return self.end - self.begin


def decode_band(decoder: Decoder, latents: Tensor, band: Rows) -> Tensor:
    """latents [B, C, h, w], band in latent rows -> float pictures' rows [B, 3, 48 len(band), 48 w], as the
    whole decode has them."""
    plan = [*needed_rows(decoder, band)]
    given = plan[0][1].widened(reach(plan[0][0]))
    x = given.cut(latents, Rows(0, latents.shape[2], latents.shape[2]))
    for layer, wanted in plan:
        if layer is decoder.tail:
            x = F.silu(x)
        x, given = _apply(layer, x, given, wanted)
    return F.pixel_shuffle(x, decoder.last_shuffle) * 0.5 + 0.5


def split_rows(decoder: Decoder, rows: int, bands: int) -> tuple[Rows, ...]:
    """The cut of `rows` latent rows into so many bands whose dearest band is cheapest."""
    assert 1 <= bands <= rows, "at least one latent row a band"
    cuts = [(0, *inner, rows) for inner in combinations(range(1, rows), bands - 1)]
    cost = lru_cache(None)(lambda begin, end: band_macs(decoder, Rows(begin, end, rows), 1))
    best = min(cuts, key=lambda cut: sorted((cost(*ends) for ends in pairwise(cut)), reverse=True))
    return tuple(Rows(begin, end, rows) for begin, end in pairwise(best))


def band_macs(decoder: Decoder, band: Rows, columns: int) -> int:
    """Multiply-adds of one band, halo included."""
    total, scale = 0, 1
    for layer, wanted in needed_rows(decoder, band):
        width = columns * scale
        if isinstance(layer, ConvBlock):
            total += len(wanted.widened(1)) * width * layer.conv1.weight.numel()
            total += len(wanted) * width * layer.conv2.weight.numel()
        elif isinstance(layer, Up):
            total += len(wanted) * width * layer.conv.weight.numel()
            scale *= layer.factor
        else:
            assert isinstance(layer, nn.Conv2d)
            total += len(wanted) * width * layer.weight.numel()
    return total


def receptive_rows(config: AutoencoderConfig) -> int:
    """How many latent rows beyond its own a row of pictures depends on."""
    with torch.device("meta"):
        decoder = Decoder(config)
    tall = 1 << 10
    middle = Rows(tall // 2, tall // 2 + 1, tall)
    first, wanted = next(needed_rows(decoder, middle))
    return middle.begin - wanted.widened(reach(first)).begin


def needed_rows(decoder: Decoder, band: Rows) -> Iterator[tuple[nn.Module, Rows]]:
    """The decoder's layers in order with the rows each must give; of an Up, the rows before its shuffle."""
    layers = [*decoder.body, decoder.tail]
    factor = 1
    for layer in layers:
        factor *= layer.factor if isinstance(layer, Up) else 1
    wanted, plan = band.after(factor), []
    for layer in reversed(layers):
        wanted = wanted.before(layer.factor) if isinstance(layer, Up) else wanted
        plan.append((layer, wanted))
        wanted = wanted.widened(reach(layer))
    return reversed(plan)


def reach(layer: nn.Module) -> int:
    """Rows beyond its own that a layer looks at."""
    return 0 if isinstance(layer, Up) else 2 if isinstance(layer, ConvBlock) else 1


def _apply(layer: nn.Module, x: Tensor, given: Rows, wanted: Rows) -> tuple[Tensor, Rows]:
    if isinstance(layer, Up):
        return layer(wanted.cut(x, given)), wanted.after(layer.factor)
    if isinstance(layer, ConvBlock):
        inner = wanted.widened(1)
        hidden = F.silu(_conv(layer.conv1, x, given, inner))
        return wanted.cut(x, given) + _conv(layer.conv2, hidden, inner, wanted), wanted
    assert isinstance(layer, nn.Conv2d)
    return _conv(layer, x, given, wanted), wanted


def _conv(conv: nn.Conv2d, x: Tensor, given: Rows, wanted: Rows) -> Tensor:
    """3x3; zeros stand in above and below the whole picture only."""
    needed = wanted.widened(1)
    above, below = wanted.begin == 0, wanted.end == wanted.height
    x = F.pad(needed.cut(x, given), (0, 0, int(above), int(below)))
    return F.conv2d(x, conv.weight, conv.bias, padding=(0, 1))
