"""The painted background: a sky and three layers of hills per look, as wide strips that repeat.

Painted once per process and look. Strips are premultiplied RGBA 0..255, float32 [4, 480, PERIOD]; the
renderer shifts them by whole pixels.
"""

import math
from functools import cache

import torch
from torch import Tensor

from games.painter import Canvas, mix
from games.platformer.palette import PALETTES, Palette
from games.platformer.sections import Dice
from games.platformer.units import PARALLAX, PERIOD, VIEW_H, VIEW_W

LAYERS = len(PARALLAX)


def stamp(strip: Tensor, thing: Canvas, x: int, y: int) -> None:
    """Lay `thing` over strip [4, H, PERIOD] with its left top at (x, y), around the strip's end."""
    picture = thing.rgba()
    top, bottom = max(0, y), min(strip.shape[1], y + thing.height)
    if top >= bottom:
        return
    columns = (torch.arange(thing.width) + x) % PERIOD
    picture = picture[:, top - y : bottom - y]
    under = strip[:, top:bottom][:, :, columns]
    strip[:, top:bottom, columns] = under * (1.0 - picture[3:] / 255.0) + picture


def ridge(base: float, waves: tuple[tuple[int, float, float], ...]) -> Tensor:
    """Height of a skyline per column [PERIOD]: base plus (periods per strip, amplitude, phase) waves."""
    x = torch.arange(PERIOD) + 0.5
    top = torch.full((PERIOD,), base)
    for n, amplitude, phase in waves:
        top = top + amplitude * torch.sin(2 * math.pi * n * x / PERIOD + phase)
    return top


def hill(strip: Tensor, top: Tensor, colour: str, foot: str, depth: float) -> None:
    """Fill below `top` [PERIOD] with a colour that fades to `foot` over `depth` pixels."""
    canvas = Canvas(PERIOD, VIEW_H)
    d = top[None] - canvas.y
    slope = (top.roll(-1) - top.roll(1)) / 2
    d = d / torch.sqrt(1 + slope * slope)
    canvas.fill(d, mix(colour, foot, (-d / depth).clamp(0, 1)))
    stamp(strip, canvas, 0, 0)


def sky(p: Palette) -> Tensor:
    """float32 [3, 480, 720]."""
    c = Canvas(VIEW_W, VIEW_H)
    c.fill(c.box(-9, -9, VIEW_W + 9, VIEW_H + 9), c.gradient_y(p.sky[0], p.sky[1], 0, 400))
    if p.sky[1] == "#E9F8EE":
        c.fill(c.circle(150, 92, 90), "#FFF6D8", 0.45, soft=110)
        c.fill(c.circle(150, 92, 34), "#FFF8E2", 0.95, soft=1.5)
    elif p.accent == "#7DF0E0":
        c.fill(c.ellipse(420, 300, 330, 170), "#4C76A8", 0.55, soft=260)
    else:
        c.fill(c.circle(500, 300, 150), "#FFC07A", 0.55, soft=240)
        c.fill(c.circle(500, 290, 74), c.gradient_y("#FFE3A6", "#FF9E6B", 216, 364), 1.0, soft=1.5)
    return c.rgba()[:3]


def cloud(width: int, colour: str, alpha: float) -> Canvas:
    c = Canvas(width, width // 2)
    w, base = float(width), width * 0.40
    d = c.box(w * 0.06, base - w * 0.13, w * 0.94, base, w * 0.065)
    for x, r in ((0.30, 0.15), (0.52, 0.20), (0.72, 0.12)):
        d = torch.minimum(d, c.circle(w * x, base - r * w * 0.80, r * w))
    d = torch.maximum(d, c.y - base)
    c.fill(d, colour, alpha, soft=1.5)
    return c


def tree(height: int, crown: str, light: str, trunk: str) -> Canvas:
    """A round tree with a lit upper left."""
    r = height * 0.34
    c = Canvas(int(2 * r + 8), height + 4)
    cx = c.width / 2
    c.fill(c.box(cx - 4, r * 1.4, cx + 4, height + 4, 2), trunk)
    c.fill(c.circle(cx, r + 3, r), crown)
    c.shade(
        torch.maximum(c.circle(cx - r * 0.22, r * 0.80, r * 0.66), c.circle(cx, r + 3, r)), light, 0.8, soft=2
    )
    return c


def meadow_layers(p: Palette) -> list[Tensor]:
    far, mid, near = (torch.zeros(4, VIEW_H, PERIOD) for _ in range(3))
    for x, y, w in ((60, 40, 190), (420, 95, 130), (640, 30, 240), (1010, 84, 160), (1220, 36, 210)):
        stamp(far, cloud(w, p.accent, 0.80), x, y)
    hill(far, ridge(262, ((2, 26, 0.4), (5, 14, 2.0))), "#CFEAE2", "#DDF1EA", 140)
    hill(far, ridge(296, ((3, 22, 1.9), (4, 10, 0.3))), p.hills[0], p.haze, 150)
    d = Dice(5)
    skyline = ridge(336, ((2, 26, 2.6), (5, 12, 0.8)))
    for i in range(11):
        x = i * 130 + d.roll(0, 60)
        if i % 4 != 3:
            h = d.roll(52, 78)
            stamp(mid, tree(h, "#7CC09A", "#98D3AE", "#79A88C"), x, int(skyline[(x + 25) % PERIOD]) - h + 10)
    hill(mid, skyline, p.hills[1], "#B4DEC6", 150)
    skyline = ridge(398, ((3, 20, 0.9), (4, 10, 2.2)))
    for i in range(9):
        x = i * 160 + d.roll(0, 50)
        if i % 3 != 2:
            h = d.roll(78, 112)
            stamp(near, tree(h, "#55A371", "#6FB985", "#5C8A69"), x, int(skyline[(x + 38) % PERIOD]) - h + 12)
    hill(near, skyline, p.hills[2], "#83C49A", 120)
    return [far, mid, near]


def spire(width: int, height: int, colour: str, light: str) -> Canvas:
    """A rounded stalagmite with a lit left side; flip it upside down for a stalactite."""
    c = Canvas(width, height)
    w, h = float(width), float(height)
    d = c.polygon([(w * 0.5, 14), (w * 0.78, h * 0.55), (w - 8, h + 20), (8, h + 20), (w * 0.24, h * 0.5)], 7)
    c.fill(d, colour)
    lit = c.polygon(
        [(w * 0.47, 18), (w * 0.50, h * 0.55), (w * 0.36, h + 20), (14, h + 20), (w * 0.28, h * 0.5)], 3
    )
    c.shade(lit, light, 0.55, soft=3)
    return c


def upside_down(c: Canvas) -> Canvas:
    c.colour, c.alpha = c.colour.flip(1), c.alpha.flip(0)
    return c


def crystals(size: int, colour: str) -> Canvas:
    """A cluster of three crystals in their own soft glow."""
    c = Canvas(size * 3, size * 3)
    s, x, y = float(size), size * 1.5, size * 2.0
    c.fill(c.circle(x, y - s * 0.4, s * 0.75), colour, 0.30, soft=s * 1.3)
    for dx, lean, h, tone in ((-0.28, -0.30, 0.75, 0.25), (0.30, 0.28, 0.65, 0.35), (0.0, 0.02, 1.1, 0.0)):
        bx, tx, half = x + dx * s, x + (dx + lean) * s, s * 0.15
        top = y - h * s
        d = c.polygon(
            [(bx - half, y), (tx - half, top + half), (tx, top), (tx + half, top + half), (bx + half, y)], 1.5
        )
        c.fill(d, mix(colour, "#2E6C86", 0.25 + tone))
        lit = c.polygon([(bx - half, y), (tx - half, top + half), (tx, top), (bx, y)], 0.5)
        c.shade(lit, "#D6FFF8", 0.45)
    return c


def cavern_layers(p: Palette) -> list[Tensor]:
    far, mid, near = (torch.zeros(4, VIEW_H, PERIOD) for _ in range(3))
    d = Dice(9)
    plan = ((far, 7, 110, (90, 190), 330, p.hills[0], "#2F4168"),
            (mid, 6, 130, (110, 210), 372, p.hills[1], "#3A5482"),
            (near, 5, 150, (70, 150), 420, p.hills[2], "#4767A0"))  # fmt: skip
    for layer, (strip, count, width, (low, high), floor, colour, light) in enumerate(plan):
        pitch = PERIOD // count
        for i in range(count):
            w, x = width + d.roll(-20, 30), i * pitch + d.roll(0, pitch // 3)
            if layer < 2:
                h = d.roll(low, high) - 30 * layer
                stamp(strip, upside_down(spire(w, h, colour, light)), x + pitch // 2, 0)
            h = d.roll(low, high)
            stamp(strip, spire(w, h, colour, light), x, floor - h + 30)
            if layer == 2 or i % 2 == 0:
                size = (26, 34, 44)[layer]
                stamp(
                    strip,
                    crystals(size, p.accent if layer else "#4FA6B4"),
                    x + pitch // 2,
                    floor - 2 * size + 14,
                )
        hill(strip, ridge(floor, ((3, 14, layer * 1.3), (5, 8, 0.4 + layer))), colour, light, 110)
        if layer < 2:
            ceiling = Canvas(PERIOD, 80)
            ceiling.fill(ceiling.y - ridge(34 - 14 * layer, ((4, 9, layer * 2.0), (7, 5, 1.0)))[None], colour)
            stamp(strip, ceiling, 0, 0)
    return [far, mid, near]


def tower(
    width: int, height: int, colour: str, light: str, glass: str, d: Dice, window: tuple[int, int]
) -> Canvas:
    """A block of flats with a lit edge and a few large windows; window: width and height in px, 0 none."""
    c = Canvas(width, height)
    roof = d.roll(0, 2)
    c.fill(c.box(0, 24, width, height + 20, 3), c.gradient_y(colour, light, 60, height * 1.5))
    if roof == 0:
        c.fill(c.box(width * 0.3, 8, width * 0.7, 40, 3), colour)
    elif roof == 1:
        c.fill(c.polygon([(2, 26), (width / 2, 6), (width - 2, 26)], 2), colour)
    else:
        c.fill(c.box(width * 0.62, 0, width * 0.62 + 5, 40, 2), colour)
    c.shade(c.box(-5, 20, 7, height + 20), light, 0.6)
    w, h = window
    if w:
        columns, pitch = max(1, (width - 16) // (w + 16)), h + 24
        inset = (width - columns * (w + 16) + 16) / 2
        for row in range((height - 60) // pitch):
            for column in range(columns):
                if d.roll(0, 9) < 4:
                    x, y = inset + column * (w + 16), 48 + row * pitch
                    c.fill(c.box(x, y, x + w, y + h, 3), glass, 0.9 if d.roll(0, 2) else 0.5)
    return c


def city_layers(p: Palette) -> list[Tensor]:
    strips = [torch.zeros(4, VIEW_H, PERIOD) for _ in range(3)]
    d = Dice(21)
    plan = (
        ("#9A5579", "#C9747C", "#E39A86", (0, 0), (120, 230), (70, 130)),
        ("#85487E", "#B0657F", "#FFC58C", (16, 22), (100, 200), (90, 150)),
        ("#6E3F80", "#9A5A86", "#FFD9A0", (22, 30), (50, 150), (110, 190)),
    )
    for strip, (colour, light, glass, window, (low, high), (thin, wide)) in zip(strips, plan):
        x = 0
        while x < PERIOD - thin:
            w = min(d.roll(thin, wide), PERIOD - x)
            h = d.roll(low, high) + 60
            stamp(strip, tower(w, h, colour, light, glass, d, window), x, VIEW_H - h - 30)
            x += w + (d.roll(0, 70) if window[0] else 0)
        foot = Canvas(PERIOD, 34)
        foot.fill(foot.box(-9, 0, PERIOD + 9, 50), light)
        stamp(strip, foot, 0, VIEW_H - 34)
    return strips


@cache
def scenery(look: int) -> tuple[Tensor, Tensor]:
    """Sky float32 [3, 480, 720] and layers [LAYERS, 4, 480, PERIOD] of one look, whole numbers 0..255."""
    p = PALETTES[look]
    layers = (meadow_layers, cavern_layers, city_layers)[look](p)
    return sky(p).round(), torch.stack(layers).round()
