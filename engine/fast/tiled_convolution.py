"""Convolutions of large batches on Hopper's matrix units: tiles of pixels by the copy engine, no masks.

The implicit matrix product of engine/fast/fused_decoder.py computes an address and a mask for every 16 bytes
of every tap, and that is what binds it where batches are large. Here a tile is a box of pictures x rows x
columns, and each tap loads the same box moved by a pixel: the copy engine (TMA) finds the addresses and puts
zeros beyond the picture's border. Weights are the left operand, pixels the right one, so that both are read
from shared memory as they came; sums are turned once, at the end. engine/bench/tiles.py finds the best sizes
for a layer. Tested like the other kernel: TRITON_INTERPRET=1."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

PROCESSORS = 132  # of an H200


@triton.jit
def _finish(
    total, residual, out, bias_pointer, out_pointer, b, y, x, n, batch, rows, columns,
    COUT: tl.constexpr, SHUFFLE: tl.constexpr, RESIDUAL: tl.constexpr, SILU: tl.constexpr,
    BYTES: tl.constexpr, TB: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """What follows a convolution, and its store: total [BN, TB * TH * TW] of the box at (b, y, x)."""
    pixels: tl.constexpr = TB * TH * TW
    channel = n + tl.arange(0, BN)
    total += tl.load(bias_pointer + channel, mask=channel < COUT, other=0.0)[:, None]
    value = tl.trans(total)
    if RESIDUAL:
        value += residual.load([b, y, x, n]).reshape(pixels, BN).to(tl.float32)
    if SILU:
        value = value / (1.0 + tl.exp(-value))
    if SHUFFLE == 1:
        out.store([b, y, x, n], value.to(out_pointer.dtype.element_ty).reshape(TB, TH, TW, BN))
    else:
        if BYTES:
            value = tl.minimum(tl.maximum(value * 127.5 + 128.0, 0.0), 255.5)
        stored = value.to(out_pointer.dtype.element_ty)
        word: tl.constexpr = 4 if BYTES and COUT // SHUFFLE % 4 == 0 else 1  # bytes to a store
        if word == 4:
            stored = in_words(stored, pixels, BN)
            out_pointer = out_pointer.to(tl.pointer_type(tl.int32))
        m = tl.arange(0, pixels)
        column, row, picture = x + m % TW, y + m // TW % TH, b + m // (TW * TH)
        place = n // word + tl.arange(0, BN // word)
        run: tl.constexpr = COUT // SHUFFLE // word  # what a pixel puts side by side in one row
        corner = (picture.to(tl.int64) * rows + row) * (SHUFFLE * columns * run) + column * run
        inner = place // run * (columns * run) + place % run
        inside = (column < columns) & (row < rows) & (picture < batch)
        mask = inside[:, None] & (place < COUT // word)
        tl.store(out_pointer + (corner[:, None] + inner[None, :]), stored, mask=mask)


@triton.jit
def in_words(value, pixels: tl.constexpr, BN: tl.constexpr):
    """Bytes [pixels, BN], uint8 -> [pixels, BN // 4], int32: a quarter of the stores."""
    even, odd = tl.split(value.reshape(pixels, BN // 4, 2, 2))
    low, high = tl.split(even.to(tl.int32) | (odd.to(tl.int32) << 8))
    return low | (high << 16)


@triton.jit
def _tile(
    image, weight, weight_more, residual, residual_more, out, out_more, bias_pointer, out_pointer,
    tile, batch, rows, columns, wide, high,
    CIN: tl.constexpr, COUT: tl.constexpr, RADIUS: tl.constexpr, SHUFFLE: tl.constexpr,
    RESIDUAL: tl.constexpr, SILU: tl.constexpr, BYTES: tl.constexpr, PRECISION: tl.constexpr,
    TB: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, BN: tl.constexpr, MORE: tl.constexpr,
    BK: tl.constexpr,
):  # fmt: skip
    """See convolve_tiles; of one tile."""
    side: tl.constexpr = 2 * RADIUS + 1
    parts: tl.constexpr = (CIN + BK - 1) // BK
    pixels: tl.constexpr = TB * TH * TW
    each: tl.constexpr = BN + MORE
    groups: tl.constexpr = (COUT + each - 1) // each
    n = tile % groups * each
    box = tile // groups
    x, y, b = box % wide * TW, box // wide % high * TH, box // (wide * high) * TB
    total = tl.zeros((BN, pixels), tl.float32)
    if MORE > 0:
        more = tl.zeros((MORE, pixels), tl.float32)
    for i in range(side * side * parts):  # one loop, so that loads run ahead from tap to tap
        tap, c = i // parts, i % parts * BK
        seen = image.load([b, y + tap // side - RADIUS, x + tap % side - RADIUS, c])
        seen = tl.trans(seen.reshape(pixels, BK))
        w = weight.load([tap * COUT + n, c])
        total = tl.dot(w, seen, total, input_precision=PRECISION)
        if MORE > 0:
            w = weight_more.load([tap * COUT + n + BN, c])
            more = tl.dot(w, seen, more, input_precision=PRECISION)
    _finish(
        total, residual, out, bias_pointer, out_pointer, b, y, x, n, batch, rows, columns,
        COUT, SHUFFLE, RESIDUAL, SILU, BYTES, TB, TH, TW, BN,
    )  # fmt: skip
    if MORE > 0:
        _finish(
            more, residual_more, out_more, bias_pointer, out_pointer, b, y, x, n + BN, batch, rows,
            columns, COUT, SHUFFLE, RESIDUAL, SILU, BYTES, TB, TH, TW, MORE,
        )  # fmt: skip


@triton.jit
def convolve_tiles(
    image, weight, weight_more, residual, residual_more, out, out_more, bias_pointer, out_pointer,
    batch, rows, columns, wide, high, tiles,
    CIN: tl.constexpr, COUT: tl.constexpr, RADIUS: tl.constexpr, SHUFFLE: tl.constexpr,
    RESIDUAL: tl.constexpr, SILU: tl.constexpr, BYTES: tl.constexpr, PRECISION: tl.constexpr,
    TB: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, BN: tl.constexpr, MORE: tl.constexpr,
    BK: tl.constexpr, STAY: tl.constexpr,
):  # fmt: skip
    """image: boxes [TB, TH, TW, BK] of [batch, rows, columns, CIN]; weight: [BN, BK] of [taps * COUT, CIN];
    residual, out: [TB, TH, TW, BN]; *_more: of MORE channels beside BN, a second sum over the same pixels.
    wide, high: boxes across and down a picture; tiles: all, channels first. With SHUFFLE (or BYTES) the
    store goes to out_pointer: see fused_decoder. STAY: programs go on to further tiles, loads run ahead."""
    if STAY:
        for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0), flatten=True):
            _tile(
                image, weight, weight_more, residual, residual_more, out, out_more, bias_pointer, out_pointer,
                tile, batch, rows, columns, wide, high,
                CIN, COUT, RADIUS, SHUFFLE, RESIDUAL, SILU, BYTES, PRECISION, TB, TH, TW, BN, MORE, BK,
            )  # fmt: skip
    else:
        _tile(
            image, weight, weight_more, residual, residual_more, out, out_more, bias_pointer, out_pointer,
            tl.program_id(0), batch, rows, columns, wide, high,
            CIN, COUT, RADIUS, SHUFFLE, RESIDUAL, SILU, BYTES, PRECISION, TB, TH, TW, BN, MORE, BK,
        )  # fmt: skip


@dataclass(frozen=True)
class Tile:
    """pixels x (channels + more) sums a program, `depth` of a tap's input channels at a time. per_processor:
    programs that stay and take one tile after another; 0: a program a tile. narrow: boxes that waste no
    column, whatever their shape."""

    pixels: int
    channels: int
    more: int
    depth: int
    warps: int
    stages: int
    per_processor: int = 0
    narrow: bool = False

    def __str__(self) -> str:
        size = f"{self.pixels}x{self.channels}" + (f"+{self.more}" if self.more else "") + f"x{self.depth}"
        stays = f" p{self.per_processor}" if self.per_processor else ""
        return f"{size} w{self.warps} s{self.stages}{stays}{' n' if self.narrow else ''}"


@dataclass(frozen=True)
class Epilogue:
    """What a kernel does with its sums. residual: like the output; shuffle: factor of the pixel shuffle."""

    residual: Tensor | None
    silu: bool
    shuffle: int


@lru_cache
def box_of(pixels: int, batch: int, rows: int, columns: int, narrow: bool) -> tuple[int, int, int]:
    """Pictures, rows and columns of a box of so many pixels, each a power of two: those that waste least,
    of these the squarest. narrow: waste alone counts, else a box is at least 8 columns wide."""
    powers = [1 << i for i in range(pixels.bit_length())]
    boxes = [(b, h, w) for b, h, w in product(powers, repeat=3) if b * h * w == pixels]
    if not narrow:
        boxes = [box for box in boxes if box[2] >= 8] or boxes

    def cost(box: tuple[int, int, int]) -> tuple[int, float]:
        b, h, w = box
        covered = triton.cdiv(batch, b) * b * triton.cdiv(rows, h) * h * triton.cdiv(columns, w) * w
        return covered, (h + 2) * (w + 2) / (h * w)

    return min(boxes, key=cost)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor, radius: int, after: Epilogue, out: Tensor, tile: Tile
) -> None:
    """x [B, H, W, CIN] contiguous, weight [taps, COUT, CIN], bias [COUT] float32 -> out, see fused_decoder's
    Convolution. CIN and, unless shuffled, COUT are multiples of 16 bytes."""
    batch, rows, columns, cin = x.shape
    cout, s = weight.shape[1], after.shuffle
    box = box_of(tile.pixels, batch, rows, columns, tile.narrow)
    wide, high = triton.cdiv(columns, box[2]), triton.cdiv(rows, box[1])
    groups = triton.cdiv(cout, tile.channels + tile.more)
    tiles = triton.cdiv(batch, box[0]) * wide * high * groups
    flat = weight.flatten(0, 1)

    def boxes(tensor: Tensor, channels: int) -> TensorDescriptor:
        return described(tensor, (*box, channels))

    image = boxes(x, tile.depth)
    weights = [described(flat, (n, tile.depth)) for n in (tile.channels, tile.more or tile.channels)]
    dense = (x if after.residual is None else after.residual, x if s > 1 else out)
    ends = [boxes(tensor, n) for tensor in dense for n in (tile.channels, tile.more or tile.channels)]
    programs = min(tiles, PROCESSORS * tile.per_processor) if tile.per_processor else tiles
    constants: dict[str, Any] = {
        "CIN": cin, "COUT": cout, "RADIUS": radius, "SHUFFLE": s, "RESIDUAL": after.residual is not None,
        "SILU": after.silu, "BYTES": out.dtype == torch.uint8, "PRECISION": "ieee",
        "TB": box[0], "TH": box[1], "TW": box[2], "BN": tile.channels, "MORE": tile.more, "BK": tile.depth,
        "STAY": tile.per_processor > 0,
    }  # fmt: skip
    convolve_tiles[(programs,)](
        image, *weights, *ends, bias, out, batch, rows, columns, wide, high, tiles,
        **constants, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip


def described(tensor: Tensor, block: tuple[int, ...]) -> TensorDescriptor:
    return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), list(block))
