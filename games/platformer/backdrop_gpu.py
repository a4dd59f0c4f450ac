"""The backdrop as one Triton kernel: render.backdrop_cpu on a GPU.

A program owns a tile of one picture; each pixel looks up the sky, the three layers (until one hides the
rest) and its level tile, and is written once. Textures are packed RGBA words that stay in the L2 cache.
Imported only when a CUDA world is rendered.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from games.platformer.ground import ground
from games.platformer.level import Level
from games.platformer.palette import PALETTES
from games.platformer.scenery import LAYERS, scenery
from games.platformer.state import State
from games.platformer.tiles import ARTS
from games.platformer.units import COLUMNS, PERIOD, ROWS, SUB, TILE, VIEW_H, VIEW_W

BLOCK_H, BLOCK_W = 8, 64


def _packed(rgba: Tensor) -> Tensor:
    """[..., 4, H, W] whole numbers 0..255 -> int32 [..., H, W], red lowest."""
    shifts = torch.tensor([0, 8, 16, 24]).view(4, 1, 1)
    words = (rgba.to(torch.int64) << shifts).sum(-3)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


@cache
def _textures(device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Skies [3, 480, 720], layers [3, LAYERS, 480, PERIOD] and tiles [3, ARTS, 48, 48], int32 on `device`."""
    painted = [scenery(look) for look in range(len(PALETTES))]
    skies = torch.stack([torch.cat([sky, torch.full_like(sky[:1], 255)]) for sky, _ in painted])
    layers = torch.stack([layer for _, layer in painted])
    tiles = torch.stack([ground(look) for look in range(len(PALETTES))])
    return (_packed(skies).to(device), _packed(layers).to(device), _packed(tiles).to(device))


@triton.jit
def _over(red, green, blue, word):
    """Lay a packed premultiplied colour over red, green, blue."""
    keep = 1.0 - ((word >> 24) & 255).to(tl.float32) / 255.0
    red = red * keep + (word & 255).to(tl.float32)
    green = green * keep + ((word >> 8) & 255).to(tl.float32)
    blue = blue * keep + ((word >> 16) & 255).to(tl.float32)
    return red, green, blue


@triton.jit
def _backdrop(
    out,
    cameras,
    art,
    skies,
    layers,
    tiles,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    PERIOD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ARTS: tl.constexpr,
    TILE: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
):
    b = tl.program_id(2).to(tl.int64)
    ys = tl.program_id(1) * BH + tl.arange(0, BH)[:, None]
    xs = tl.program_id(0) * BW + tl.arange(0, BW)[None, :]
    inside = (ys < HEIGHT) & (xs < WIDTH)
    look = tl.load(cameras + b * 3)
    camera_x = tl.load(cameras + b * 3 + 1)
    camera_y = tl.load(cameras + b * 3 + 2)
    word = tl.load(skies + (look * HEIGHT + ys) * WIDTH + xs, mask=inside, other=0)
    red = (word & 255).to(tl.float32)
    green = ((word >> 8) & 255).to(tl.float32)
    blue = ((word >> 16) & 255).to(tl.float32)
    for i in tl.static_range(3):
        # The percentages of units.PARALLAX.
        percent = 20 + 25 * i
        x = (xs + camera_x * percent // 100) % PERIOD
        y = tl.maximum(ys - camera_y * percent // 100, 0)
        word = tl.load(layers + ((look * 3 + i) * HEIGHT + y) * PERIOD + x, mask=inside, other=0)
        red, green, blue = _over(red, green, blue, word)
    x = xs + camera_x
    up = camera_y + HEIGHT - 1 - ys
    row = up // TILE
    column = x // TILE
    on = inside & (row < ROWS) & (column < COLUMNS)
    number = tl.load(art + (b * ROWS + row) * COLUMNS + column, mask=on, other=0)
    texel = ((look * ARTS + number) * TILE + TILE - 1 - up % TILE) * TILE + x % TILE
    word = tl.load(tiles + texel, mask=on & (number > 0), other=0)
    red, green, blue = _over(red, green, blue, word)
    target = out + (b * HEIGHT * WIDTH + ys * WIDTH + xs) * 3
    tl.store(target, tl.minimum(red + 0.5, 255.0).to(tl.uint8), mask=inside)
    tl.store(target + 1, tl.minimum(green + 0.5, 255.0).to(tl.uint8), mask=inside)
    tl.store(target + 2, tl.minimum(blue + 0.5, 255.0).to(tl.uint8), mask=inside)


def backdrop_gpu(level: Level, state: State) -> Tensor:
    """uint8 [B, 480, 720, 3]; see render.backdrop_cpu."""
    batch = len(state.x)
    out = torch.empty((batch, VIEW_H, VIEW_W, 3), dtype=torch.uint8, device=state.x.device)
    cameras = torch.stack([level.look, state.camera_x, state.camera_y // SUB], 1).to(torch.int32)
    grid = (triton.cdiv(VIEW_W, BLOCK_W), triton.cdiv(VIEW_H, BLOCK_H), batch)
    assert LAYERS == 3
    _backdrop[grid](
        out,
        cameras,
        level.art.to(torch.int32),
        *_textures(str(state.x.device)),
        HEIGHT=VIEW_H,
        WIDTH=VIEW_W,
        PERIOD=PERIOD,
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        ARTS=ARTS,
        TILE=TILE,
        BH=BLOCK_H,
        BW=BLOCK_W,
    )
    return out
