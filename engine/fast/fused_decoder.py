"""The decoder as a handful of Triton kernels: what follows a convolution never travels to memory on its own.

One kernel, an implicit matrix product over channels-last pixels (3x3 or 1x1), with what comes after it done
on the accumulator: bias, residual, SiLU, the pixel shuffle as the place it is stored at, and for the last
layer the bytes, so that no full-resolution float picture exists (memory-centric fusion as in SN40L,
2405.07518). Where a table says that they are quicker (large batches), layers run by the tiles of
engine/fast/tiled_convolution.py, with the same after them. Needs Triton; without it engine/fast/cuda_graph.py
paints in plain PyTorch. With TRITON_INTERPRET=1 in the environment before the first import it runs on the
CPU, slowly: the tests do that."""

from dataclasses import dataclass
from functools import cached_property

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from engine.fast.bands import Rows, needed_rows, reach
from engine.fast.tile_table import NO_TILES, Layer, TileTable, tiles_at_hand
from engine.fast.tiled_convolution import Epilogue, convolve, in_words
from engine.models.autoencoder import Decoder, Up
from engine.models.layers import ConvBlock

# Tiles for Hopper: pixels x output channels, and how much of a tap's input channels at a time.
_CONFIGS = [
    triton.Config({"BM": bm, "BN": bn, "BK": bk}, num_warps=warps, num_stages=stages)
    for bm, bn, bk, warps, stages in (
        (16, 32, 128, 4, 4), (32, 32, 64, 4, 4), (32, 64, 64, 4, 4), (64, 32, 64, 4, 4), (64, 64, 32, 4, 4),
        (64, 64, 64, 4, 4), (64, 128, 64, 4, 4),
        (128, 32, 64, 4, 4), (128, 64, 32, 4, 4), (128, 64, 64, 4, 4), (128, 64, 64, 8, 3),
        (128, 128, 32, 8, 4), (128, 128, 64, 8, 3), (128, 256, 64, 8, 3), (256, 64, 64, 8, 3),
    )
]  # fmt: skip


@triton.jit
def _convolve(
    x_pointer, weight_pointer, bias_pointer, residual_pointer, out_pointer, pixels, rows, columns,
    CIN: tl.constexpr, COUT: tl.constexpr, RADIUS: tl.constexpr, SHUFFLE: tl.constexpr,
    RESIDUAL: tl.constexpr, SILU: tl.constexpr, BYTES: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """x [B, rows, columns, CIN], weight [taps, CIN, COUT], bias [COUT] float32, residual like out. out [B,
    rows * SHUFFLE, columns * SHUFFLE, COUT / SHUFFLE^2]: output channels come as (row, column, channel) of
    the shuffle. pixels = B * rows * columns. PRECISION: of float32 products."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    row, column, picture = m // columns % rows, m % columns, m // columns // rows
    total = tl.full((BM, BN), 0.0, tl.float32)
    side: tl.constexpr = 2 * RADIUS + 1
    parts: tl.constexpr = (CIN + BK - 1) // BK
    for i in range(side * side * parts):  # one loop, so that loads run ahead from tap to tap
        tap, c = i // parts, i % parts * BK + k
        y, x = row + tap // side - RADIUS, column + tap % side - RADIUS
        inside = (m < pixels) & (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
        base = ((picture.to(tl.int64) * rows + y) * columns + x) * CIN
        a = tl.load(x_pointer + base[:, None] + c, mask=inside[:, None] & (c < CIN), other=0.0)
        w_place = (tap * CIN + c)[:, None] * COUT + n
        w = tl.load(weight_pointer + w_place, mask=(c < CIN)[:, None] & (n < COUT), other=0.0)
        total = tl.dot(a, w, total, input_precision=PRECISION)
    total += tl.load(bias_pointer + n, mask=n < COUT, other=0.0)
    word: tl.constexpr = 4 if BYTES and COUT // SHUFFLE % 4 == 0 else 1  # bytes to a store
    unit = tl.program_id(1) * (BN // word) + tl.arange(0, BN // word)
    run: tl.constexpr = COUT // SHUFFLE // word  # what a pixel puts side by side in one row
    corner = ((picture.to(tl.int64) * rows + row) * (SHUFFLE * columns) + column) * run
    place = corner[:, None] + (unit // run * (columns * run) + unit % run)
    mask = (m < pixels)[:, None] & (unit < COUT // word)
    if RESIDUAL:
        total += tl.load(residual_pointer + place, mask=mask, other=0.0).to(tl.float32)
    if SILU:
        total = total / (1.0 + tl.exp(-total))
    if BYTES:
        total = tl.minimum(tl.maximum(total * 127.5 + 128.0, 0.0), 255.5)
    value = total.to(out_pointer.dtype.element_ty)
    if word == 4:
        value = in_words(value, BM, BN)
        out_pointer = out_pointer.to(tl.pointer_type(tl.int32))
    tl.store(out_pointer + place, value, mask=mask)


# RADIUS, SHUFFLE and the epilogue are compile-time: a new key tunes anew.
_tuned = triton.autotune(
    _CONFIGS, key=["pixels", "CIN", "COUT", "RADIUS", "SHUFFLE", "RESIDUAL", "SILU", "BYTES"]
)(_convolve)
_PROCESSORS = 132  # of an H200


@dataclass(frozen=True)
class Convolution:
    """A 3x3 or 1x1 convolution's weights as the kernel reads them: weight [taps, CIN, COUT], bias [COUT]."""

    weight: Tensor
    bias: Tensor
    radius: int
    shuffle: int
    tuned: bool
    table: TileTable = NO_TILES

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        conv: nn.Conv2d,
        dtype: torch.dtype,
        shuffle: int = 1,
        tuned: bool = False,
        table: TileTable = NO_TILES,
    ) -> "Convolution":
        """shuffle: factor of the pixel shuffle that follows; its output channels move last. tuned: try all
        tiles of this file's kernel at the first call of each shape; table: layers that run by tiles."""
        weight, bias = conv.weight, conv.bias
        assert bias is not None and conv.kernel_size[0] in (1, 3)
        order = torch.arange(len(bias), device=bias.device).view(-1, shuffle * shuffle).T.flatten()
        packed = weight[order].permute(2, 3, 1, 0).flatten(0, 1).to(dtype).contiguous()
        return cls(packed, bias[order].float().contiguous(), conv.kernel_size[0] // 2, shuffle, tuned, table)

    @cached_property
    def turned(self) -> Tensor:
        """The weight as tiles read it, [taps, COUT, CIN]; made at the first call, before any capture."""
        return self.weight.mT.contiguous()

    def __call__(
        self, x: Tensor, residual: Tensor | None = None, silu: bool = False, out: Tensor | None = None
    ) -> Tensor:
        """x [B, H, W, CIN] contiguous -> [B, H shuffle, W shuffle, COUT / shuffle^2], in x's type, or bytes
        into `out` (uint8). residual is added before the SiLU."""
        batch, rows, columns, cin = x.shape
        assert x.is_contiguous() and cin == self.weight.shape[1]
        cout, s = self.weight.shape[2], self.shuffle
        if out is None:
            out = x.new_empty(batch, rows * s, columns * s, cout // s**2)
        assert out.is_contiguous() and (residual is None or residual.is_contiguous())
        ends = (s, residual is not None, silu, out.dtype == torch.uint8)
        layer = Layer(rows, columns, cin, cout, 2 * self.radius + 1, *ends)
        if (tile := self.table.of(layer, batch, x.itemsize)) is not None:
            convolve(x, self.turned, self.bias, self.radius, Epilogue(residual, silu, s), out, tile)
            return out
        self._plain(x, residual, silu, out)
        return out

    def _plain(self, x: Tensor, residual: Tensor | None, silu: bool, out: Tensor) -> None:
        batch, rows, columns, cin = x.shape
        cout, s = self.weight.shape[2], self.shuffle
        pixels = batch * rows * columns
        inputs = (x, self.weight, self.bias, x if residual is None else residual, out, pixels, rows, columns)
        constants = {
            "CIN": cin, "COUT": cout, "RADIUS": self.radius, "SHUFFLE": s, "RESIDUAL": residual is not None,
            "SILU": silu, "BYTES": out.dtype == torch.uint8, "PRECISION": "ieee",
        }  # fmt: skip
        if self.tuned:
            _tuned[lambda tile: (triton.cdiv(pixels, tile["BM"]), triton.cdiv(cout, tile["BN"]))](
                *inputs, **constants
            )
            return
        bm, bn, bk, warps, stages = chosen_tile(pixels, cin, cout)
        grid = (triton.cdiv(pixels, bm), triton.cdiv(cout, bn))
        _convolve[grid](*inputs, **constants, BM=bm, BN=bn, BK=bk, num_warps=warps, num_stages=stages)


def chosen_tile(pixels: int, cin: int, cout: int) -> tuple[int, int, int, int, int]:
    """BM, BN, BK, warps, stages without tuning: the largest tile that still gives every processor work.
    Tuning may find better, in a minute or two; a player does not wait for it."""
    bk = 64 if cin > 32 else 32 if cin > 16 else 16
    for bm, bn in ((128, 128), (128, 64), (64, 64), (64, 32), (32, 32)):
        if bn < 2 * cout and triton.cdiv(pixels, bm) * triton.cdiv(cout, bn) >= _PROCESSORS:
            break
    return bm, bn, bk, (8 if bm * bn > 8192 else 4), (3 if bm * bn > 8192 else 4)


@dataclass(frozen=True)
class _Block:
    first: Convolution
    second: Convolution


class FusedPaint:
    """The decoder for engine.fast.cuda_graph.GraphDecoder: two kernels a block, one each for an up step and
    the tail."""

    def __init__(
        self,
        decoder: Decoder,
        dtype: torch.dtype,
        band: Rows | None = None,
        tuned: bool = False,
        table: TileTable | None = None,
    ) -> None:
        """table: layers that run by tiles; this machine's unless given."""
        self._dtype = dtype
        table = tiles_at_hand(decoder.tail.weight.device) if table is None else table
        self._layers = [_packed(layer, dtype, tuned, table) for layer in decoder.body]
        self._tail = Convolution.of(decoder.tail, dtype, decoder.last_shuffle, tuned, table)
        self._plan = [] if band is None else band_plan(decoder, band)

    def __call__(self, latents: Tensor, pictures: Tensor) -> None:
        """latents [B, C, h, w] -> pictures uint8 [B, H, W, 3], or the band's rows of them."""
        x = latents.permute(0, 2, 3, 1).to(self._dtype)
        for i, layer in enumerate(self._layers):
            silu = layer is self._layers[-1]  # the tail wants it, the last kernel does it
            x = self._cut(x, i)
            if isinstance(layer, _Block):
                x = layer.second(layer.first(x, silu=True), residual=x, silu=silu)
            else:
                x = layer(x, silu=silu)
        x = self._cut(x, len(self._layers))
        if not self._plan:
            self._tail(x, out=pictures)
            return
        batch, rows, columns, _ = x.shape
        s = self._tail.shuffle
        above, count = self._plan[-1]
        painted = pictures.new_empty(batch, rows * s, columns * s, 3)
        self._tail(x, out=painted)
        pictures.copy_(painted[:, above * s : (above + count) * s])

    def _cut(self, x: Tensor, i: int) -> Tensor:
        """The rows that layer i needs. Zeros stand beyond them inside each kernel: what they touch is cut off
        before the next layer, or is beyond the picture."""
        if self._plan:
            above, count = self._plan[i]
            x = x[:, above : above + count]
        return x.contiguous()


def band_plan(decoder: Decoder, band: Rows) -> list[tuple[int, int]]:
    """For each layer, the tail and the end: how many rows of what came before to leave out above, and how
    many to keep."""
    given, plan = Rows(0, band.height, band.height), []
    for layer, wanted in needed_rows(decoder, band):
        needed = wanted.widened(reach(layer))
        plan.append((needed.begin - given.begin, len(needed)))
        given = needed.after(layer.factor) if isinstance(layer, Up) else needed
    return [*plan, (wanted.begin - given.begin, len(wanted))]


def _packed(layer: nn.Module, dtype: torch.dtype, tuned: bool, table: TileTable) -> Convolution | _Block:
    def packed(conv: nn.Conv2d, shuffle: int = 1) -> Convolution:
        return Convolution.of(conv, dtype, shuffle, tuned, table)

    if isinstance(layer, ConvBlock):
        return _Block(packed(layer.conv1), packed(layer.conv2))
    if isinstance(layer, Up):
        return packed(layer.conv, layer.factor)
    assert isinstance(layer, nn.Conv2d)
    return packed(layer)
