"""The best tiles of the world step's kernels with many worlds, on this GPU, in under a minute.

    python -m engine.bench.world_tiles --game racing --worlds 16,128 [--out FILE]

Products over all tokens: PyTorch's product alone, the kernel that norms inside (what fused_world.py takes),
and tiles of engine/fast/many_step.py. Then norms and both attentions with other sizes of blocks. What
`chosen_tile` and the blocks there should be. Ends with one JSON line: the sum over a step of the best."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor

from engine.bench.command import numbers
from engine.bench.presets import NAMES, preset
from engine.bench.timing import hardware
from engine.bench.tuning import DEVICE, Case, Launch, Tried, table, to_json, tried
from engine.config import WorldConfig
from engine.fast import fused_world, world_kernels
from engine.fast.many_step import ProductTile, norm, product

_TILES = (
    ProductTile(128, 64, 64, 4, 4), ProductTile(128, 64, 64, 4, 3), ProductTile(128, 128, 64, 4, 3),
    ProductTile(128, 128, 64, 8, 3), ProductTile(128, 256, 64, 8, 3), ProductTile(64, 64, 64, 4, 4),
    ProductTile(64, 128, 64, 4, 4), ProductTile(64, 256, 64, 4, 3), ProductTile(64, 64, 128, 4, 3),
    ProductTile(128, 64, 128, 4, 2), ProductTile(32, 64, 64, 4, 4),
)  # fmt: skip
_ATTEND = ((16, 64, 4, 2), (32, 32, 2, 2), (32, 64, 4, 2), (64, 32, 4, 2), (64, 64, 4, 2), (64, 64, 4, 3),
           (128, 64, 8, 2), (64, 256, 4, 1), (64, 256, 8, 1))  # fmt: skip
_PAST = ((1, 1), (2, 2), (4, 4), (4, 2), (8, 4), (16, 4), (8, 8))
_NORM = ((1, 1), (1, 2), (2, 4), (4, 4), (8, 4), (8, 8))


class Sizes:
    """Inputs of one number of worlds, random, on the GPU."""

    def __init__(self, config: WorldConfig, worlds: int) -> None:
        torch.manual_seed(0)
        self.config, self.worlds, self.rows = config, worlds, worlds * config.tokens
        self.modulation = 1 + 0.1 * torch.randn(worlds, 6, config.width, device=DEVICE)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=DEVICE)


def product_of(config: WorldConfig, worlds: int, k: int, n: int, how: dict[str, Any], tile: Any) -> Launch:
    """tile: a ProductTile, "plain" or "torch"."""
    sizes = Sizes(config, worlds)
    x, weight = sizes.random(sizes.rows, k), (sizes.random(n, k) * k**-0.5).bfloat16()
    after = {name: value for name, value in how.items() if name not in ("NORM", "SHIFT")}
    out = torch.zeros(sizes.rows, n, device=DEVICE, dtype=torch.float32 if "GATE" in how else torch.bfloat16)
    if tile == "torch":
        half = x.bfloat16()
        return lambda: half @ weight.T
    if tile == "plain":
        return plain_product(sizes, x, weight, out, how)
    normed = torch.empty(x.shape, device=DEVICE, dtype=torch.bfloat16)
    if "NORM" in how:
        normed.copy_(torch.nn.functional.rms_norm(x, (k,), eps=1e-6) * by_row(sizes, 1) + by_row(sizes, 0))
    else:
        normed.copy_(x)

    def launch() -> Tensor:
        product(normed, weight, out, config.tokens, tile, sizes.modulation, None, **after)
        return out

    return launch


def by_row(sizes: Sizes, place: int) -> Tensor:
    return sizes.modulation[:, place].repeat_interleave(sizes.config.tokens, 0)


def plain_product(sizes: Sizes, x: Tensor, weight: Tensor, out: Tensor, how: dict[str, Any]) -> Launch:
    """The kernel that norms inside, with the tile that it takes untuned."""
    (n, k), tokens = weight.shape, sizes.config.tokens
    x = x if "NORM" in how else x.bfloat16()
    bm, bn, bk, warps, stages = fused_world.chosen_tile(sizes.rows, n, k, torch.bfloat16)
    constants = {"NORM": False, "SHIFT": -1, "SILU": False, "GELU": False, "RESIDUAL": False, "GATE": -1,
                 "BIAS": False, "K": k, "N": n, "WIDTH": sizes.config.width, "PRECISION": "ieee",
                 "ALONE": tokens % bm == 0, "BM": bm, "BN": bn, "BK": bk} | how  # fmt: skip

    def launch() -> Tensor:
        world_kernels.project[(triton.cdiv(sizes.rows, bm), triton.cdiv(n, bn))](
            x, weight, weight, sizes.modulation, out, sizes.rows, tokens, x.stride(0), n,
            **constants, num_warps=warps, num_stages=stages,
        )  # fmt: skip
        return out

    return launch


def norm_of(config: WorldConfig, worlds: int, block: int, warps: int) -> Launch:
    sizes = Sizes(config, worlds)
    x = sizes.random(sizes.rows, config.width)
    out = torch.empty(x.shape, device=DEVICE, dtype=torch.bfloat16)

    def launch() -> Tensor:
        norm[(triton.cdiv(sizes.rows, block),)](
            x, sizes.modulation, out, sizes.rows, config.tokens, WIDTH=config.width, SHIFT=0, BM=block,
            BC=triton.next_power_of_2(config.width), num_warps=warps,
        )  # fmt: skip
        return out

    return launch


def attend_of(config: WorldConfig, worlds: int, bm: int, bn: int, warps: int, stages: int) -> Launch:
    sizes, wide = Sizes(config, worlds), config.head_width
    qkv = sizes.random(sizes.rows, 3 * config.width).bfloat16()
    scale, out = torch.ones(wide, device=DEVICE), torch.empty_like(qkv[:, : config.width]).contiguous()

    def launch() -> Tensor:
        world_kernels.attend[(triton.cdiv(config.tokens, bm), config.heads, worlds)](
            qkv, scale, scale, out, config.tokens, wide**-0.5, HEADS=config.heads, WIDE=wide,
            PRECISION="ieee", BM=bm, BN=bn, BD=max(16, triton.next_power_of_2(wide)), num_warps=warps,
            num_stages=stages,
        )  # fmt: skip
        return out

    return launch


def past_of(config: WorldConfig, worlds: int, block: int, warps: int) -> Launch:
    sizes, wide = Sizes(config, worlds), config.head_width
    qkv = sizes.random(sizes.rows, 3 * config.width).bfloat16()
    scale, out = torch.ones(wide, device=DEVICE), torch.empty_like(qkv[:, : config.width]).contiguous()
    turn, slot = sizes.random(worlds, 2, wide // 2), torch.zeros(worlds, device=DEVICE, dtype=torch.int64)
    bias = torch.zeros(worlds, config.context, device=DEVICE, dtype=torch.bfloat16)
    shape = (2, worlds, config.tokens, config.heads, config.context, wide)
    ring = torch.randn(shape, device=DEVICE, dtype=torch.bfloat16)

    def launch() -> Tensor:
        world_kernels.attend_past[(triton.cdiv(config.tokens, block), config.heads, worlds)](
            qkv, scale, scale, turn, slot, bias, ring, out, config.tokens, wide**-0.5,
            HEADS=config.heads, HALF=wide // 2, CONTEXT=config.context, BT=block,
            BC=triton.next_power_of_2(config.context), BH=triton.next_power_of_2(wide // 2), num_warps=warps,
        )  # fmt: skip
        return out

    return launch


def cases_of(config: WorldConfig, worlds: int) -> tuple[list[Case], dict[str, tuple[int, float]]]:
    """The cases; per shape how many a step has, and the GFLOP of one."""
    d, wide, past = config.width, config.mlp_ratio * config.width, len(config.time_layers)
    rows, layers = worlds * config.tokens, config.layers
    products: dict[str, tuple[int, int, dict[str, Any], int]] = {
        "qkv": (d, 3 * d, {"NORM": True, "SHIFT": 0}, layers + past),
        "out": (d, d, {"RESIDUAL": True, "GATE": 2}, layers + past),
        "mlp in": (d, wide, {"NORM": True, "SHIFT": 0, "GELU": True}, layers),
        "mlp out": (wide, d, {"RESIDUAL": True, "GATE": 5}, layers),
    }
    cases: list[Case] = []
    counted: dict[str, tuple[int, float]] = {}

    def add(name: str, count: int, gflop: float, build: Callable[..., Launch], tiles: list[Any]) -> None:
        shape = f"{name}, {worlds} worlds"
        counted[shape] = (count, gflop)
        cases.extend(Case(shape, said, build, (config, worlds, *args)) for said, args in tiles)

    for name, (k, n, how, count) in products.items():
        tiles: list[Any] = [(f"({way})", (k, n, how, way)) for way in ("plain", "torch")]
        tiles += [(str(tile), (k, n, how, tile)) for tile in _TILES]
        add(name, count, 2e-9 * rows * k * n, product_of, tiles)
    add("norm", 2 * layers + past + 1, 0.0, norm_of, [(str(one), one) for one in _NORM])
    attended = 4e-9 * rows * config.tokens * d
    add("attend", layers, attended, attend_of, [(str(one), one) for one in _ATTEND])
    add("past", past, 4e-9 * rows * config.context * d, past_of, [(str(one), one) for one in _PAST])
    return cases, counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--game", choices=NAMES, default="racing")
    parser.add_argument("--worlds", type=numbers, default=(16, 128))
    parser.add_argument("--out", type=Path, help="write every tile's time here")
    options = parser.parse_args()
    cases: list[Case] = []
    counted: dict[str, tuple[int, float]] = {}
    for worlds in options.worlds:
        more, shapes = cases_of(preset(options.game).world, worlds)
        cases += more
        counted |= shapes
    results, sums = tried(cases), dict.fromkeys(options.worlds, 0.0)
    print(table(results, {shape: gflop for shape, (_, gflop) in counted.items()}))
    for worlds in options.worlds:
        own = [(shape, count) for shape, (count, _) in counted.items() if shape.endswith(f" {worlds} worlds")]
        sums[worlds] = round(sum(count * best(results, shape) for shape, count in own), 4)
    if options.out:
        options.out.write_text(to_json(results))
    said = {"bench": "world_tiles", "game": options.game, "device": hardware(DEVICE)}
    print(json.dumps(said | {"best_step_ms": sums}))


def best(results: list[Tried], shape: str) -> float:
    own = [one for one in results if one.case.shape == shape and not one.why]
    return min((one.ms for one in own if not one.case.tile.startswith("(")), default=float("nan"))


if __name__ == "__main__":
    main()
