"""Closed tracks without end of variety: seed -> centre line, nearest-sample field, road-local coordinates.

A track is a random star-shaped polygon, convolved along its length with a Gaussian. That has a closed
form (sums of normal integrals), so position, direction and curvature are exact at any point: straights
stay straight, corners become bends that tighten and open like real ones. Of several candidates the first
that keeps the smallest radius and the distance between parts of the road is taken.

Conventions: x east, y north, metres. A heading is clockwise from north: direction (sin h, cos h), right
hand (cos h, -sin h). Lateral offsets and curvature are positive to the right.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from games.noise import hash_bits, uniform
from games.select import either

SAMPLES = 1024
"""Centre-line samples per track, 0.9-2.5 m apart."""
CELLS = 256
CORNERS = 13
CANDIDATES = 24
MIN_RADIUS_M, MIN_APART_M = 25.0, 56.0
MARGIN_M = 70.0
_SHAPE, _PICK, _WIDTH, _WISH = 101, 102, 103, 104


@dataclass(frozen=True)
class Track:
    """B tracks. All float32 unless said.

    length, half_width [B] m; x, y, tx, ty, curvature [B, SAMPLES]: centre line at s = i * length / SAMPLES;
    field int32 [B, CELLS, CELLS]: index of the nearest sample, by row (y) and column (x);
    left, bottom, cell [B]: place of the field's corner and size of its cells, m.
    """

    length: Tensor
    half_width: Tensor
    x: Tensor
    y: Tensor
    tx: Tensor
    ty: Tensor
    curvature: Tensor
    field: Tensor
    left: Tensor
    bottom: Tensor
    cell: Tensor

    def replaced(self, where: Tensor, other: "Track") -> "Track":
        """A copy with rows `where` (int64 [n]) taken from `other` (n tracks)."""
        return Track(
            *(getattr(self, f.name).index_copy(0, where, getattr(other, f.name)) for f in fields(Track))
        )

    def at(self, values: Tensor, s: Tensor) -> Tensor:
        """Linear interpolation of a per-sample row (say track.curvature) at s, [B, ...] m, wrapping round."""
        batch = s.shape[0]
        u = torch.remainder(s.reshape(batch, -1) / self.length[:, None], 1.0) * SAMPLES
        low = u.floor()
        i = low.to(torch.int64) % SAMPLES
        a, b = values.gather(1, i), values.gather(1, (i + 1) % SAMPLES)
        return (a + (b - a) * (u - low)).view(s.shape)

    def point(self, s: Tensor, lateral: Tensor) -> tuple[Tensor, Tensor]:
        """World position of road-local (s, lateral), both [B, ...]."""
        tx, ty = self.at(self.tx, s), self.at(self.ty, s)
        return self.at(self.x, s) + lateral * ty, self.at(self.y, s) - lateral * tx

    def heading(self, s: Tensor) -> Tensor:
        """rad at s [B, ...]."""
        return angle(self.at(self.tx, s), self.at(self.ty, s))

    def locate(self, px: Tensor, py: Tensor) -> "Local":
        """Road-local coordinates of world points [B, ...]; exact on the road and near it."""
        wide = [-1] + [1] * (px.ndim - 1)
        left, bottom, cell = (v.view(wide) for v in (self.left, self.bottom, self.cell))
        column = ((px - left) / cell).to(torch.int32).clamp(0, CELLS - 1)
        row = ((py - bottom) / cell).to(torch.int32).clamp(0, CELLS - 1)
        world = torch.arange(px.shape[0], device=px.device, dtype=torch.int32).view(wide)
        i = take(self.field, world * (CELLS * CELLS) + row * CELLS + column)
        at = world * SAMPLES + i
        tx, ty, k = take(self.tx, at), take(self.ty, at), take(self.curvature, at)
        dx, dy = px - take(self.x, at), py - take(self.y, at)
        along, right = dx * tx + dy * ty, dx * ty - dy * tx
        # The road through a sample is an arc of its curvature: distance to it and angle along it.
        inner = (1.0 - k * right).clamp(min=0.2)
        r = torch.sqrt((k * along) ** 2 + (1.0 - k * right) ** 2)
        lateral = (2.0 * right - k * (along * along + right * right)) / (1.0 + r)
        beyond = (along.abs() - 8.0).clamp(min=0.0)  # outside the field: never a phantom road
        lateral = lateral + either(lateral < 0, -beyond, beyond)
        spacing = (self.length / SAMPLES).view(wide)
        return Local(i * spacing + along / inner, lateral, k, tx, ty)


@dataclass(frozen=True)
class Local:
    """Where points lie on their road: s m (may leave 0..length), lateral m, curvature 1/m, tangent."""

    s: Tensor
    lateral: Tensor
    curvature: Tensor
    tx: Tensor
    ty: Tensor


def angle(east: Tensor, north: Tensor) -> Tensor:
    """Heading of a direction. In float64: float32 atan2 on a CPU rounds differently in other batches."""
    return torch.atan2(east.to(torch.float64), north.to(torch.float64)).to(torch.float32)


def take(values: Tensor, index: Tensor) -> Tensor:
    """values.flatten()[index] for an index of any shape (index_select is the quick way on the CPU)."""
    return values.reshape(-1).index_select(0, index.reshape(-1)).view(index.shape)


def build_tracks(seeds: Tensor) -> Track:
    """int64 [B] -> B tracks on the seeds' device."""
    batch = seeds.shape[0]
    number = torch.arange(CANDIDATES, device=seeds.device)
    polygon = _polygons(seeds[:, None].expand(batch, CANDIDATES).reshape(-1), number.repeat(batch))
    rough = _curve(polygon, _even(polygon.perimeter, 128))
    wish = 1.15 + 1.1 * uniform(seeds, _WISH)
    score = _faults(rough, polygon.perimeter, wish.repeat_interleave(CANDIDATES)).view(batch, CANDIDATES)
    best = score.argmin(1) + torch.arange(batch, device=seeds.device) * CANDIDATES
    polygon = _Polygon(*(getattr(polygon, f.name)[best] for f in fields(_Polygon)))
    u, length = _even_arc(polygon)
    x, y, dx, dy, ddx, ddy = _curve(polygon, u)
    speed = torch.sqrt(dx * dx + dy * dy)
    curvature = (ddx * dy - ddy * dx) / speed**3
    left, bottom = x.amin(1) - MARGIN_M, y.amin(1) - MARGIN_M
    cell = (torch.maximum(x.amax(1) - left, y.amax(1) - bottom) + MARGIN_M) / CELLS
    half_width = 5.2 + 0.9 * uniform(seeds, _WIDTH)
    exact = (length, x, y, dx / speed, dy / speed, curvature, left, bottom, cell)
    length, x, y, tx, ty, curvature, left, bottom, cell = (t.to(torch.float32) for t in exact)
    field = _nearest(x, y, left, bottom, cell)
    return Track(length, half_width, x, y, tx, ty, curvature, field, left, bottom, cell)


@dataclass(frozen=True)
class _Polygon:
    """Corner k's position x, y, the distance `start` to it along the sides, direction and length of the side
    after it, [B, CORNERS] float64 (sides of length 0 pad); perimeter, sigma [B] m."""

    x: Tensor
    y: Tensor
    start: Tensor
    dx: Tensor
    dy: Tensor
    side: Tensor
    perimeter: Tensor
    sigma: Tensor


def _polygons(seeds: Tensor, candidate: Tensor) -> _Polygon:
    def draw(name: int, *more: Tensor | int) -> Tensor:
        wide = seeds.view(-1, *[1] * (1 if more else 0))
        which = candidate.view(wide.shape)
        return uniform(wide, _SHAPE, which, name, *more).to(torch.float64)

    k = torch.arange(CORNERS, device=seeds.device)
    corners = 8 + hash_bits(seeds, _PICK, candidate) % (CORNERS - 7)
    n = torch.minimum(k[None], corners[:, None] - 1)  # repeated corners make sides of length 0
    # The start-finish straight is side 0: corners 0 and 1 lie apart, on the outside.
    angle = 2 * math.pi * (n + 0.62 * (draw(1, n) - 0.5)) / corners[:, None]
    swing = (0.45 + 0.35 * draw(2))[:, None]
    radius = 1.0 - swing * either(n < 2, 0.3 * draw(3, n), draw(3, n))
    oval = (0.65 + 0.35 * draw(4))[:, None]
    x, y = radius * torch.sin(angle), radius * torch.cos(angle) * oval
    mirror = either(draw(5) < 0.5, -1.0, 1.0)[:, None]
    x = x * mirror
    sx, sy = x.roll(-1, 1) - x, y.roll(-1, 1) - y
    side = torch.sqrt(sx * sx + sy * sy)
    total = side.cumsum(1)
    scale = ((1000.0 + 1400.0 * draw(6)) / total[:, -1])[:, None]
    safe = side.clamp(min=1e-9)
    return _Polygon(
        x * scale,
        y * scale,
        (total - side) * scale,
        sx / safe,
        sy / safe,
        side * scale,
        total[:, -1] * scale[:, 0],
        15.0 + 13.0 * draw(7),
    )


def _curve(p: _Polygon, u: Tensor) -> tuple[Tensor, ...]:
    """Position, first and second derivative of the smoothed polygon at u [B, N] m along its sides."""
    sigma = p.sigma[:, None]
    zero = torch.zeros_like(u)
    out = [p.x[:, :1] + zero, p.y[:, :1] + zero, zero, zero, zero, zero]
    for k in range(CORNERS):
        for wrap in (-1.0, 0.0, 1.0):
            start = p.start[:, k : k + 1] + wrap * p.perimeter[:, None]
            a = _ramp((u - start) / sigma)
            b = _ramp((u - start - p.side[:, k : k + 1]) / sigma)
            # Ramp, step and bump: the side's share in position, direction and bend.
            for order, unit in enumerate((sigma, torch.ones_like(sigma), 1.0 / sigma)):
                share = (a[order] - b[order]) * unit
                out[2 * order] = out[2 * order] + p.dx[:, k : k + 1] * share
                out[2 * order + 1] = out[2 * order + 1] + p.dy[:, k : k + 1] * share
    return tuple(out)


def _ramp(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Integral of the normal distribution's step, the step, its density."""
    step = 0.5 * (1.0 + torch.erf(x * math.sqrt(0.5)))
    density = torch.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
    return x * step + density, step, density


def _even(perimeter: Tensor, n: int) -> Tensor:
    return torch.arange(n, device=perimeter.device, dtype=torch.float64)[None] / n * perimeter[:, None]


def _even_arc(p: _Polygon) -> tuple[Tensor, Tensor]:
    """u [B, SAMPLES] at which the curve's arc length is even, and that length [B]."""
    u = _even(p.perimeter, 2 * SAMPLES) + 0.25 * p.side[:, :1]  # s = 0 lies on the first straight
    _, _, dx, dy, _, _ = _curve(p, u)
    speed = torch.sqrt(dx * dx + dy * dy)
    step = p.perimeter[:, None] / (2 * SAMPLES)
    trapezoid = 0.5 * (speed + speed.roll(-1, 1)) * step
    total = trapezoid.cumsum(1)
    before = total - trapezoid
    length = total[:, -1]
    target = _even(length, SAMPLES)
    i = (torch.searchsorted(before.contiguous(), target, right=True) - 1).clamp(0, 2 * SAMPLES - 1)
    return u.gather(1, i) + (target - before.gather(1, i)) / speed.gather(1, i), length


def _faults(curve: tuple[Tensor, ...], perimeter: Tensor, wish: Tensor) -> Tensor:
    """How badly radius and distance between parts fall short, and, far behind these, how much the track turns
    more or less than `wish` full circles in all, [B]."""
    x, y, dx, dy, ddx, ddy = curve
    n = x.shape[1]
    speed = torch.sqrt(dx * dx + dy * dy).clamp(min=0.02)
    k = (ddx * dy - ddy * dx).abs() / speed**3
    turns = (k * speed).sum(1) * (perimeter / n) / (2 * math.pi)
    distance = torch.sqrt((x[:, :, None] - x[:, None]) ** 2 + (y[:, :, None] - y[:, None]) ** 2)
    i = torch.arange(n, device=x.device)
    gap = (i[:, None] - i[None]).abs()
    along = torch.minimum(gap, n - gap)[None] * (perimeter / n)[:, None, None]
    apart = either(along > 150.0, distance, 1e9).amin((1, 2))
    faults = (k.amax(1) * MIN_RADIUS_M - 0.95).clamp(min=0.0) + (1.0 - apart / MIN_APART_M).clamp(min=0.0)
    return 10.0 * faults + 0.01 * (turns - wish).abs()


def _nearest(x: Tensor, y: Tensor, left: Tensor, bottom: Tensor, cell: Tensor) -> Tensor:
    """int32 [B, CELLS, CELLS]: sample nearest to each cell's centre: every 4th first, then its neighbours."""
    batch, device = x.shape[0], x.device
    centre = torch.arange(CELLS, device=device) + 0.5
    px = (left[:, None] + centre * cell[:, None])[:, None, :]
    py = (bottom[:, None] + centre * cell[:, None])[:, :, None]
    best = torch.full((batch, CELLS, CELLS), 1e18, device=device)
    index = torch.zeros((batch, CELLS, CELLS), dtype=torch.int32, device=device)
    coarse_x, coarse_y, coarse = px[:, :, ::4], py[:, ::4], 4
    size = CELLS // coarse
    rough = torch.full((batch, size, size), 1e18, device=device)
    start = torch.zeros((batch, size, size), dtype=torch.int64, device=device)
    for i in range(0, SAMPLES, 4):
        d = (coarse_x - x[:, i, None, None]) ** 2 + (coarse_y - y[:, i, None, None]) ** 2
        nearer = d < rough
        rough = either(nearer, d, rough)
        start = either(nearer, i, start)
    fine = start.repeat_interleave(coarse, 1).repeat_interleave(coarse, 2).view(batch, -1)
    for step in range(-14, 15, 2):
        near = (fine + step) % SAMPLES
        d = (px - x.gather(1, near).view(best.shape)) ** 2 + (py - y.gather(1, near).view(best.shape)) ** 2
        nearer = d < best
        best = either(nearer, d, best)
        index = either(nearer, near.view(best.shape).to(torch.int32), index)
    return index
