"""The fused step where many worlds step at once: large matrix products, each fed by the copy engine.

With few worlds what costs is the number of kernels, so engine/fast/fused_world.py norms inside each
product. With some thousand rows that norms every row once for every tile of columns and keeps the matrix
units waiting. Here the norm is a kernel of its own, and a product is one of Hopper's: boxes by TMA, sums of
128 rows, and what follows (GELU, bias, gate and residual) on the sums. All else is the fused step's."""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.fast.fused_world import FusedStep
from engine.fast.static_world import StaticWorld
from engine.fast.tiled_convolution import described
from engine.fast.world_kernels import EPSILON

LEAST_ROWS = 640
"""From so many tokens at once on, large products win: 4 worlds of the games took 0.585 ms for 1.044, 2 took
0.534 for 0.514 (one H100, `bench engine --worlds`)."""
_LEAST_ROWS_WIDE, _WIDE = 4096, 512  # of models wider than that, where nobody measured
_LEAST_TOKENS = 64  # of one world: a tile has rows of two worlds at most
_HOPPER = (9, 0)  # the first with a copy engine
_NORMED_ROWS = 4


@triton.jit
def norm(
    x_pointer, modulation_pointer, out_pointer, rows, tokens,
    WIDTH: tl.constexpr, SHIFT: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """x [rows, WIDTH] float32 -> out, its RMS norm, with SHIFT >= 0 scaled and shifted by modulation [rows /
    tokens, 6, WIDTH] (its shift stands at SHIFT, its scale next)."""
    m, c = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, BC)
    inside = (m < rows)[:, None] & (c < WIDTH)
    place = m.to(tl.int64)[:, None] * WIDTH + c
    x = tl.load(x_pointer + place, mask=inside, other=0.0)
    x *= tl.rsqrt(tl.sum(x * x, 1) / WIDTH + EPSILON)[:, None]
    if SHIFT >= 0:
        own = modulation_pointer + (m // tokens).to(tl.int64)[:, None] * (6 * WIDTH) + c
        x *= tl.load(own + (SHIFT + 1) * WIDTH, mask=inside, other=0.0)
        x += tl.load(own + SHIFT * WIDTH, mask=inside, other=0.0)
    tl.store(out_pointer + place, x.to(out_pointer.dtype.element_ty), mask=inside)


@triton.jit
def multiply(
    x, weight, out, bias_pointer, modulation_pointer, out_pointer, rows, tokens,
    K: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr, BIAS: tl.constexpr, GELU: tl.constexpr,
    RESIDUAL: tl.constexpr, GATE: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """x: boxes [BM, BK] of [rows, K]; weight: [BN, BK] of [N, K]; out: [BM, BN] of [rows, N], which with
    RESIDUAL is added to. bias [N]; GATE: where the gate stands in modulation [rows / tokens, 6, WIDTH], -1:
    none. A tile has rows of two worlds at most: BM <= tokens."""
    groups: tl.constexpr = (N + BN - 1) // BN
    m, n = tl.program_id(0) // groups * BM, tl.program_id(0) % groups * BN
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        total = tl.dot(x.load([m, start]), weight.load([n, start]).T, total, input_precision=PRECISION)
    column = n + tl.arange(0, BN)
    if BIAS:
        total += tl.load(bias_pointer + column, mask=column < N, other=0.0).to(tl.float32)
    if GELU:  # tanh by a sigmoid
        total = total / (1.0 + tl.exp(-1.5957691216057308 * (total + 0.044715 * total * total * total)))
    if GATE >= 0:
        world = m // tokens
        last = (rows - 1) // tokens
        gates = modulation_pointer + GATE * WIDTH + column
        first = tl.load(gates + world.to(tl.int64) * (6 * WIDTH), mask=column < N, other=0.0)
        after = tl.minimum(world + 1, last).to(tl.int64)
        second = tl.load(gates + after * (6 * WIDTH), mask=column < N, other=0.0)
        own = m + tl.arange(0, BM) < (world + 1) * tokens
        total *= tl.where(own[:, None], first[None, :], second[None, :])
    if RESIDUAL:
        total += out.load([m, n])
    out.store([m, n], total.to(out_pointer.dtype.element_ty))


@dataclass(frozen=True)
class ProductTile:
    """rows x columns sums a program, `depth` of K at a time."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}x{self.depth} w{self.warps} s{self.stages}"


def chosen_tile(n: int, k: int, tokens: int, residual: bool) -> ProductTile:
    """Reckoned, not measured yet: engine/bench/world_tiles.py tries them on a GPU."""
    rows = min(128, 1 << (tokens.bit_length() - 1))
    if n % 128 and n % 64 == 0:
        return ProductTile(rows, 64, 64, 4, 4)
    return ProductTile(rows, 128, 64, 8 if residual else 4, 3)


class ManyStep(FusedStep):
    """A FusedStep whose products over all tokens are large ones."""

    def __init__(self, world: StaticWorld, tuned: bool = False) -> None:
        super().__init__(world, tuned)
        rows, config = world.slots * self.tokens, world.config
        self.normed = torch.empty(rows, config.width, dtype=world.dtype, device=world.device)

    def _project(
        self,
        x: Tensor,
        weight: Tensor,
        out: Tensor,
        modulation: Tensor | None = None,
        bias: Tensor | None = None,
        **how: Any,
    ) -> None:
        if len(x) != len(self.normed) or out.stride(0) * out.itemsize % 16:  # a row a world; no box fits
            super()._project(x, weight, out, modulation, bias, **how)
            return
        if how.pop("NORM", False):
            norm_rows(x, modulation, self.normed, self.tokens, how.pop("SHIFT", -1))
            x = self.normed
        tile = chosen_tile(len(weight), weight.shape[1], self.tokens, bool(how.get("RESIDUAL")))
        product(x, weight, out, self.tokens, tile, modulation, bias, **how)


def takes(world: StaticWorld) -> bool:
    """Whether its step has products large enough, and of a shape that boxes can be copied of."""
    least = LEAST_ROWS if world.config.width <= _WIDE else _LEAST_ROWS_WIDE
    many = world.slots * world.config.tokens >= least and world.config.tokens >= _LEAST_TOKENS
    return many and world.config.width * world.dtype.itemsize % 16 == 0 and _has_copy_engine(world.device)


def _has_copy_engine(device: torch.device) -> bool:
    """Or needs none: the interpreter."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= _HOPPER


def norm_rows(x: Tensor, modulation: Tensor | None, out: Tensor, tokens: int, shift: int) -> None:
    """x [rows, WIDTH] float32 -> out; modulation [B, 6, WIDTH]; see `norm`."""
    rows, width = x.shape
    norm[(triton.cdiv(rows, _NORMED_ROWS),)](
        x, x if modulation is None else modulation, out, rows, tokens,
        WIDTH=width, SHIFT=shift, BM=_NORMED_ROWS, BC=triton.next_power_of_2(width), num_warps=4,
    )  # fmt: skip


def product(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    tokens: int,
    tile: ProductTile,
    modulation: Tensor | None = None,
    bias: Tensor | None = None,
    **how: Any,
) -> None:
    """x [rows, K], weight [N, K] -> out [rows, N]; how: GELU, RESIDUAL, GATE, see `multiply`."""
    (rows, k), n = x.shape, len(weight)
    assert tile.rows <= tokens
    multiply[(triton.cdiv(rows, tile.rows) * triton.cdiv(n, tile.columns),)](
        described(x, (tile.rows, tile.depth)), described(weight, (tile.columns, tile.depth)),
        described(out, (tile.rows, tile.columns)), weight if bias is None else bias,
        x if modulation is None else modulation, out, rows, tokens,
        **{"K": k, "N": n, "WIDTH": 1 if modulation is None else modulation.shape[-1],
           "BIAS": bias is not None, "GELU": False, "RESIDUAL": False, "GATE": -1, "PRECISION": "ieee",
           "BM": tile.rows, "BN": tile.columns, "BK": tile.depth} | how,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
