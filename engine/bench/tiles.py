"""The best tiles of the decoder's convolutions at a batch, on this GPU, in under a minute.

    python -m engine.bench.tiles --game wide-decoder --batch 64 [--out FILE] [--keep FILE]

For every shape of layer: PyTorch's convolution alone (no bias, no SiLU: a bound for it), the kernel without a
copy engine, and tiles of engine/fast/tiled_convolution.py. Results are compared with the first kernel's. Ends
with the decode that the best of each would give, and one JSON line. --keep adds the layers where a tile wins,
and is right, to that table: see engine/fast/tile_table.py."""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.bench.presets import NAMES, preset
from engine.bench.timing import hardware
from engine.bench.tuning import DEVICE, Case, Launch, Tried, table, to_json, tried
from engine.config import AutoencoderConfig
from engine.fast.tile_table import Layer, TileTable
from engine.fast.tiled_convolution import Epilogue, Tile, convolve
from engine.models.autoencoder import Decoder, Up
from engine.models.layers import ConvBlock

_ROWS, _COLUMNS = 10, 15
_LARGE = (
    Tile(256, 128, 0, 64, 8, 4), Tile(256, 128, 0, 64, 8, 3), Tile(256, 128, 0, 64, 8, 4, narrow=True),
    Tile(128, 128, 0, 64, 4, 3), Tile(128, 128, 0, 64, 8, 3), Tile(128, 256, 0, 64, 8, 4),
    Tile(256, 64, 0, 64, 4, 3), Tile(256, 64, 0, 64, 4, 2), Tile(128, 64, 0, 64, 4, 4),
    Tile(128, 128, 0, 64, 4, 3, 1), Tile(128, 128, 0, 64, 8, 4, 1), Tile(256, 64, 0, 64, 8, 3, 1),
)  # fmt: skip
_SMALL = (
    Tile(32, 64, 0, 128, 4, 4), Tile(16, 64, 0, 128, 4, 4), Tile(16, 64, 0, 64, 4, 6),
    Tile(32, 64, 0, 64, 4, 6), Tile(64, 64, 0, 64, 4, 5), Tile(64, 64, 0, 128, 4, 3),
    Tile(128, 64, 0, 64, 4, 4), Tile(64, 128, 0, 64, 4, 4), Tile(128, 128, 0, 64, 8, 3),
)  # fmt: skip


_MEDIUM = (*_SMALL[4:], *_LARGE[:6])
_OFF = 0.01  # relative: bfloat16 sums in another order are nearer


def layers(config: AutoencoderConfig) -> Counter[Layer]:
    """As FusedPaint runs them."""
    with torch.device("meta"):
        decoder = Decoder(config)
    rows, columns, out = _ROWS, _COLUMNS, Counter[Layer]()
    for i, layer in enumerate(decoder.body):
        last = i == len(decoder.body) - 1
        if isinstance(layer, ConvBlock):
            width = layer.conv1.in_channels
            out[Layer(rows, columns, width, width, 3, silu=True)] += 1
            out[Layer(rows, columns, width, width, 3, residual=True, silu=last)] += 1
        elif isinstance(layer, Up):
            conv = layer.conv
            out[Layer(rows, columns, conv.in_channels, conv.out_channels, 1, layer.factor, silu=last)] += 1
            rows, columns = rows * layer.factor, columns * layer.factor
        else:
            assert isinstance(layer, nn.Conv2d)
            out[Layer(rows, columns, layer.in_channels, layer.out_channels, 3)] += 1
    tail = decoder.tail
    final = Layer(rows, columns, tail.in_channels, tail.out_channels, 3, decoder.last_shuffle, bytes=True)
    return out + Counter([final])


def tiles(layer: Layer, batch: int) -> list[Tile]:
    """Those worth a try."""
    pixels = batch * layer.rows * layer.columns
    if pixels < 16000:
        return list(_SMALL if pixels < 4000 else _MEDIUM)
    out = [tile for tile in _LARGE if tile.channels < 2 * layer.cout]
    if layer.cout == 320:
        out += [Tile(128, 256, 64, 64, 8, 3), Tile(64, 256, 64, 64, 4, 3), Tile(128, 256, 64, 64, 8, 2)]
    if layer.cout == 192:
        out += [Tile(128, 128, 64, 64, 8, 3), Tile(128, 128, 64, 64, 8, 2), Tile(256, 64, 0, 64, 8, 4)]
        out += [Tile(128, 64, 0, 64, 4, 4, 2), Tile(64, 128, 64, 64, 4, 3)]
    return out


def inputs(layer: Layer, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    """x, a convolution's weight and bias, residual, out."""
    torch.manual_seed(0)
    x = F.silu(torch.randn(batch, layer.rows, layer.columns, layer.cin, device=DEVICE)).bfloat16()
    weight = torch.randn(layer.cout, layer.cin, layer.side, layer.side, device=DEVICE).bfloat16()
    weight *= (layer.cin * layer.side**2) ** -0.5
    s = layer.shuffle
    shape = (batch, layer.rows * s, layer.columns * s, layer.cout // s**2)
    out = torch.zeros(shape, device=DEVICE, dtype=torch.uint8 if layer.bytes else torch.bfloat16)
    residual = torch.randn(shape, device=DEVICE).bfloat16() if layer.residual else None
    return x, weight, torch.randn(layer.cout, device=DEVICE), residual, out


def plain(layer: Layer, batch: int) -> Launch:
    """The kernel without a copy engine."""
    from engine.fast.fused_decoder import Convolution

    x, weight, bias, residual, out = inputs(layer, batch)
    packed = weight.permute(2, 3, 1, 0).flatten(0, 1).contiguous()
    kernel = Convolution(packed, bias, layer.side // 2, layer.shuffle, False)
    return lambda: kernel(x, residual, layer.silu, out)


def tiled(layer: Layer, batch: int, tile: Tile) -> Launch:
    x, weight, bias, residual, out = inputs(layer, batch)
    packed = weight.permute(2, 3, 0, 1).flatten(0, 1).contiguous()
    after = Epilogue(residual, layer.silu, layer.shuffle)

    def launch() -> Tensor:
        convolve(x, packed, bias, layer.side // 2, after, out, tile)
        return out

    return launch


def pytorch(layer: Layer, batch: int) -> Launch:
    x, weight, *_ = inputs(layer, batch)
    seen, kernel = x.permute(0, 3, 1, 2), weight.to(memory_format=torch.channels_last)
    return lambda: F.conv2d(seen, kernel, padding=layer.side // 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--game", choices=NAMES, default="wide-decoder")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path, help="write every tile's time here")
    parser.add_argument("--keep", type=Path, help="add what was found to this table")
    options = parser.parse_args()
    counted, batch = layers(preset(options.game).autoencoder), options.batch
    cases = []
    for layer in counted:
        cases.append(Case(str(layer), "(plain)", plain, (layer, batch)))
        cases.append(Case(str(layer), "(torch)", pytorch, (layer, batch)))
        cases += [Case(str(layer), str(tile), tiled, (layer, batch, tile)) for tile in tiles(layer, batch)]
    results = tried(cases)
    print(table(results, {str(layer): layer.gflop(batch) for layer in counted}))
    if options.out:
        options.out.write_text(to_json(results))
    found = winners(counted, batch, results)
    if options.keep:
        kept = TileTable.read(options.keep).tiles if options.keep.exists() else {}
        again = {TileTable.key(layer, batch) for layer in counted}
        stay = {key: tile for key, tile in kept.items() if key not in again}
        TileTable(stay | found).write(options.keep)
    said = {key: str(tile) for key, tile in found.items()}
    print(json.dumps(summary(options.game, batch, counted, results) | {"tiles": said}))


def winners(counted: Counter[Layer], batch: int, results: list[Tried]) -> dict[str, Tile]:
    """Layers that the best tile computes sooner than the other kernel, as a table has them."""
    out: dict[str, Tile] = {}
    for layer in counted:
        own = [one for one in results if one.case.shape == str(layer) and not one.why]
        plain_ms = next((one.ms for one in own if one.case.tile == "(plain)"), float("inf"))
        good = [one for one in own if isinstance(one.case.args[-1], Tile) and one.off < _OFF]
        best = min(good, key=lambda one: one.ms, default=None)
        if best is not None and best.ms < plain_ms:
            out[TileTable.key(layer, batch)] = best.case.args[-1]
    return out


def summary(game: str, batch: int, counted: Counter[Layer], results: list[Tried]) -> dict[str, Any]:
    total = {"plain": 0.0, "best": 0.0, "gflop": 0.0}
    for layer, count in counted.items():
        own = [one for one in results if one.case.shape == str(layer) and not one.why]
        own = [one for one in own if one.case.tile != "(torch)"]
        total["plain"] += count * next((one.ms for one in own if one.case.tile == "(plain)"), 0.0)
        total["best"] += count * min(one.ms for one in own)
        total["gflop"] += count * layer.gflop(batch)
    figures = {f"{name}_ms": round(total[name], 4) for name in ("plain", "best")}
    figures["best_tflop_per_s"] = round(total["gflop"] / total["best"], 1)
    return {"bench": "tiles", "game": game, "batch": batch, "device": hardware(DEVICE)} | figures


if __name__ == "__main__":
    main()
