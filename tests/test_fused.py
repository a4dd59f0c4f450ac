"""The Triton decoder against the readable one: in Triton's interpreter on the CPU, on the GPU itself where
there is one."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engine.fast.bands import Rows
from engine.fast.cuda_graph import EagerPaint, GraphDecoder, make_paint
from engine.models.autoencoder import Decoder, to_bytes
from tests.tiny import DEVICE, ON_GPU, shaken, tiny_config

pytest.importorskip("triton")

from engine.fast.fused_decoder import Convolution, FusedPaint
from engine.fast.tiled_convolution import Epilogue, Tile, box_of, convolve

pytestmark = pytest.mark.usefixtures("one_thread")


def layer(cin: int, cout: int, kernel: int = 3) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(cin, cout, kernel, padding=kernel // 2).requires_grad_(False).to(DEVICE)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] -> [B, H, W, C] contiguous, and back."""
    return x.permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize("cin, cout", [(8, 8), (20, 24), (16, 72)])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("silu", [False, True])
def test_convolution_with_what_follows_it(cin, cout, residual, silu):
    conv, x = layer(cin, cout), torch.randn(2, cin, 3, 5, device=DEVICE)
    added = torch.randn(2, cout, 3, 5, device=DEVICE) if residual else None
    expected = conv(x) if added is None else conv(x) + added
    expected = F.silu(expected) if silu else expected
    made = Convolution.of(conv, torch.float32)(
        channels_last(x), None if added is None else channels_last(added), silu
    )
    torch.testing.assert_close(made, channels_last(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("factor", [2, 3])
def test_up_step_is_stored_shuffled(factor):
    conv, x = layer(12, 5 * factor**2, kernel=1), torch.randn(2, 12, 3, 4, device=DEVICE)
    made = Convolution.of(conv, torch.float32, factor)(channels_last(x))
    torch.testing.assert_close(made, channels_last(F.pixel_shuffle(conv(x), factor)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("factor", [4, 8])
def test_tail_writes_bytes_and_clamps(factor):
    conv = layer(8, 3 * factor**2)
    conv.weight *= 8  # far beyond 0..1
    x = torch.randn(2, 8, 3, 4, device=DEVICE)
    expected = to_bytes(F.pixel_shuffle(conv(x), factor) * 0.5 + 0.5)
    made = torch.empty_like(expected)
    Convolution.of(conv, torch.float32, factor)(channels_last(x), out=made)
    assert expected.min() == 0 and expected.max() == 255
    off = (made.int() - expected.int()).abs()
    assert off.max() <= 1 and (off > 0).float().mean() < 1e-3  # sums in another order, at a rounding edge


@pytest.mark.parametrize("blocks", [(1, 1, 1), (1, 0, 1, 0)], ids=str)
def test_whole_decoder_gives_the_models_bytes(blocks):
    tiny = tiny_config().autoencoder
    torch.manual_seed(0)
    model = Decoder(replace(tiny, decoder_widths=(16, 16, 8, 8)[: len(blocks)], decoder_blocks=blocks))
    shaken(model).to(DEVICE)
    latents = torch.randn(1, 16, 2, 3, device=DEVICE)
    expected = to_bytes(model(latents)).int()
    for paint in (FusedPaint(model, torch.float32), EagerPaint(model, torch.float32)):
        made = torch.zeros(1, 96, 144, 3, dtype=torch.uint8, device=DEVICE)
        paint(latents, made)
        assert (made.int() - expected).abs().max() <= 1


@pytest.mark.parametrize("rows", [(0, 2), (2, 4)], ids=str)
@pytest.mark.parametrize("kind", [FusedPaint, EagerPaint])
def test_a_band_is_the_whole_pictures_rows(kind, rows):
    torch.manual_seed(0)
    tiny = tiny_config().autoencoder
    model = Decoder(replace(tiny, decoder_widths=(16, 8, 8), decoder_blocks=(1, 1, 0)))
    shaken(model).to(DEVICE)
    latents, band = torch.randn(2, 16, 6, 1, device=DEVICE), Rows(*rows, 6)
    whole = torch.zeros(2, 288, 48, 3, dtype=torch.uint8, device=DEVICE)
    part = torch.zeros(2, 48 * len(band), 48, 3, dtype=torch.uint8, device=DEVICE)
    kind(model, torch.float32)(latents, whole)
    kind(model, torch.float32, band)(latents, part)
    off = part.int() - whole[:, 48 * band.begin : 48 * band.end].int()
    assert off.abs().max() <= 1 and (off != 0).float().mean() < 1e-3


TILES = [Tile(64, 16, 0, 16, 4, 3), Tile(32, 32, 16, 16, 4, 3), Tile(32, 16, 0, 16, 4, 3, 1, True)]


def tiled(conv: nn.Conv2d, x: torch.Tensor, tile: Tile, shuffle: int = 1, silu: bool = False, **ends):
    """`convolve` on channels-last x; ends: residual, out."""
    plain = Convolution.of(conv, x.dtype, shuffle)
    batch, rows, columns, _ = x.shape
    empty = x.new_empty(batch, rows * shuffle, columns * shuffle, conv.out_channels // shuffle**2)
    out = ends.get("out", empty)
    after = Epilogue(ends.get("residual"), silu, shuffle)
    convolve(x, plain.weight.mT.contiguous(), plain.bias, plain.radius, after, out, tile)
    return out


@pytest.mark.parametrize("tile", TILES, ids=str)
@pytest.mark.parametrize("cin, cout", [(16, 24), (24, 40)])
def test_tiles_give_the_convolution_to_the_border_and_what_follows(tile, cin, cout):
    conv, x = layer(cin, cout), torch.randn(3, cin, 3, 5, device=DEVICE)
    added = torch.randn(3, cout, 3, 5, device=DEVICE)
    made = tiled(conv, channels_last(x), tile, silu=True, residual=channels_last(added))
    torch.testing.assert_close(made, channels_last(F.silu(conv(x) + added)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tiles_shuffle_and_write_bytes(tile):
    conv, x = layer(12, 5 * 4, kernel=1), torch.randn(2, 12, 3, 4, device=DEVICE)
    expected = channels_last(F.pixel_shuffle(conv(x), 2))
    torch.testing.assert_close(tiled(conv, channels_last(x), tile, 2), expected, atol=1e-5, rtol=1e-5)
    conv = layer(12, 3 * 16)
    expected = to_bytes(F.pixel_shuffle(conv(x), 4) * 0.5 + 0.5)
    made = tiled(conv, channels_last(x), tile, 4, out=torch.empty_like(expected)).int()
    assert (made - expected).abs().max() <= 1 and (made != expected).float().mean() < 1e-3


def test_boxes_waste_little():
    for batch, rows, columns in ((64, 10, 15), (64, 20, 30), (64, 60, 90)):
        for pixels in (128, 256):
            box = box_of(pixels, batch, rows, columns, False)
            covered = 1
            for size, whole in zip(box, (batch, rows, columns)):
                covered *= -(-whole // size) * size
            assert covered < 1.08 * batch * rows * columns
    assert box_of(256, 1, 10, 15, False) == (1, 16, 16)


def test_half_precision_stays_near():
    dtype = torch.bfloat16 if ON_GPU else torch.float16  # the interpreter's bfloat16 products are wrong
    conv, x = layer(16, 16), torch.randn(1, 16, 4, 4, device=DEVICE)
    made = Convolution.of(conv, dtype)(channels_last(x).to(dtype), silu=True)
    assert made.dtype == dtype
    torch.testing.assert_close(made.float(), channels_last(F.silu(conv(x))), atol=0.03, rtol=0.03)


def test_without_a_gpu_the_plain_way_is_chosen():
    if not ON_GPU:
        assert isinstance(make_paint(Decoder(tiny_config().autoencoder), torch.float32), EagerPaint)


HOPPER = """
import triton, sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from engine.fast.fused_decoder import _convolve as kernel
types = dict.fromkeys(kernel.arg_names[:5], "*bf16") | dict.fromkeys(kernel.arg_names[5:8], "i32")
types |= {"bias_pointer": "*fp32", "out_pointer": "*u8"}
values = dict(CIN=64, COUT=192, RADIUS=1, SHUFFLE=8, RESIDUAL=False, SILU=False, BYTES=True, PRECISION="ieee")
values |= dict(BM=64, BN=64, BK=64)
source = ASTSource(
    kernel,
    types | dict.fromkeys(values, "constexpr"),
    {(kernel.arg_names.index(name),): value for name, value in values.items()},
    {(i,): [["tt.divisibility", 16]] for i in range(5)},
)
made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4, "num_stages": 4})
assert "wgmma" in made.asm["ptx"] and made.asm["cubin"]
"""


def test_kernel_compiles_for_hopper_without_one(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", HOPPER], env=environment, check=True, timeout=100)


@pytest.mark.gpu
def test_captured_fused_decoder_stays_within_a_tenth_of_a_decibel():
    torch.manual_seed(0)
    model = Decoder(tiny_config().autoencoder)
    shaken(model).cuda()
    latents = torch.randn(4, 16, 10, 15, device="cuda")
    decoder = GraphDecoder(model, (16, 10, 15), 4, paint=FusedPaint(model, torch.bfloat16))
    decoder.latents.copy_(latents)
    decoder.replay()
    off = decoder.pictures.float() - to_bytes(model(latents)).float()
    assert 10 * torch.log10(255**2 / off.square().mean()) > 45


LARGE = [Tile(256, 128, 0, 64, 8, 4), Tile(128, 256, 64, 64, 8, 3), Tile(128, 128, 0, 64, 4, 3, 1)]


@pytest.mark.gpu
@pytest.mark.parametrize("tile", LARGE, ids=str)
def test_large_tiles_stay_near(tile):
    conv, x = layer(96, 320), torch.randn(3, 96, 20, 30, device="cuda")
    added = torch.randn(3, 320, 20, 30, device="cuda")
    half = conv.bfloat16()
    ends = {"residual": channels_last(added).bfloat16()}
    made = tiled(half, channels_last(x).bfloat16(), tile, silu=True, **ends).float()
    expected = channels_last(F.silu(half.float()(x.bfloat16().float()) + added.bfloat16().float()))
    assert (made - expected).norm() / expected.norm() < 5e-3
