"""The car: one small faceted model, painted from any side into sprites with the painter's algorithm.

Model metres: x right, y forwards, z up, origin on the ground under the middle. The player's car, all
rivals and all poses come from here, so that they are one family.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch

from games.painter import Canvas, mix, rgb

Point = tuple[float, float, float]
Colour = tuple[float, float, float]

WIDTH_PX, HEIGHT_PX = 336, 176
ORIGIN_X_PX, ORIGIN_Y_PX = 168.0, 104.0
PX_PER_M = 64.3
"""Of a sprite, at the distance of the car's middle."""


@dataclass(frozen=True)
class Paint:
    """Colours of one car in one light, '#RRGGBB': body, second tone (roof, sills), glass, light, lit light,
    shade (where no sun comes), ambient 0..1 (how bright unlit faces are)."""

    body: str
    second: str
    glass: str = "#27313F"
    lamp: str = "#9E2B32"
    lit: str = "#FF4A3D"
    shade: str = "#2A3350"
    ambient: float = 0.62
    sun: float = 0.5
    glow: float = 0.0


@dataclass(frozen=True)
class Face:
    """A convex polygon; `layer` orders before depth does; flat faces take no light; `normal` where it matters
    for what is hidden (None: away from the body's axis)."""

    points: list[Point]
    colour: str
    layer: float = 1.0
    flat: bool = False
    normal: Point | None = None


# y, then height and half width of sill, waist and shoulder
_HULL = [
    (-2.13, 0.34, 0.80, 0.62, 0.93, 0.82, 0.82),
    (-1.98, 0.24, 0.87, 0.60, 0.98, 0.90, 0.84),
    (-1.25, 0.20, 0.90, 0.58, 0.99, 0.87, 0.82),
    (-0.30, 0.19, 0.87, 0.52, 0.93, 0.80, 0.80),
    (0.70, 0.19, 0.87, 0.52, 0.94, 0.79, 0.78),
    (1.35, 0.21, 0.88, 0.55, 0.98, 0.77, 0.78),
    (1.90, 0.25, 0.82, 0.50, 0.91, 0.66, 0.68),
    (2.18, 0.32, 0.66, 0.45, 0.76, 0.55, 0.52),
]


def _hull(p: Paint) -> list[Face]:
    faces = []
    for (ya, sa, wa, ma, va, ta, ua), (yb, sb, wb, mb, vb, tb, ub) in pairwise(_HULL):
        for side in (-1.0, 1.0):
            low = [(side * wa, ya, sa), (side * wb, yb, sb), (side * vb, yb, mb), (side * va, ya, ma)]
            high = [(side * va, ya, ma), (side * vb, yb, mb), (side * ub, yb, tb), (side * ua, ya, ta)]
            faces += [Face(low, p.second), Face(high, p.body)]
        faces.append(Face([(-ua, ya, ta), (ua, ya, ta), (ub, yb, tb), (-ub, yb, tb)], p.body))
    for y, s, w, m, v, t, u in (_HULL[0], _HULL[-1]):
        faces.append(Face([(-w, y, s), (w, y, s), (v, y, m), (u, y, t), (-u, y, t), (-v, y, m)], p.body))
    return faces


def _cabin(p: Paint) -> list[Face]:
    rear, back, front, base = (-1.62, 0.88, 0.74), (-0.72, 1.19, 0.55), (0.02, 1.21, 0.55), (0.98, 0.79, 0.72)

    def strip(
        a: tuple[float, float, float],
        b: tuple[float, float, float],
        colour: str,
        inset: float = 0.0,
        layer: float = 2.0,
    ) -> Face:
        (ya, za, wa), (yb, zb, wb) = a, b
        lift = 0.004 if inset else 0.0
        ya, yb, za, zb = (
            ya + inset * (yb - ya),
            yb - inset * (yb - ya),
            za + inset * (zb - za),
            zb - inset * (zb - za),
        )
        wa, wb = wa * (1 - 0.9 * inset), wb * (1 - 0.9 * inset)
        return Face(
            [(-wa, ya, za + lift), (wa, ya, za + lift), (wb, yb, zb + lift), (-wb, yb, zb + lift)],
            colour,
            layer,
        )

    faces = [strip(rear, back, p.second), strip(back, front, p.second), strip(front, base, p.second)]
    faces += [strip(rear, back, p.glass, 0.12, 3), strip(front, base, p.glass, 0.10, 3)]
    for side in (-1.0, 1.0):
        frame = [(side * w, y, z) for y, z, w in (rear, back, front, base)]
        pane = [
            (side * 0.70, -1.15, 0.90),
            (side * 0.565, -0.66, 1.14),
            (side * 0.565, -0.02, 1.16),
            (side * 0.69, 0.66, 0.86),
        ]
        faces += [Face(frame, p.second, 2), Face(pane, p.glass, 3)]
    return faces


def _tail(p: Paint, braking: bool) -> list[Face]:
    """Everything on the back: dark band, lamps, plate, diffuser, wing."""
    y = -2.145

    def plate(x0: float, z0: float, x1: float, z1: float, colour: str, layer: float = 3.0) -> Face:
        return Face(
            [(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)], colour, layer, True, (0.0, -1.0, 0.0)
        )

    lamp = p.lit if braking else p.lamp
    dark = "#22252E"
    faces = [plate(-0.84, 0.57, 0.84, 0.76, dark), plate(-0.62, 0.34, 0.62, 0.45, dark)]
    for s in (-1.0, 1.0):
        faces += [plate(s * 0.36, 0.60, s * 0.82, 0.735, lamp, 3.1)]
        if braking:
            faces += [plate(s * 0.44, 0.635, s * 0.76, 0.70, "#FFD9C2", 3.2)]
        faces += [plate(s * 0.36, 0.33, s * 0.52, 0.42, "#8D939C", 3.1)]
    faces += [plate(-0.2, 0.47, 0.2, 0.56, "#D9D6CB", 3.1)]
    for s in (-1.0, 1.0):
        faces.append(
            Face(
                [
                    (s * 0.56, -2.02, 0.88),
                    (s * 0.62, -2.02, 0.88),
                    (s * 0.64, -2.08, 1.03),
                    (s * 0.58, -2.08, 1.03),
                ],
                dark,
                3.5,
            )
        )
    wing = [(-0.90, -2.18, 1.06), (0.90, -2.18, 1.06), (0.88, -1.86, 1.02), (-0.88, -1.86, 1.02)]
    lip = [(-0.90, -2.18, 1.00), (0.90, -2.18, 1.00), (0.90, -2.18, 1.065), (-0.90, -2.18, 1.065)]
    faces += [Face(wing, p.body, 4), Face(lip, p.second, 4)]
    if braking:
        faces.append(
            Face(
                [(-0.22, -2.19, 1.015), (0.22, -2.19, 1.015), (0.22, -2.19, 1.05), (-0.22, -2.19, 1.05)],
                p.lit,
                5,
                True,
            )
        )
    return faces


def _nose(p: Paint) -> list[Face]:
    """Headlights and the dark mouth."""
    faces = [
        Face(
            [(-0.5, 2.19, 0.33), (0.5, 2.19, 0.33), (0.46, 2.19, 0.42), (-0.46, 2.19, 0.42)],
            "#22252E",
            3,
            True,
        )
    ]
    for s in (-1.0, 1.0):
        faces.append(
            Face(
                [
                    (s * 0.48, 2.13, 0.56),
                    (s * 0.78, 1.98, 0.57),
                    (s * 0.76, 1.95, 0.65),
                    (s * 0.50, 2.06, 0.64),
                ],
                "#FFF6D8",
                3,
                True,
            )
        )
    return faces


def _wheels(steer: float, view: float) -> list[Face]:
    """Four short prisms; those whose outer side shows are laid over the body, the others under it."""
    faces = []
    n, r, half = 14, 0.335, 0.12
    ring = [2 * math.pi * i / n for i in range(n)]
    for x, y, turn in ((-0.83, -1.33, 0.0), (0.83, -1.33, 0.0), (-0.80, 1.38, steer), (0.80, 1.38, steer)):
        c, s = math.cos(turn), math.sin(turn)
        side = math.copysign(1.0, x)
        layer = 3.0 if side * math.sin(view) > 0.42 else 0.0

        def spot(
            px: float, a: float, radius: float, x: float = x, y: float = y, c: float = c, s: float = s
        ) -> Point:
            py = radius * math.cos(a)
            return (x + px * c + py * s, y - px * s + py * c, r + radius * math.sin(a))

        for a, b in zip(ring, [*ring[1:], ring[0]]):
            m = 0.5 * (a + b) if b > a else 0.5 * (a + b) + math.pi
            out = (math.cos(m) * s, math.cos(m) * c, math.sin(m))
            tread = [spot(-half, a, r), spot(half, a, r), spot(half, b, r), spot(-half, b, r)]
            faces.append(Face(tread, "#2B2E37", layer, False, out))
        for radius, colour, lift in ((r, "#1C1E24", 0.1), (0.215, "#A9AFB8", 0.2), (0.08, "#4A4F59", 0.3)):
            cap = [spot(side * half, a, radius) for a in ring]
            faces.append(Face(cap, colour, layer + lift, True, (side * c, -side * s, 0.0)))
    return faces


def paint_car(
    paint: Paint,
    yaw: float,
    steer: float = 0.0,
    braking: bool = False,
    distance_m: float = 8.0,
    sharp: int = 2,
) -> Canvas:
    """The car as seen from a camera 2.4 m high, turned by `yaw` rad (right positive; 0 shows its tail);
    painted `sharp` times larger, then shrunk."""
    canvas = Canvas(WIDTH_PX * sharp, HEIGHT_PX * sharp)
    faces = _hull(paint) + _cabin(paint) + _tail(paint, braking) + _nose(paint) + _wheels(steer, yaw)
    cos, sin = math.cos(yaw), math.sin(yaw)
    eye = (0.0, -distance_m, 2.4)
    drawn = []
    for face in faces:
        points = [_turned(p, cos, sin) for p in face.points]
        middle = [sum(q[i] for q in points) / len(points) for i in range(3)]
        normal = _turned(face.normal, cos, sin) if face.normal else _outward(points, middle)
        if sum(n * (e - m) for n, e, m in zip(normal, eye, middle)) <= 0:
            continue
        depth = math.dist(eye, middle)
        drawn.append((face.layer, -depth, points, _light(face, normal, paint)))
    for _, _, points, colour in sorted(drawn, key=lambda d: (d[0], d[1])):
        _polygon(canvas, [_project(p, distance_m, sharp) for p in points], colour)
    if braking or paint.glow:
        _lamps(canvas, paint, yaw, braking, distance_m, sharp)
    return _shrunk(canvas, sharp)


def _turned(v: Point, cos: float, sin: float) -> Point:
    return (v[0] * cos + v[1] * sin, -v[0] * sin + v[1] * cos, v[2])


def _outward(points: list[Point], middle: list[float]) -> Point:
    """Unit normal, turned away from the body's axis (panels are wound either way)."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = points[0], points[1], points[2]
    u, v = (bx - ax, by - ay, bz - az), (cx - ax, cy - ay, cz - az)
    n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]
    length = math.sqrt(sum(c * c for c in n)) or 1.0
    away = n[0] * middle[0] + n[1] * 0.35 * middle[1] + n[2] * (middle[2] - 0.55)
    scale = math.copysign(1.0, away) / length
    return (scale * n[0], scale * n[1], scale * n[2])


def _light(face: Face, normal: Point, paint: Paint) -> torch.Tensor:
    """Flat shade of a face: sun from the upper left, behind the viewer."""
    if face.flat:
        return rgb(face.colour)
    sun = max(0.0, -0.42 * normal[0] - 0.42 * normal[1] + 0.80 * normal[2])
    level = paint.ambient + paint.sun * sun
    colour = mix(paint.shade, face.colour, min(1.0, level))
    return mix(colour, "#FFFFFF", max(0.0, level - 1.0) * 0.8)


def _project(p: Point, distance_m: float, sharp: int) -> tuple[float, float]:
    """Sprite pixels (times sharp) of a point in view coordinates."""
    scale = PX_PER_M * distance_m / (distance_m + p[1])
    ground = 2.4 * PX_PER_M
    return sharp * (ORIGIN_X_PX + p[0] * scale), sharp * (ORIGIN_Y_PX - ground + (2.4 - p[2]) * scale)


def _polygon(canvas: Canvas, points: list[tuple[float, float]], colour: torch.Tensor) -> None:
    """Fill a convex polygon within its own window, grown by a third of a pixel so that neighbours close."""
    x0 = max(0, int(min(p[0] for p in points)) - 2)
    x1 = min(canvas.width, int(max(p[0] for p in points)) + 3)
    y0 = max(0, int(min(p[1] for p in points)) - 2)
    y1 = min(canvas.height, int(max(p[1] for p in points)) + 3)
    if x1 <= x0 or y1 <= y0:
        return
    turn = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, [*points[1:], points[0]]))
    sign = 1.0 if turn > 0 else -1.0
    edges = []
    for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]]):
        length = math.hypot(bx - ax, by - ay)
        if length > 1e-6:
            nx, ny = sign * (by - ay) / length, -sign * (bx - ax) / length
            edges.append((nx, ny, -nx * ax - ny * ay))
    if not edges:
        return
    nx_, ny_, reach = torch.tensor(edges).T.view(3, -1, 1, 1)
    d = (nx_ * canvas.x[:, x0:x1] + (ny_ * canvas.y[y0:y1] + reach)).amax(0)
    cover = (0.85 - d).clamp(0.0, 1.0)
    window = canvas.colour[:, y0:y1, x0:x1]
    window.mul_(1.0 - cover).add_(colour * cover)
    alpha = canvas.alpha[y0:y1, x0:x1]
    alpha.mul_(1.0 - cover).add_(cover)


def _lamps(canvas: Canvas, paint: Paint, yaw: float, braking: bool, distance_m: float, sharp: int) -> None:
    """Light around the tail lamps, if these can be seen."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    if cos < 0.3:
        return
    for x in (-0.6, 0.6):
        px, py = _project((x * cos - 2.15 * sin, -x * sin - 2.15 * cos, 0.67), distance_m, sharp)
        strength = (0.5 if braking else 0.0) + paint.glow * 0.35
        canvas.glow(canvas.ellipse(px, py, 13.0 * sharp, 4.5 * sharp), paint.lit, 10.0 * sharp, strength)


def _shrunk(canvas: Canvas, sharp: int) -> Canvas:
    if sharp == 1:
        return canvas
    small = Canvas(WIDTH_PX, HEIGHT_PX)
    pool = torch.nn.functional.avg_pool2d
    small.colour = pool(canvas.colour[None], sharp)[0]
    small.alpha = pool(canvas.alpha[None, None], sharp)[0, 0]
    return small
