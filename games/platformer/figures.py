"""The hero, the enemies, coins, flag and moving platforms of one look, painted once into canvases.

Everything faces right; the compositor mirrors. Feet stand on the canvas's lower edge less MARGIN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from games.painter import Canvas, mix
from games.platformer.palette import Palette
from games.platformer.units import COIN_WIDTHS

MARGIN = 3
HERO_CANVAS = (104, 76)
ENEMY_CANVAS = (60, 54)
FLAG_CANVAS = (132, 300)
POLE_X = 14
POLES = 2

Part = tuple[Tensor, str]


@dataclass(frozen=True)
class Pose:
    """Joints in pixels from the point between the feet (x right, y up); the back limb comes first."""

    feet: tuple[tuple[float, float], tuple[float, float]] = ((-7, 0), (7, 0))
    hands: tuple[tuple[float, float], tuple[float, float]] = ((-13, 18), (13, 18))
    tail: tuple[tuple[float, float], ...] = ((-14, 29), (-17, 22), (-18, 14))
    bob: float = 0.0
    lean: float = 0.0
    eye: str = "open"


_STREAM = ((-18, 33), (-29, 35), (-39, 31))
_STREAM_UP = ((-18, 34), (-29, 38), (-40, 37))
POSES: dict[str, Pose] = {
    "idle_0": Pose(),
    "idle_1": Pose(bob=-1.6, hands=((-13, 16), (13, 16)), tail=((-14, 28), (-18, 21), (-20, 14))),
    "run_0": Pose(((-15, 5), (14, 1)), ((13, 24), (-13, 19)), _STREAM, 0, 3),
    "run_1": Pose(((-4, 9), (2, 0)), ((5, 17), (-5, 17)), _STREAM_UP, 2, 3),
    "run_2": Pose(((14, 1), (-15, 5)), ((-13, 19), (13, 24)), _STREAM, 0, 3),
    "run_3": Pose(((2, 0), (-4, 9)), ((-5, 17), (5, 17)), _STREAM_UP, 2, 3),
    "rise": Pose(((-10, 0), (9, 9)), ((-13, 15), (14, 37)), ((-16, 24), (-22, 14), (-25, 4)), 2, 1),
    "fall": Pose(((-11, 6), (11, 3)), ((-17, 33), (17, 33)), ((-17, 38), (-23, 48), (-24, 57)), 2, 0, "wide"),
    "stomp": Pose(((-8, 6), (8, 6)), ((-17, 25), (17, 25)), ((-16, 37), (-24, 44), (-33, 46)), 0, 0, "shut"),
    "dead": Pose(
        ((-12, 3), (12, 5)), ((-19, 35), (19, 35)), ((-14, 36), (-20, 44), (-19, 52)), 0, 0, "cross"
    ),
    "cheer": Pose(((-9, 0), (9, 0)), ((-16, 46), (16, 46)), ((-15, 29), (-21, 25), (-27, 27)), 1, 0, "shut"),
}


def hero(p: Palette, pose: Pose) -> Canvas:
    """A round-headed runner with a scarf, outlined so that it stands off every background."""
    c = Canvas(*HERO_CANVAS)
    cx, floor = HERO_CANVAS[0] / 2 + 4, HERO_CANVAS[1] - MARGIN

    def limb(a: tuple[float, float], b: tuple[float, float], r: float) -> Tensor:
        return c.line(cx + a[0], floor - a[1], cx + b[0], floor - b[1], r)

    hip, neck = 15 + pose.bob, 29 + pose.bob
    (bx, by), (fx, fy) = pose.feet
    shoulder = (pose.lean, neck - 4)
    head = c.circle(cx + pose.lean + 1, floor - 42 - pose.bob, 17.5)
    torso = torch.minimum(limb((0, hip), (pose.lean, neck - 3), 11), limb((0, hip + 1), (0, hip + 2), 11.5))
    parts: list[Part] = [
        (
            torch.minimum(limb((-4, hip), (bx, by + 6), 5), limb((bx, by + 4), (bx + 4, by + 4), 4.6)),
            p.hero_dark,
        ),
        (limb(shoulder, (pose.hands[0][0], pose.hands[0][1] + pose.bob), 4.6), p.hero_dark),
        (torch.minimum(limb((4, hip), (fx, fy + 6), 5.2), limb((fx, fy + 4), (fx + 5, fy + 4), 4.8)), p.hero),
        (torso, p.hero),
        (head, p.hero),
    ]
    tail = _tail(pose, limb, neck)
    outline = torch.stack([d for d, _ in [*parts, (tail, "")]]).amin(0)
    front_arm = limb(shoulder, (pose.hands[1][0], pose.hands[1][1] + pose.bob), 4.8)
    c.fill(torch.minimum(outline, front_arm) - 2.2, p.rim)
    c.fill(tail, p.scarf_dark)
    for d, colour in parts[:4]:
        c.fill(d, colour)
    c.shade(torch.maximum(torso, c.half(cx + 2 + pose.lean, floor, 180)), p.hero_dark, 0.35, soft=5)
    _head(c, p, pose, head, cx + pose.lean + 1, floor - 42 - pose.bob)
    scarf = limb((pose.lean - 11, neck - 1), (pose.lean + 11, neck - 2), 5)
    c.fill(scarf, p.scarf)
    c.fill(front_arm, mix(p.hero, p.hero_dark, 0.45))
    c.fill(limb(pose.hands[1], (pose.hands[1][0], pose.hands[1][1] + 0.1), 4.4), p.scarf)
    return c


def _tail(pose: Pose, limb: Callable[..., Tensor], neck: float) -> Tensor:
    """The scarf's end as a ribbon that widens towards its tip."""
    points = [(pose.lean - 10, neck - 1), *[(x, y + pose.bob) for x, y in pose.tail]]
    strokes = [limb(a, b, 4.2 + 0.7 * i) for i, (a, b) in enumerate(pairwise(points))]
    return torch.stack(strokes).amin(0)


def _head(c: Canvas, p: Palette, pose: Pose, head: Tensor, x: float, y: float) -> None:
    """Helmet with light from the upper left, a face turned to the right, an eye."""
    c.fill(head, p.hero)
    c.shade(torch.maximum(head, -c.circle(x - 5, y - 6, 20)), p.hero_dark, 0.6, soft=3)
    c.shade(c.ellipse(x - 7, y - 10, 5, 3.4), "#FFFFFF", 0.30, soft=3)
    face = torch.maximum(c.ellipse(x + 6.5, y + 2.5, 10.5, 9), head + 2.2)
    c.fill(face, p.face)
    if pose.eye == "cross":
        for sign in (-1, 1):
            c.fill(c.line(x + 4, y + 2 - 4 * sign, x + 11, y + 2 + 4 * sign, 1.7), p.eye)
    elif pose.eye == "shut":
        c.fill(c.line(x + 4, y + 3, x + 7.5, y, 1.6), p.eye)
        c.fill(c.line(x + 7.5, y, x + 11, y + 3, 1.6), p.eye)
    else:
        tall = 5.2 if pose.eye == "wide" else 4.6
        c.fill(c.ellipse(x + 9, y + 1.5, 3.0, tall), p.eye)
        c.fill(c.circle(x + 10, y - 0.5, 1.2), "#FFFFFF", 0.9)


def walker(p: Palette, step: int) -> Canvas:
    """A round creature whose eyes look where it goes; step 0 or 1 swaps its feet."""
    c = Canvas(*ENEMY_CANVAS)
    x, floor = ENEMY_CANVAS[0] / 2, ENEMY_CANVAS[1] - MARGIN
    lift = (3, 0) if step else (0, 3)
    feet = [
        c.ellipse(x - 10 + 2 * step, floor - 5 - lift[0], 9, 5.5),
        c.ellipse(x + 12 - 2 * step, floor - 5 - lift[1], 9, 5.5),
    ]
    top = floor - 27 - (step == 1)
    body = torch.maximum(c.ellipse(x, top, 22, 20), c.y - (floor - 8))
    body = torch.minimum(body, c.box(x - 20, top + 2, x + 20, floor - 6, 9))
    c.fill(torch.stack([*feet, body]).amin(0) - 2.2, p.rim)
    for d in feet:
        c.fill(d, p.enemy_dark)
    c.fill(body, p.enemy)
    c.shade(cut_lower(c, body, x, top), p.enemy_dark, 0.65, soft=4)
    c.shade(c.ellipse(x - 9, top - 11, 7, 4), "#FFFFFF", 0.32, soft=3)
    _eyes(c, p, x + 7, top, angry=False)
    return c


def cut_lower(c: Canvas, body: Tensor, x: float, y: float) -> Tensor:
    """The lower right rim of a body, away from the light."""
    return torch.maximum(body, -c.ellipse(x - 5, y - 6, 24, 23))


def _eyes(c: Canvas, p: Palette, x: float, y: float, angry: bool) -> None:
    """Two big eyes with pupils to the right; angry ones have slanted lids."""
    for dx, r in ((-8.5, 6.8), (6.5, 6.2)):
        white = c.ellipse(x + dx, y + 1, r, r + 1.6)
        if angry:
            slant = c.half(x + dx, y - 1.5, -90 + (16 if dx < 0 else -16))
            white = torch.maximum(white, slant)
        c.fill(white, "#FFF8EC")
        c.fill(torch.maximum(c.ellipse(x + dx + 2.4, y + 2, 3.2, 4.2), white), p.rim)


def squashed(p: Palette) -> Canvas:
    """A walker that was stomped on."""
    c = Canvas(*ENEMY_CANVAS)
    x, floor = ENEMY_CANVAS[0] / 2, ENEMY_CANVAS[1] - MARGIN
    body = c.box(x - 26, floor - 15, x + 26, floor, 8)
    c.fill(body - 2.2, p.rim)
    c.fill(body, p.enemy)
    c.shade(torch.maximum(body, (floor - 6) - c.y), p.enemy_dark, 0.8)
    for dx in (-9, 9):
        c.fill(c.line(x + dx - 4, floor - 10, x + dx + 4, floor - 7, 1.8), "#FFF8EC")
    return c


def spiked(p: Palette, step: int) -> Canvas:
    """A low shell under five spikes: not to be stomped on."""
    c = Canvas(*ENEMY_CANVAS)
    x, floor = ENEMY_CANVAS[0] / 2, ENEMY_CANVAS[1] - MARGIN
    lift = (2, 0) if step else (0, 2)
    feet = [c.ellipse(x - 13, floor - 4 - lift[0], 7, 4.5), c.ellipse(x + 13, floor - 4 - lift[1], 7, 4.5)]
    body = torch.maximum(c.ellipse(x, floor - 12, 23, 20), c.y - (floor - 6))
    tips = ((-25, 27), (-15, 39), (0, 46), (15, 39), (25, 27))
    roots = ((-21, 13), (-12, 23), (0, 27), (12, 23), (21, 13))
    spikes = []
    for (tx, ty), (rx, ry) in zip(tips, roots):
        nx, ny = (ty - ry) * 0.42, -(tx - rx) * 0.42
        spikes.append(
            c.polygon(
                [
                    (x + tx, floor - ty),
                    (x + rx + nx, floor - ry - ny + 3),
                    (x + rx - nx, floor - ry + ny + 3),
                ],
                1,
            )
        )
    thorns = torch.stack(spikes).amin(0)
    c.fill(torch.stack([*feet, body, thorns]).amin(0) - 2.2, p.rim)
    c.fill(thorns, p.spike)
    for d in feet:
        c.fill(d, p.enemy_dark)
    c.fill(body, p.spiked)
    c.shade(cut_lower(c, body, x, floor - 14), p.rim, 0.35, soft=4)
    _eyes(c, p, x + 7, floor - 16, angry=True)
    return c


def coin(p: Palette, width: int) -> Canvas:
    """A coin of 36 px turned to show `width` px."""
    c = Canvas(42, 42)
    half = width / 2
    rim = c.box(21 - half, 3, 21 + half, 39, half) if width < 20 else c.ellipse(21, 21, half, 18)
    c.fill(rim, p.coin_dark)
    if width < 20:
        c.fill(c.box(21 - half + 2, 5, 21 + half - 4, 37, half - 3), p.coin)
        return c
    c.fill(c.ellipse(21 - half * 0.05, 20.5, half - 2.2, 15.6), p.coin)
    c.fill(c.ellipse(21, 21, half * 0.56, 10.6), p.coin_dark, 0.55)
    c.fill(c.ellipse(21.6, 21.6, half * 0.50, 9.6), p.coin_light)
    c.shade(c.line(21 - half * 0.52, 12, 21 - half * 0.2, 8.2, 1.8), p.coin_light, 0.9)
    return c


def pop(p: Palette, stage: int) -> Canvas:
    """A ring that widens and thins where a coin was taken; stage 0..3."""
    c = Canvas(72, 72)
    r = (12, 20, 27, 32)[stage]
    c.fill(
        c.circle(36, 36, r).abs() - (6.5, 5, 3.4, 1.8)[stage],
        p.coin_light,
        (0.95, 0.85, 0.65, 0.4)[stage],
        1.5,
    )
    return c


def flag(p: Palette, wave: int) -> Canvas:
    """The goal: a tall pole on a stone with a big two-tone flag; wave 0 or 1."""
    c = Canvas(*FLAG_CANVAS)
    w, h = FLAG_CANVAS
    pole = c.box(POLE_X - 4, 12, POLE_X + 4, h, 2)
    foot = c.box(POLE_X - 14, h - 22, POLE_X + 14, h + 10, 6)
    sway = 5.0 if wave else -5.0
    ripple = sway * torch.sin((c.x - POLE_X) / 17.0)
    rag = torch.maximum((c.y - 56 - ripple).abs() - 33, torch.maximum(POLE_X - c.x, c.x - (w - 8)))
    notch = c.polygon([(w - 30, 56), (w + 20, 20), (w + 20, 92)], 0)
    rag = torch.maximum(rag, -notch)
    c.fill(torch.stack([pole, foot, rag]).amin(0) - 2.2, p.rim)
    c.fill(rag, p.scarf)
    c.shade(torch.maximum(rag, (c.y - 56 - ripple).abs() - 11), "#FFFFFF", 0.88)
    c.shade(rag, p.scarf_dark, 0.38 * torch.cos((c.x - POLE_X) / 17.0).clamp(min=0) * (1 if wave else 0.6))
    c.fill(pole, "#E8E4EE")
    c.shade(c.box(POLE_X + 1, 0, POLE_X + 9, h), p.rim, 0.25)
    c.fill(foot, p.deck_body)
    c.shade(c.box(0, h - 22, POLE_X + 20, h - 15), "#FFFFFF", 0.25)
    c.fill(c.circle(POLE_X, 11, 9.5), p.rim)
    c.fill(c.circle(POLE_X, 11, 7.5), p.coin)
    return c


def platform(p: Palette, width: int, height: int) -> Canvas:
    """A moving platform: its own cap colour and two bolts."""
    c = Canvas(width, height)
    slab = c.box(0.5, 0.5, width - 0.5, height - 0.5, 8)
    c.fill(slab, p.rim)
    c.fill(slab + 2, p.deck_body)
    c.fill(torch.maximum(slab + 2, c.y - 12), p.deck)
    c.shade(torch.maximum(slab + 2, c.y - 5), "#FFFFFF", 0.30)
    for x in (20, width - 20):
        c.fill(c.circle(x, 16.5, 4.4), p.rim, 0.7)
        c.fill(c.circle(x, 16.5, 3.0), mix(p.deck, "#FFFFFF", 0.55))
    return c


def figures(p: Palette, platform_size: tuple[int, int]) -> dict[str, Canvas]:
    """All sprites of a look by name; each look has the same names in the same order."""
    out = {name: hero(p, pose) for name, pose in POSES.items()}
    out |= {"walker_0": walker(p, 0), "walker_1": walker(p, 1), "squashed": squashed(p)}
    out |= {"spiked_0": spiked(p, 0), "spiked_1": spiked(p, 1)}
    out |= {f"coin_{i}": coin(p, w) for i, w in enumerate(COIN_WIDTHS)}
    out |= {f"pop_{i}": pop(p, i) for i in range(4)}
    out |= {"flag_0": flag(p, 0), "flag_1": flag(p, 1), "platform": platform(p, *platform_size)}
    return out
