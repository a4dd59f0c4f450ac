"""What stands beside the road, painted once per look: trees, rocks, posts, boards, gates; and the atlas.

Sprite ids are arithmetic: look * PER_LOOK + one of the offsets below, so that a batch of worlds with mixed
looks needs no tables. All roadside sprites stand on the bottom of their box.
"""

import math
from functools import lru_cache

import torch

from games.painter import Canvas, cut, mix, one_thread
from games.racing.art_car import paint_car
from games.racing.looks import LOOKS, Look
from games.racing.spec import RIVAL_PAINTS
from games.sprites import Atlas, build_atlas

PLAYER_POSES = 5
PLAYER_STEP_RAD = 0.085
"""Between two poses of the player's car; the pose chosen is the nearest."""
RIVAL_TURNS_RAD = tuple(math.radians(d) for d in (0, 7, 14, 22, 33, 50, 75, 105, 140, 180))
"""Finest where rivals are seen most: from behind."""
RIVAL_POSES = len(RIVAL_TURNS_RAD)
TREE_A, TREE_B, POST, BOARD, GATE, SHADOW = range(6)
PLAYER = 6
PLAYER_BRAKING = PLAYER + PLAYER_POSES
RIVAL = PLAYER_BRAKING + PLAYER_POSES
PER_LOOK = RIVAL + RIVAL_POSES * RIVAL_PAINTS


@lru_cache(maxsize=4)
def atlas(device: str) -> Atlas:
    """All sprites of all looks, on `device`."""
    sprites: dict[str, Canvas] = {}
    with one_thread():
        for i, look in enumerate(LOOKS):
            sprites |= {f"{i}/{name}": canvas for name, canvas in _look_sprites(i, look).items()}
        return build_atlas(sprites).to(device)


@lru_cache(maxsize=len(LOOKS))
def atlas_of(i: int) -> Atlas:
    """The sprites of one look only, for a CPU that shows one world; ids without look * PER_LOOK."""
    with one_thread():
        return build_atlas(_look_sprites(i, LOOKS[i]))


def _look_sprites(i: int, look: Look) -> dict[str, Canvas]:
    """In the order of the offsets above."""
    tree_a, tree_b = ((_fir, _round_tree), (_saguaro, _mesa_rock), (_palm, _pylon))[i]
    out = {
        "tree_a": tree_a(look),
        "tree_b": tree_b(look),
        "post": _post(look),
        "board": _board(look),
        "gate": _gate(look, i),
        "shadow": _shadow(look),
    }
    for braking in (False, True):
        for k in range(PLAYER_POSES):
            out[f"player{k}{braking}"] = paint_car(look.player, k * PLAYER_STEP_RAD, 0.07 * k, braking)
    for n, paint in enumerate(look.rivals):
        for k, turn in enumerate(RIVAL_TURNS_RAD):
            out[f"rival{n}-{k}"] = paint_car(paint, turn, 0.0, False, 15.0, sharp=1)
    assert len(out) == PER_LOOK
    return out


def _ground_shadow(c: Canvas, look: Look, cx: float, cy: float, rx: float, ry: float) -> None:
    c.fill(c.ellipse(cx, cy, rx, ry), look.shadow, 0.45, soft=ry * 0.9)


def _fir(look: Look) -> Canvas:
    """160 x 256: three tiers, lit from the left."""
    c = Canvas(160, 256)
    _ground_shadow(c, look, 92, 246, 60, 9)
    c.fill(c.box(72, 210, 88, 250, 3), look.trunk)
    for top, bottom, half in ((118, 226, 66), (62, 168, 54), (8, 108, 40)):
        body = c.polygon([(80, top), (80 + half, bottom - 6), (80, bottom + 8), (80 - half, bottom - 6)], 4)
        c.fill(body, look.tree)
        c.fill(torch.maximum(body, -c.half(80 + 4, top, 12)), look.tree_dark)
        c.fill(torch.maximum(body + 5, c.half(80 - 0.34 * half, top, 16)), look.tree_light, 0.75)
        c.shade(torch.maximum(body, -c.half(80, bottom - 16, 90)), look.tree_dark, 0.45, soft=14)
    return c


def _round_tree(look: Look) -> Canvas:
    """192 x 224: a broad crown of three discs."""
    c = Canvas(192, 224)
    _ground_shadow(c, look, 108, 214, 74, 9)
    c.fill(c.polygon([(86, 120), (106, 120), (110, 216), (82, 216)]), look.trunk)
    crown = torch.minimum(torch.minimum(c.circle(96, 66, 56), c.circle(54, 104, 46)), c.circle(138, 104, 46))
    c.fill(crown, look.tree)
    light = torch.minimum(torch.minimum(c.circle(84, 56, 44), c.circle(46, 96, 34)), c.circle(128, 94, 30))
    c.fill(torch.maximum(crown + 4, light), look.tree_light)
    dark = torch.maximum(crown, -c.half(96, 122, 90))
    c.fill(dark, look.tree_dark, 0.8, soft=8)
    return c


def _saguaro(look: Look) -> Canvas:
    """144 x 240: a cactus with two arms and a lit edge."""
    c = Canvas(144, 240)
    _ground_shadow(c, look, 88, 230, 54, 8)
    body = torch.minimum(
        c.line(72, 34, 72, 232, 17), torch.minimum(c.line(26, 84, 26, 122, 12), c.line(118, 66, 118, 112, 12))
    )
    arms = torch.minimum(c.line(26, 132, 66, 142, 12), c.line(118, 122, 78, 134, 12))
    body = torch.maximum(torch.minimum(body, arms), c.half(0, 231, 90))
    c.fill(body, look.tree)
    for x in (72, 26, 118):
        c.shade(torch.maximum(body, -c.half(x + 3, 0, 0)) + (c.x - x > 22) * 99, look.tree_dark, 0.9, soft=3)
    c.shade(torch.maximum(body + 3, c.half(64, 0, 0) + (c.x < 50) * 99), look.tree_light, 0.8, soft=2)
    return c


def _mesa_rock(look: Look) -> Canvas:
    """256 x 176: a split boulder in three tones."""
    c = Canvas(256, 176)
    _ground_shadow(c, look, 140, 166, 108, 10)
    body = c.polygon(
        [(20, 164), (34, 92), (74, 62), (92, 24), (150, 18), (178, 66), (220, 84), (238, 164)], 4
    )
    c.fill(body, look.rock)
    c.fill(
        torch.maximum(
            body, c.polygon([(92, 20), (150, 10), (160, 60), (120, 96), (128, 180), (260, 180), (260, 60)])
        ),
        mix(look.rock, look.shadow, 0.45),
    )
    c.fill(
        torch.maximum(body + 3, c.polygon([(92, 24), (148, 18), (140, 36), (98, 44)])),
        mix(look.rock, look.sky_low, 0.6),
    )
    c.fill(
        torch.maximum(body + 3, c.polygon([(36, 92), (74, 62), (80, 78), (48, 106)])),
        mix(look.rock, look.sky_low, 0.45),
    )
    return c


def _palm(look: Look) -> Canvas:
    """192 x 256: a dark palm with a cyan rim."""
    c = Canvas(192, 256)
    c.glow(c.line(80, 246, 112, 246, 2), look.tree_light, 12.0, 0.25)
    c.fill(c.polygon([(90, 84), (101, 84), (108, 254), (90, 254)]), look.trunk)
    for a in range(7):
        angle = math.pi * (a / 6.0) + math.pi
        ex, ey = 96 + 88 * math.cos(angle), 78 + 52 * math.sin(angle) + 34 * abs(math.cos(angle)) ** 2
        mx, my = 96 + 50 * math.cos(angle), 72 + 56 * math.sin(angle)
        leaf = c.polygon([(96, 86), (mx, my - 10), (ex, ey), (mx, my + 12)], 1.5)
        c.fill(leaf, look.tree)
        c.fill(
            torch.minimum(c.line(96, 82, mx, my - 9, 1.6), c.line(mx, my - 9, ex, ey, 1.6)), look.tree_light
        )
    return c


def _pylon(look: Look) -> Canvas:
    """128 x 256: a light pylon, magenta ring on a dark shaft."""
    c = Canvas(128, 256)
    c.glow(c.line(48, 246, 80, 246, 2), look.kerb_a, 12.0, 0.35)
    c.fill(c.polygon([(56, 70), (72, 70), (78, 254), (50, 254)]), look.tree_dark)
    c.fill(c.polygon([(58, 90), (63, 90), (62, 250), (55, 250)]), look.tree)
    ring = c.circle(64, 46, 30).abs() - 6
    c.glow(ring, look.kerb_a, 12.0, 0.5)
    c.fill(ring, look.kerb_a)
    c.fill(c.circle(64, 46, 30).abs() - 2, mix(look.kerb_a, "#FFFFFF", 0.6))
    return c


def _post(look: Look) -> Canvas:
    """32 x 96: a reflector post."""
    c = Canvas(32, 96)
    _ground_shadow(c, look, 18, 91, 13, 4)
    c.fill(
        c.polygon([(9, 6), (23, 2), (23, 92), (9, 92)], 1),
        mix(look.kerb_b, look.haze, 0.15) if look.lamp < 1 else look.tree_dark,
    )
    c.shade(-c.half(18, 0, 0), look.shadow, 0.25)
    c.fill(c.box(7, 16, 25, 40, 1), look.shadow if look.lamp < 1 else look.tree_dark)
    c.fill(c.box(11, 19, 21, 37, 2), look.kerb_a)
    if look.lamp == 1:
        c.glow(c.box(11, 19, 21, 37, 2), look.kerb_a, 5.0, 0.5)
    return c


def _board(look: Look) -> Canvas:
    """144 x 144: two arrows to the right on a board (flipped for the left)."""
    c = Canvas(144, 144)
    _ground_shadow(c, look, 78, 138, 56, 5)
    for x in (34, 110):
        c.fill(c.box(x - 5, 84, x + 5, 140), look.shadow)
    board = c.box(6, 12, 138, 104, 8)
    c.fill(board, look.kerb_b if look.lamp < 1 else "#14173A")
    for x in (22, 78):
        arrow = c.polygon([(x, 24), (x + 20, 24), (x + 46, 58), (x + 20, 92), (x, 92), (x + 26, 58)])
        if look.lamp == 1:
            c.glow(arrow, look.kerb_a, 6.0, 0.4)
        c.fill(arrow, look.kerb_a)
    c.fill(board.abs() - 2.5, mix(look.kerb_a, look.shadow, 0.35))
    return c


def _gate(look: Look, i: int) -> Canvas:
    """512 x 224: a landmark over the road: timber gate, stone arch or light arch. 16 m x 7 m."""
    c = Canvas(512, 224)
    if i == 0:
        for x in (30, 482):
            c.fill(c.box(x - 15, 20, x + 15, 222), look.trunk)
            c.fill(c.box(x - 15, 20, x - 5, 222), mix(look.trunk, look.kerb_b, 0.35))
        c.fill(
            c.polygon([(2, 52), (256, 10), (510, 52), (510, 72), (256, 30), (2, 72)]),
            mix(look.kerb_a, look.shadow, 0.2),
        )
        c.fill(c.box(14, 62, 498, 104, 3), look.kerb_a)
        for x in range(40, 480, 88):
            c.fill(c.polygon([(x, 62), (x + 40, 62), (x + 56, 104), (x + 16, 104)]), look.kerb_b)
    elif i == 1:
        arch = cut(
            c.polygon([(4, 224), (20, 40), (90, 14), (250, 4), (430, 18), (494, 44), (508, 224)], 3),
            c.ellipse(256, 224, 206, 150),
        )
        c.fill(arch, look.rock)
        c.fill(torch.maximum(arch, -c.half(256, 60, 20)), mix(look.rock, look.shadow, 0.4), 1.0, soft=2)
        c.fill(
            torch.maximum(
                arch + 3,
                c.polygon([(24, 44), (90, 18), (250, 8), (430, 22), (420, 40), (250, 26), (100, 38)]),
            ),
            mix(look.rock, look.sky_low, 0.55),
        )
    else:
        arch = torch.maximum(c.ellipse(256, 224, 236, 200).abs() - 11, c.half(0, 223, 90))
        c.glow(arch, look.kerb_b, 16.0, 0.4)
        c.fill(arch, look.kerb_b)
        c.fill(torch.maximum(c.ellipse(256, 224, 236, 200).abs() - 4, c.half(0, 223, 90)), "#D9FFFB")
        inner = torch.maximum(c.ellipse(256, 224, 214, 178).abs() - 5, c.half(0, 223, 90))
        c.glow(inner, look.kerb_a, 9.0, 0.3)
        c.fill(inner, look.kerb_a)
    return c


def _shadow(look: Look) -> Canvas:
    """256 x 96: under a car; at night a pool of its own light instead of sun shadow around the dark."""
    c = Canvas(256, 96)
    if look.lamp == 1:
        c.glow(c.line(66, 46, 190, 46, 6), look.kerb_a, 15.0, 0.45)
    c.fill(c.ellipse(128, 48, 98, 29), look.shadow, 0.8, soft=32)
    return c
