"""Sky, sun or moon, clouds and ridges: one panorama per look, painted once, then only turned.

A panorama is [3, ROWS, COLUMNS] float32 0..255: 360 degrees at the focal length of the camera, row
HORIZON_ROW lies at the horizon. It repeats: column COLUMNS - 1 equals column 0.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from games.painter import Canvas, mix, one_thread, rgb
from games.racing.looks import LOOKS, Look

FOCAL_PX = 360.0 / math.tan(math.radians(35.0))
TURN_PX = round(2.0 * math.pi * FOCAL_PX)
COLUMNS = TURN_PX + 1
ROWS, HORIZON_ROW = 272, 256


@lru_cache(maxsize=4)
def panoramas(device: str) -> Tensor:
    """All looks below one another, [1, 3, 3 * ROWS, COLUMNS] on `device`."""
    if device != "cpu":
        return panoramas("cpu").to(device)
    with one_thread():
        strips = [_paint(i, look) for i, look in enumerate(LOOKS)]
    return torch.cat([torch.cat([s, s[:, :, :1]], 2) for s in strips], 1)[None].contiguous()


def _paint(i: int, look: Look) -> Tensor:
    c = Canvas(TURN_PX, ROWS)
    t = (c.y / HORIZON_ROW).clamp(0.0, 1.0) ** 1.15
    c.fill(c.half(0, ROWS + 9, 90), mix(look.sky_top, look.sky_low, t.expand(ROWS, TURN_PX)))
    (_alpine_sky, _desert_sky, _neon_sky)[i](c, look)
    for ridge, colour, seed, base, height in (
        (0, look.far_ridge, 3.0, 26.0, (62.0, 40.0, 30.0)[i]),
        (1, look.near_ridge, 8.0, 8.0, (34.0, 26.0, 22.0)[i]),
    ):
        top = _ridge(c.x, seed + i, (1.0, 0.0, 0.2)[i]) if i != 1 else _mesas(c.x, seed)
        edge = HORIZON_ROW - base - height * top
        body = mix(
            colour,
            look.haze,
            ((c.y - edge) / (base + height + 14.0)).clamp(0.0, 1.0) ** 1.4 * (0.9 - 0.15 * ridge),
        )
        c.fill(edge - c.y, body)
        if i == 0 and ridge == 0:  # snow above a wavy line, on the lit side of the slopes
            line = (
                HORIZON_ROW
                - base
                - 36.0
                - 9.0 * torch.sin(c.x * _k(41))
                - 5.0 * torch.sin(c.x * _k(97) + 1.0)
            )
            c.fill(torch.maximum(edge + 1.5 - c.y, c.y - line), "#F4F8FA", 0.85)
    if i == 2:
        _city(c, look)
    c.fill(HORIZON_ROW - 3.0 - c.y, look.haze, 0.9, soft=10.0)
    return c.colour.clamp(0.0, 255.0)


def _k(cycles: int) -> float:
    return 2.0 * math.pi * cycles / TURN_PX


def _ridge(x: Tensor, seed: float, pointed: float) -> Tensor:
    """0..1 outline of mountains: triangle waves of a few whole periods, so that it closes."""
    total = torch.zeros_like(x)
    for cycles, weight in ((7, 0.34), (12, 0.27), (23, 0.2), (41, 0.11), (67, 0.08)):
        phase = x * (cycles / TURN_PX) + 0.37 * seed * cycles
        triangle = 1.0 - 2.0 * (phase - phase.floor() - 0.5).abs()
        wave = 0.5 - 0.5 * torch.cos(2.0 * math.pi * phase)
        total = total + weight * (pointed * triangle + (1.0 - pointed) * wave)
    return total


def _mesas(x: Tensor, seed: float) -> Tensor:
    """0..1 outline of table mountains: steep sides, flat tops at two heights."""
    a = _ridge(x, seed, 0.0)
    steep = torch.sigmoid((a - 0.52) * 60.0) * 0.62 + torch.sigmoid((a - 0.66) * 70.0) * 0.38
    return 0.12 + 0.78 * steep + 0.1 * a


@contextmanager
def _patch(c: Canvas, at: float, half: float) -> Iterator[tuple[Canvas, Tensor]]:
    """A canvas of the columns within `half` px of `at` (0..1 of the turn), and their distance to it.

    On leaving it is painted back, across the seam as well.
    """
    middle = round(at * TURN_PX)
    columns = torch.arange(middle - int(half), middle + int(half)) % TURN_PX
    patch = Canvas(columns.numel(), ROWS)
    patch.colour, patch.alpha = c.colour[:, :, columns], c.alpha[:, columns]
    yield patch, patch.x - patch.width / 2
    c.colour[:, :, columns] = patch.colour


def _cloud(c: Canvas, at: float, y: float, size: float, colour: str, alpha: float) -> None:
    """A flat-bottomed travel-poster cloud."""
    with _patch(c, at, size * 0.95 + 8) as (p, x):
        d = torch.full((p.height, p.width), 1e9)
        for dx, dy, r in (
            (0.0, -0.1, 0.3),
            (-0.38, 0.02, 0.2),
            (0.36, 0.0, 0.23),
            (0.68, 0.1, 0.14),
            (-0.7, 0.1, 0.13),
        ):
            d = torch.minimum(
                d, torch.sqrt((x - dx * size) ** 2 + ((p.y - y - dy * size) * 1.35) ** 2) - r * size
            )
        p.fill(torch.maximum(d, p.y - y - 0.16 * size), colour, alpha, soft=7.0)


def _alpine_sky(c: Canvas, look: Look) -> None:
    with _patch(c, 0.62, 240) as (p, x):
        sun = torch.sqrt(x**2 + (p.y - 74.0) ** 2)
        p.fill(sun - 999.0, "#FFF8E4", 0.6 * torch.exp(-(((sun - 24.0).clamp(min=0.0) / 75.0) ** 2)))
        p.fill(sun - 24.0, "#FFF7DC", soft=2.0)
    for at, y, size in (
        (0.05, 92, 92),
        (0.19, 62, 70),
        (0.31, 108, 110),
        (0.47, 70, 84),
        (0.71, 104, 96),
        (0.85, 60, 76),
        (0.94, 122, 60),
    ):
        _cloud(c, at, y + 5, size, "#C9DFEB", 0.55)
        _cloud(c, at, y, size, "#FFFFFF", 0.85)


def _desert_sky(c: Canvas, look: Look) -> None:
    for at, colour, strength in ((0.5, "#B0508A", 0.22), (0.0, "#FF8A4A", 0.4)):  # afterglow, and the low sun
        with _patch(c, at, 400) as (p, x):
            sun = torch.sqrt(x**2 + (p.y - 206.0) ** 2)
            p.glow(sun - 44.0, colour, 110.0, strength)
            if at == 0.0:
                p.fill(sun - 46.0, p.gradient_y("#FFF0B8", "#FFB05E", 160.0, 250.0), soft=1.5)
    for at, y, size in (
        (0.06, 96, 250),
        (0.2, 62, 300),
        (0.37, 120, 260),
        (0.52, 80, 320),
        (0.68, 112, 240),
        (0.86, 70, 300),
    ):
        with _patch(c, at, size * 1.6) as (p, x):
            band = (x / size) ** 2 + ((p.y - y) / 7.0) ** 2
            p.fill((band.sqrt() - 1.0) * 7.0, mix("#E77E78", look.sky_top, 0.25), 0.55, soft=6.0)


def _neon_sky(c: Canvas, look: Look) -> None:
    c.glow((HORIZON_ROW - 6.0 - c.y).abs().expand(ROWS, TURN_PX), "#8A2A8A", 60.0, 0.55)
    with _patch(c, 0.08, 230) as (p, x):
        moon = torch.sqrt(x**2 + (p.y - 92.0) ** 2)
        p.glow(moon - 40.0, "#FF5FA8", 60.0, 0.35)
        p.fill(moon - 42.0, p.gradient_y("#FFD9A8", "#FF4F9A", 50.0, 134.0), soft=1.5)
        for y, half in ((104, 2.0), (114, 3.0), (125, 4.0)):  # the moon's bands
            p.fill(
                torch.maximum(moon - 42.0, (p.y - y).abs() - half), mix(look.sky_top, look.sky_low, y / 256)
            )
    for n in range(64):  # a few large stars, soft enough to be drawn at any phase
        with _patch(c, (n * 0.61803) % 1.0, 10) as (p, x):
            star = torch.sqrt(x**2 + (p.y - 10.0 - (n * 47.0) % 150.0) ** 2)
            p.glow(star, "#B8C4FF", 1.6 + 0.5 * (n % 3), 0.55)


def _city(c: Canvas, look: Look) -> None:
    """A far skyline of towers with a few large lit windows, in groups with gaps."""
    x = 0.0
    n = 0
    while x < TURN_PX - 60:
        n += 1
        width = 26.0 + (n * 37) % 34
        tall = 22.0 + ((n * 53) % 59) * (0.4 + 0.6 * math.sin(x * _k(5)) ** 2)
        if (n * 29) % 11 < 8:
            window = slice(int(x), int(x + width) + 2)
            sub = Canvas(window.stop - window.start, ROWS)
            top = HORIZON_ROW - tall
            sub.fill(
                sub.box(0.5, top, width, ROWS + 9),
                sub.gradient_y(
                    mix(look.near_ridge, "#2A2468", 0.7), mix(look.haze, look.near_ridge, 0.3), top
                ),
            )
            sub.fill(sub.box(0.5, top, width, top + 2.5), (look.kerb_b, look.kerb_a, "#8A6BFF")[n % 3], 0.9)
            for k in range(int((tall - 16) // 15)):
                if (n + k * 3) % 4 < 2:
                    y = top + 8 + 15 * k
                    sub.fill(
                        sub.box(5, y, width - 5, y + 5, 1),
                        ("#FFD27A", look.kerb_b, "#FF7AB8")[(n + k) % 3],
                        0.65,
                    )
            c.colour[:, :, window] = c.colour[:, :, window] * (1.0 - sub.alpha) + sub.colour
        x += width + (4 if n % 5 else 40)


def haze_rgb() -> Tensor:
    """[looks, 3]."""
    return torch.stack([rgb(look.haze).view(3) for look in LOOKS])
