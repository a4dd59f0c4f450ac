"""Pictures of the tiles of one look: ground with caps, ledges, darkness over pits, ornaments.

See tiles.py for the numbering. Painted once per process and look.
"""

from functools import cache

import torch
from torch import Tensor

from games.painter import Canvas, mix
from games.platformer import tiles as t
from games.platformer.palette import PALETTES, Palette
from games.platformer.units import TILE

CAP = 12
ROUND = 9


def pattern(look: int, p: Palette) -> Tensor:
    """The ground's body, a soft two-tone pattern that repeats every 4 x 2 tiles: float32 [3, 96, 192]."""
    w, h = t.PATTERN_W * TILE, t.PATTERN_H * TILE
    c = Canvas(w, h)
    c.fill(c.box(-9, -9, w + 9, h + 9), p.body)
    for x, y in ((48, 24), (144, 72)):
        for dx in (-w, 0, w):
            for dy in (-h, 0, h):
                if look == 0:
                    c.fill(c.ellipse(x + dx, y + dy, 36, 19), p.body_tone, soft=2)
                elif look == 1:
                    px, py = x + dx, y + dy
                    c.fill(
                        c.polygon(
                            [(px - 52, py + 4), (px - 8, py - 28), (px + 50, py - 4), (px + 6, py + 28)]
                        ),
                        p.body_tone,
                        soft=2,
                    )
                else:
                    c.fill(c.box(x + dx - 40, y + dy - 17, x + dx + 40, y + dy + 17, 6), p.body_tone, soft=2)
    return c.rgba()[:3]


def cover(p: Palette, exposure: int, rounded: bool) -> tuple[Tensor, Tensor]:
    """What the open sides of a ground tile add: premultiplied RGBA [4, 48, 48] over the body, and the
    tile's silhouette [48, 48] (its open upper corners are round)."""
    top, left, right, bottom = (bool(exposure & bit) for bit in (1, 2, 4, 8))
    c = Canvas(TILE, TILE)
    far = 40.0
    shape = c.box(0 if left else -far, 0 if top else -far, TILE if right else TILE + far,
                  TILE if bottom else TILE + far, ROUND if top or bottom else 0)  # fmt: skip
    if left:
        c.fill(c.x.expand(TILE, -1) - 5, mix(p.body, "#FFFFFF", 0.16), 0.8)
    if right:
        c.fill((TILE - 6) - c.x.expand(TILE, -1), mix(p.body, p.rim, 0.35), 0.8)
    if bottom:
        c.fill((TILE - 7) - c.y.expand(-1, TILE), mix(p.body, p.rim, 0.4), 0.9)
    if top:
        depth = c.y.expand(-1, TILE)
        c.fill(depth - CAP - 3, p.rim, 0.30 * (1 - ((depth - CAP) / 16).clamp(0, 1)), soft=1)
        c.fill((depth - CAP - 16), p.rim, 0.16 * (1 - ((depth - CAP) / 16).clamp(0, 1)))
        edge = CAP + 2.5 * torch.cos(c.x * (2 * torch.pi / 24)) if rounded else CAP + 0 * c.x
        c.fill(depth - edge, p.cap)
        c.fill(depth - 4.5, p.cap_light)
    return c.rgba(), (0.5 - shape).clamp(0, 1)


def ledge(p: Palette, ends: int) -> Canvas:
    """A one-way ledge, 20 px thick; ends: bit 1 left, bit 2 right."""
    c = Canvas(TILE, TILE)
    x0, x1 = (1.0 if ends & 1 else -30.0), (TILE - 1.0 if ends & 2 else TILE + 30.0)
    c.fill(c.box(x0, 0, x1, 22, 8), mix(p.body, p.rim, 0.45))
    c.fill(c.box(x0 + 2, 0, x1 - 2, 19, 7), p.body)
    c.fill(torch.maximum(c.box(x0, 0, x1, 22, 8), c.y - CAP), p.cap)
    c.shade(c.y.expand(-1, TILE) - 4.5, p.cap_light)
    return c


def darkness(p: Palette, row: int) -> Canvas:
    """Over a pit's open tiles: darker towards the floor; row 0 is the lowest."""
    c = Canvas(TILE, TILE)
    depth = (t.PIT_ROWS - 1 - row + c.y / TILE) / t.PIT_ROWS
    c.fill(c.box(-9, -9, 99, 99), p.pit, (depth.expand(-1, TILE) ** 1.3) * 0.88)
    return c


def _flower(c: Canvas, x: float, y: float, stem: float, colour: str, heart: str) -> None:
    c.fill(c.line(x, y, x, y - stem, 2.2), "#3F8F4C")
    c.fill(c.ellipse(x + 6, y - stem * 0.4, 6, 3), "#3F8F4C")
    c.fill(c.circle(x, y - stem, 8), colour)
    c.fill(c.circle(x, y - stem, 3.4), heart)


def meadow_ornaments(p: Palette) -> list[Canvas]:
    bush, flowers, stones, grass, low, high = (Canvas(TILE, TILE) for _ in range(6))
    d = torch.stack([bush.circle(14, 40, 12), bush.circle(28, 34, 15), bush.circle(38, 41, 10)]).amin(0)
    bush.fill(d, "#3F9A55")
    bush.shade(bush.circle(24, 29, 10), "#6DBE6B", 0.7, soft=3)
    _flower(flowers, 15, 48, 22, "#FFFFFF", p.coin)
    _flower(flowers, 34, 48, 15, "#FF9EAE", "#FFF3D6")
    stones.fill(stones.ellipse(20, 46, 16, 12), "#9AA5B1")
    stones.fill(stones.ellipse(36, 48, 10, 8), "#84909E")
    stones.shade(stones.ellipse(15, 40, 8, 4), "#C3CBD3", 0.8, soft=3)
    for x, lean, tall in ((12, -7, 18), (20, -2, 26), (28, 4, 24), (36, 9, 16)):
        grass.fill(grass.polygon([(x - 4, 50), (x + 4, 50), (x + lean, 50 - tall)], 1), "#3F9A55")
    low.fill(low.box(21, -9, 27, 60), "#8A5E3C")
    low.fill(low.box(8, 2, 42, 20, 3), "#B98255")
    low.fill(low.polygon([(36, -1), (47, 11), (36, 23)], 1), "#B98255")
    high.fill(high.box(21, 34, 27, 60, 3), "#8A5E3C")
    return [bush, flowers, stones, grass, low, high]


def _gem(c: Canvas, x: float, y: float, w: float, h: float, lean: float, p: Palette) -> None:
    points = [(x - w, y), (x - w + lean, y - h + w), (x + lean, y - h), (x + w + lean, y - h + w), (x + w, y)]
    c.fill(c.polygon(points, 1), mix(p.accent, "#345E92", 0.68))
    c.shade(c.polygon([points[0], points[1], points[2], (x, y)], 0), p.accent, 0.38)


def cavern_ornaments(p: Palette) -> list[Canvas]:
    small, cluster, rock, shroom, low, high = (Canvas(TILE, TILE) for _ in range(6))
    _gem(small, 22, 50, 6, 24, -3, p)
    _gem(small, 33, 50, 5, 17, 4, p)
    _gem(cluster, 12, 50, 5, 20, -5, p)
    _gem(cluster, 36, 50, 5, 24, 6, p)
    _gem(cluster, 24, 50, 8, 38, 0, p)
    rock.fill(rock.ellipse(24, 50, 20, 17), "#5D6494")
    rock.shade(rock.ellipse(18, 41, 10, 5), "#7F87B8", 0.8, soft=3)
    for x, tall, r in ((16, 16, 9), (33, 26, 12)):
        shroom.fill(shroom.line(x, 50, x, 48 - tall, 3.4), "#CFC3DA")
        shroom.fill(torch.maximum(shroom.circle(x, 50 - tall, r), shroom.y - (51 - tall)), "#D96C8F")
        shroom.fill(shroom.circle(x - 3, 46 - tall, 2.4), "#F6D3DD")
    _gem(low, 24, 50, 11, 76, 0, p)
    _gem(low, 38, 50, 6, 26, 5, p)
    _gem(high, 24, 98, 11, 76, 0, p)
    return [small, cluster, rock, shroom, low, high]


def city_ornaments(p: Palette) -> list[Canvas]:
    crate, plant, vent, cone, low, high = (Canvas(TILE, TILE) for _ in range(6))
    crate.fill(crate.box(6, 16, 42, 60, 4), "#8A6A9E")
    crate.fill(crate.box(11, 21, 37, 43, 3), "#775A8C")
    crate.fill(crate.line(13, 41, 35, 23, 2.5), "#8A6A9E")
    plant.fill(plant.circle(24, 22, 14), "#4E9E8B")
    plant.shade(plant.circle(20, 17, 8), "#7CC7AE", 0.7, soft=3)
    plant.fill(plant.polygon([(11, 30), (37, 30), (33, 52), (15, 52)], 2), "#D98A5B")
    vent.fill(vent.box(10, 20, 38, 60, 5), "#7F7596")
    vent.fill(vent.box(5, 14, 43, 24, 4), "#9A90B2")
    for y in (31, 38, 45):
        vent.fill(vent.line(16, y, 32, y, 1.8), "#5B5273")
    cone.fill(cone.circle(24, 20, 15), "#C96F8E")
    cone.shade(cone.circle(19, 15, 8), "#E79AAF", 0.7, soft=3)
    cone.fill(cone.polygon([(12, 29), (36, 29), (33, 52), (15, 52)], 2), "#6F5A86")
    low.fill(low.box(21, -9, 27, 60), "#2F2450")
    low.fill(low.box(15, 40, 33, 60, 3), "#2F2450")
    high.fill(high.circle(24, 22, 11), p.accent, 0.55, soft=24)
    high.fill(high.box(21, 30, 27, 60), "#2F2450")
    high.fill(high.circle(24, 22, 11), "#FFE9C0")
    high.fill(high.box(14, 30, 34, 35, 2), "#2F2450")
    return [crate, plant, vent, cone, low, high]


@cache
def ground(look: int) -> Tensor:
    """All tile pictures of one look by number: premultiplied float32 [ARTS, 4, 48, 48], whole 0..255."""
    p = PALETTES[look]
    body = pattern(look, p)
    out = torch.zeros(t.ARTS, 4, TILE, TILE)
    for exposure in range(16):
        over, shape = cover(p, exposure, rounded=look != 2)
        for place in range(t.PATTERN_W * t.PATTERN_H):
            row, column = divmod(place, t.PATTERN_W)
            # Pattern rows count upwards like tile rows, pictures downwards.
            y = (t.PATTERN_H - 1 - row) * TILE
            under = body[:, y : y + TILE, column * TILE : (column + 1) * TILE]
            colour = under * (1 - over[3:] / 255) + over[:3]
            out[t.SOLID_0 + exposure * t.PATTERN_W * t.PATTERN_H + place] = torch.cat(
                [colour * shape, shape[None] * 255]
            )
    for row in range(t.PIT_ROWS):
        out[t.PIT_0 + row] = darkness(p, row).rgba()
    for ends in range(4):
        plank = ledge(p, ends).rgba()
        out[t.LEDGE_0 + ends] = plank
        for row in range(t.PIT_ROWS):
            under = out[t.PIT_0 + row]
            out[t.LEDGE_0 + 4 * (row + 1) + ends] = under * (1 - plank[3:] / 255) + plank
    ornaments = (meadow_ornaments, cavern_ornaments, city_ornaments)[look](p)
    for i, canvas in enumerate(ornaments):
        out[t.DECO_0 + i] = canvas.rgba()
    return out.round()
