"""The compositor as one Triton kernel: games.sprites.composite_torch on a GPU.

A program owns a tile of one picture, walks the world's sprites back to front and skips those whose box
misses its tile with four scalar compares, so that absent and distant sprites cost next to nothing. The
background is read once and uint8 is written once. Imported only when a CUDA picture is composited.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from games.sprites import Atlas, Resolved

TILE_H, TILE_W = 8, 64


@triton.jit
def _texel(packed, offset, iu, iv, w, h, seen):
    """Packed RGBA at texel (iu, iv); zero beyond the border."""
    ok = seen & (iu >= 0) & (iu < w) & (iv >= 0) & (iv < h)
    return tl.load(packed + offset + iv * w + iu, mask=ok, other=0)


@triton.jit
def _channel(t00, t10, t01, t11, w00, w10, w01, w11, SHIFT: tl.constexpr):
    """One of four bytes of four texels, mixed."""
    upper = ((t00 >> SHIFT) & 255) * w00 + ((t10 >> SHIFT) & 255) * w10
    return upper + ((t01 >> SHIFT) & 255) * w01 + ((t11 >> SHIFT) & 255) * w11


@triton.jit
def _sampled(packed, offset, u, v, w, h, seen):
    """Red, green, blue in 0..255 (times alpha, as they are packed) and alpha in 0..1 at (u, v), bilinear."""
    fu = tl.floor(u)
    fv = tl.floor(v)
    pu = u - fu
    pv = v - fv
    iu = fu.to(tl.int32)
    iv = fv.to(tl.int32)
    t00 = _texel(packed, offset, iu, iv, w, h, seen)
    t10 = _texel(packed, offset, iu + 1, iv, w, h, seen)
    t01 = _texel(packed, offset, iu, iv + 1, w, h, seen)
    t11 = _texel(packed, offset, iu + 1, iv + 1, w, h, seen)
    w00 = (1.0 - pu) * (1.0 - pv)
    w10 = pu * (1.0 - pv)
    w01 = (1.0 - pu) * pv
    w11 = pu * pv
    red = _channel(t00, t10, t01, t11, w00, w10, w01, w11, 0)
    green = _channel(t00, t10, t01, t11, w00, w10, w01, w11, 8)
    blue = _channel(t00, t10, t01, t11, w00, w10, w01, w11, 16)
    alpha = _channel(t00, t10, t01, t11, w00, w10, w01, w11, 24) * (1.0 / 255.0)
    return red, green, blue, alpha


@triton.jit
def _store_byte(target, value, inside):
    """Rounded and clamped."""
    tl.store(target, tl.minimum(tl.maximum(value + 0.5, 0.0), 255.0).to(tl.uint8), mask=inside)


@triton.jit
def _composite(
    picture,
    classes_in,
    out,
    classes_out,
    reals,
    ints,
    packed,
    n,
    height,
    width,
    sb,
    sy,
    sx,
    sc,
    HAS_CLASSES: tl.constexpr,
    TH: tl.constexpr,
    TW: tl.constexpr,
):
    b = tl.program_id(2).to(tl.int64)
    y0 = tl.program_id(1) * TH
    x0 = tl.program_id(0) * TW
    ys = y0 + tl.arange(0, TH)[:, None]
    xs = x0 + tl.arange(0, TW)[None, :]
    inside = (ys < height) & (xs < width)
    source = picture + b * sb + ys * sy + xs * sx
    red = tl.load(source, mask=inside, other=0).to(tl.float32)
    green = tl.load(source + sc, mask=inside, other=0).to(tl.float32)
    blue = tl.load(source + 2 * sc, mask=inside, other=0).to(tl.float32)
    flat = b * height * width + ys * width + xs
    if HAS_CLASSES:
        klass = tl.load(classes_in + flat, mask=inside, other=0).to(tl.int32)
    for i in range(n):
        whole = ints + (b * n + i) * 9
        left = tl.load(whole)
        top = tl.load(whole + 1)
        right = tl.load(whole + 2)
        bottom = tl.load(whole + 3)
        if (left < x0 + TW) & (right > x0) & (top < y0 + TH) & (bottom > y0):
            real = reals + (b * n + i) * 9
            offset = tl.load(whole + 4)
            w = tl.load(whole + 5)
            h = tl.load(whole + 6)
            flip = tl.load(whole + 7)
            opacity = tl.load(real + 4)
            haze = tl.load(real + 5)
            u = (xs.to(tl.float32) + 0.5 - tl.load(real)) * tl.load(real + 2) - 0.5
            v = (ys.to(tl.float32) + 0.5 - tl.load(real + 1)) * tl.load(real + 3) - 0.5
            if flip != 0:
                u = (w - 1) - u
            seen = inside & (xs >= left) & (xs < right) & (ys >= top) & (ys < bottom)
            r, g, bl, a = _sampled(packed, offset, u, v, w, h, seen)
            keep = 1.0 - a * opacity
            red = red * keep + (r * (1.0 - haze) + a * haze * tl.load(real + 6)) * opacity
            green = green * keep + (g * (1.0 - haze) + a * haze * tl.load(real + 7)) * opacity
            blue = blue * keep + (bl * (1.0 - haze) + a * haze * tl.load(real + 8)) * opacity
            if HAS_CLASSES:
                new = tl.load(whole + 8)
                klass = tl.where((a * opacity > 0.5) & (new >= 0), new, klass)
    target = out + flat * 3
    _store_byte(target, red, inside)
    _store_byte(target + 1, green, inside)
    _store_byte(target + 2, blue, inside)
    if HAS_CLASSES:
        tl.store(classes_out + flat, klass.to(tl.uint8), mask=inside)


def composite_triton(
    picture: Tensor, classes: Tensor | None, resolved: Resolved, atlas: Atlas
) -> tuple[Tensor, Tensor | None]:
    """See games.sprites.composite; any strides of `picture` are taken as they are."""
    batch, height, width, _ = picture.shape
    out = torch.empty((batch, height, width, 3), dtype=torch.uint8, device=picture.device)
    classes = None if classes is None else classes.contiguous()
    new_classes = None if classes is None else torch.empty_like(classes)
    grid = (triton.cdiv(width, TILE_W), triton.cdiv(height, TILE_H), batch)
    _composite[grid](
        picture,
        out if classes is None else classes,
        out,
        out if new_classes is None else new_classes,
        resolved.reals,
        resolved.ints,
        atlas.packed,
        resolved.ints.shape[1],
        height,
        width,
        *picture.stride(),
        HAS_CLASSES=classes is not None,
        TH=TILE_H,
        TW=TILE_W,
    )
    return out, new_classes
