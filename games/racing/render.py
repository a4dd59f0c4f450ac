"""From a racing State to a picture: camera, background, then sprites from far to near.

State + Track + Scenery -> Camera -> ground.backdrop -> sprites.composite -> uint8 [B, 480, 720, 3].
"""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import lru_cache

import torch
from torch import Tensor

from games.noise import hash_bits
from games.painter import rgb
from games.racing import art, art_car
from games.racing.ground import CENTRE, COLOURS, HEIGHT, WIDTH, Camera, backdrop, haze_at
from games.racing.looks import LOOKS
from games.racing.physics import CAR_WIDTH_M, State, wrap_angle
from games.racing.scenery import Scenery
from games.racing.skyline import FOCAL_PX, panoramas
from games.racing.spec import RIVAL_PAINTS, RIVALS
from games.racing.track import Track
from games.sprites import Placements, composite, join, place, reorder

BEHIND_M = 8.0
"""From the camera to the car's middle: 6 m behind its tail."""
HORIZON = 0.42 * HEIGHT
HORIZON_REACH = 26
"""Rows around it that lean, dip and shake can touch."""
SEEN_M, NEAREST_M, MOST_SEEN = 230.0, 1.2, 60
CAR, RIVAL, MARKING, ROADSIDE = 1, 2, 3, 4


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(backdrop, dynamic=False)


class Painter:
    """Holds what is painted once (atlas, panoramas, palettes) on one device; `paint` keeps no state."""

    def __init__(self, device: str) -> None:
        # On the CPU each look's atlas is painted when a world first wears it.
        self._atlas = art.atlas(device) if torch.device(device).type == "cuda" else None
        self._panorama = panoramas(device)
        rows = [[rgb(getattr(look, name)).view(3).tolist() for name in COLOURS] for look in LOOKS]
        self._palettes = torch.tensor(rows, device=device)
        self._lamps = torch.tensor([look.lamp for look in LOOKS], device=device)

    def paint(
        self, state: State, track: Track, scenery: Scenery, look: Tensor, seeds: Tensor, with_classes: bool
    ) -> tuple[Tensor, Tensor | None]:
        """uint8 [B, 480, 720, 3] and the class map uint8 [B, 480, 720], or None."""
        cam = camera(state, look)
        palette, lamp = self._palettes[look], self._lamps[look]
        haze = palette[:, COLOURS.index("haze")]
        placed = placements(cam, state, track, scenery, seeds, haze)
        if self._atlas is not None:
            top, bottom = int(HORIZON) - HORIZON_REACH, int(HORIZON) + HORIZON_REACH
            picture, marking = _compiled()(cam, track, palette, lamp, self._panorama, bottom, top, True)
            classes = _classes(marking) if with_classes else None
            return composite(picture.permute(0, 2, 3, 1), classes, placed, self._atlas)
        # On the CPU each world alone, in the rows that it needs: quick for one, the same bytes in any batch.
        pictures, maps = [], []
        for b in range(look.shape[0]):
            one, lit = _row(cam, b), bool(lamp[b] > 0)
            swing = abs(float(one.roll[0])) * CENTRE + 1.0
            top, bottom = math.floor(float(one.horizon[0]) - swing), math.ceil(float(one.horizon[0]) + swing)
            picture, marking = backdrop(
                one, _row(track, b), palette[b : b + 1], lamp[b : b + 1], self._panorama, bottom, top, lit
            )
            classes = _classes(marking) if with_classes else None
            sprites, which = _row(placed, b), int(look[b])
            sprites = replace(sprites, sprite=sprites.sprite - which * art.PER_LOOK)
            done, done_classes = composite(picture.permute(0, 2, 3, 1), classes, sprites, art.atlas_of(which))
            pictures.append(done)
            maps.append(done_classes)
        return torch.cat(pictures), torch.cat([m for m in maps if m is not None]) if with_classes else None


def _row(batch, b: int):  # type: ignore[no-untyped-def]  # any of the dataclasses of tensors
    """World b alone, as a batch of one."""
    return type(batch)(*(getattr(batch, f.name)[b : b + 1] for f in fields(batch)))


def _classes(marking: Tensor) -> Tensor:
    """Class map of the background: markings in the lowest rows of it."""
    full = torch.zeros((marking.shape[0], HEIGHT, WIDTH), dtype=torch.uint8, device=marking.device)
    full[:, HEIGHT - marking.shape[1] :].masked_fill_(marking, MARKING)
    return full


def camera(c: State, look: Tensor) -> Camera:
    """Behind the car, looking where its nose was a moment ago."""
    sin, cos = torch.sin(c.view), torch.cos(c.view)
    horizon = HORIZON + c.pitch + c.shake * torch.sin(c.phase)
    height = 2.4 + 0.006 * c.speed.abs()
    return Camera(
        c.x - BEHIND_M * sin,
        c.y - BEHIND_M * cos,
        height,
        sin,
        cos,
        c.view,
        horizon,
        c.roll,
        c.x,
        c.y,
        torch.sin(c.heading),
        torch.cos(c.heading),
        look,
    )


def _project(cam: Camera, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """World points [B, N] -> screen x, screen y of the ground there, depth m (clamped to be positive)."""
    dx, dy = x - cam.x[:, None], y - cam.y[:, None]
    z = dx * cam.sin[:, None] + dy * cam.cos[:, None]
    right = dx * cam.cos[:, None] - dy * cam.sin[:, None]
    near = z.clamp(min=0.1)
    sx = right / near * FOCAL_PX
    sy = cam.horizon[:, None] + cam.height[:, None] * FOCAL_PX / near - cam.roll[:, None] * sx
    return sx + CENTRE, sy, z


def placements(
    cam: Camera, c: State, track: Track, scenery: Scenery, seeds: Tensor, haze: Tensor
) -> Placements:
    """All sprites of the picture, far to near."""
    parts, depths = zip(_roadside(cam, scenery, haze), *_rivals(cam, c, track, seeds, haze), *_player(cam, c))
    order = torch.cat(depths, 1).argsort(dim=1, descending=True, stable=True)
    return reorder(join(parts), order)


def _roadside(cam: Camera, scenery: Scenery, haze: Tensor) -> tuple[Placements, Tensor]:
    """The nearest things that can be seen, and their depth [B, MOST_SEEN]."""
    sx, sy, z = _project(cam, scenery.x, scenery.y)
    scale = FOCAL_PX / z.clamp(min=0.1)
    seen = (z > NEAREST_M) & (z < SEEN_M) & ((sx - CENTRE).abs() < CENTRE + 0.5 * scenery.width * scale)
    key = torch.where(seen & (scenery.width > 0), z, 1e6)
    z, i = key.topk(MOST_SEEN, dim=1, largest=False)
    scale = FOCAL_PX / z
    w, h = scenery.width.gather(1, i) * scale, scenery.height.gather(1, i) * scale
    foot = h * 0.035  # the painted shadow lies a little below the foot
    there = z < 1e5
    # Things dissolve where they would fill the picture: gates over the car, trees in the camera's way.
    wide = scenery.width.gather(1, i) > 10.0
    passed = torch.where(wide, (z - 6.0) / 6.0, (z - NEAREST_M) / 2.0).clamp(0.0, 1.0)
    faded = ((SEEN_M - z) / 50.0).clamp(0.0, 1.0) * passed * there
    sprites = place(
        scenery.sprite.gather(1, i),
        sx.gather(1, i) - 0.5 * w,
        sy.gather(1, i) - h + foot,
        torch.where(there, w, 0.0),
        h,
        klass=ROADSIDE,
        flip=scenery.flip.gather(1, i),
        opacity=faded,
        haze=haze_at(z),
        haze_rgb=haze[:, None],
    )
    return sprites, z


def _rivals(
    cam: Camera, c: State, track: Track, seeds: Tensor, haze: Tensor
) -> list[tuple[Placements, Tensor]]:
    """Rivals and their shadows. The pose is the nearest to the angle from which each is seen."""
    x, y = track.point(c.rival_s, c.rival_lateral)
    sx, sy, z = _project(cam, x, y)
    near = z.clamp(min=0.1)
    lean = c.rival_drift / c.rival_speed.clamp(min=4.0)
    ray = cam.view[:, None] + torch.atan2(sx - CENTRE, torch.full_like(sx, FOCAL_PX))
    yaw = wrap_angle(track.heading(c.rival_s) + lean - ray)
    turns = torch.tensor(art.RIVAL_TURNS_RAD, device=sx.device)
    pose = torch.bucketize(yaw.abs(), 0.5 * (turns[1:] + turns[:-1]))
    i = torch.arange(RIVALS, device=sx.device)
    paint = (rival_paint(seeds)[:, None] + i) % RIVAL_PAINTS
    base = (cam.look * art.PER_LOOK)[:, None]
    scale = FOCAL_PX / near / art_car.PX_PER_M
    w, h = art_car.WIDTH_PX * scale, art_car.HEIGHT_PX * scale
    there = (z > 2.5) & (z < 200.0)
    opacity = ((200.0 - z) / 30.0).clamp(0.0, 1.0) * there
    body = place(
        base + art.RIVAL + paint * art.RIVAL_POSES + pose,
        sx - 0.5 * w,
        sy - art_car.ORIGIN_Y_PX * scale,
        w,
        h,
        klass=RIVAL,
        flip=yaw < 0,
        opacity=opacity,
        haze=haze_at(z.clamp(min=0.0)),
        haze_rgb=haze[:, None],
    )
    long = CAR_WIDTH_M + 2.4 * torch.sin(yaw).abs()
    sw, sh = 1.45 * long * FOCAL_PX / near, (0.26 + 1.7 / near.clamp(min=4.0)) * FOCAL_PX / near
    dark = place(
        base + art.SHADOW, sx - 0.5 * sw, sy - 0.55 * sh, sw, sh, opacity=opacity * (1.0 - haze_at(near))
    )
    return [(dark, z + 0.3), (body, z)]


def rival_paint(seeds: Tensor) -> Tensor:
    """Number of the first rival's paint, int64 [B]; the others' follow."""
    return hash_bits(seeds, 601) % RIVAL_PAINTS


def _player(cam: Camera, c: State) -> list[tuple[Placements, Tensor]]:
    """The player's car on whole pixels (so it stays crisp) and its shadow."""
    turn = 2.0 * wrap_angle(c.heading - c.view) + 0.07 * c.steer
    pose = (turn.abs() / art.PLAYER_STEP_RAD).round().to(torch.int64).clamp(0, art.PLAYER_POSES - 1)
    braking = torch.where(c.braking > 0.4, art.PLAYER_BRAKING, art.PLAYER)
    base = cam.look * art.PER_LOOK
    x = (CENTRE + 46.0 * turn)[:, None]
    y = (cam.horizon + cam.height * FOCAL_PX / BEHIND_M)[:, None]
    left, top = (x - art_car.ORIGIN_X_PX).round(), (y - art_car.ORIGIN_Y_PX).round()
    full = torch.ones_like(x)
    car = place(
        (base + braking + pose)[:, None],
        left,
        top,
        full * art_car.WIDTH_PX,
        full * art_car.HEIGHT_PX,
        klass=CAR,
        flip=(turn < 0)[:, None],
    )
    dark = place(
        (base + art.SHADOW)[:, None],
        (x - 122.0).round(),
        (y - 14.0).round(),
        full * 244.0,
        full * 84.0,
        opacity=0.9,
    )
    return [(dark, full * (BEHIND_M - 1.9)), (car, full * (BEHIND_M - 2.0))]
