"""An antialiased painter: shapes as signed distances in pixels, drawn once into premultiplied RGBA.

Used when an atlas or a panorama is built, never per frame. A distance is a tensor [H, W], negative
inside; combine two with torch.minimum (union), torch.maximum (intersection) or `cut`.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

Colour = str | Sequence[float] | Tensor


def rgb(colour: Colour) -> Tensor:
    """'#RRGGBB' or three numbers 0..255 -> float32 [3, 1, 1]; a gradient [3, H, W] stays itself."""
    if isinstance(colour, Tensor):
        return colour.to(torch.float32) if colour.ndim == 3 else colour.to(torch.float32).view(3, 1, 1)
    if isinstance(colour, str):
        return _hex(colour)
    return torch.tensor([float(c) for c in colour]).view(3, 1, 1)


@lru_cache(maxsize=512)
def _hex(colour: str) -> Tensor:
    """Shared between callers, who never write to a colour."""
    return torch.tensor([float(int(colour.lstrip("#")[i : i + 2], 16)) for i in (0, 2, 4)]).view(3, 1, 1)


def mix(a: Colour, b: Colour, t: Tensor | float) -> Tensor:
    """a towards b by t (number or [H, W]) -> [3, 1, 1] or [3, H, W]."""
    return rgb(a) + (rgb(b) - rgb(a)) * t


def cut(a: Tensor, b: Tensor) -> Tensor:
    """Shape a without shape b."""
    return torch.maximum(a, -b)


@contextmanager
def one_thread() -> Iterator[None]:
    """Painting is thousands of small operations: threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Canvas:
    """A transparent picture, `width` x `height` pixels; y grows downwards, pixel centres lie at .5."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.x = (torch.arange(width) + 0.5).view(1, width)
        self.y = (torch.arange(height) + 0.5).view(height, 1)
        self.colour = torch.zeros(3, height, width)
        self.alpha = torch.zeros(height, width)

    def rgba(self) -> Tensor:
        """Premultiplied, 0..255, float32 [4, H, W]. Colour above alpha means added light."""
        return torch.cat([self.colour, self.alpha[None] * 255.0]).clamp(0.0, 255.0)

    # -- painting ----------------------------------------------------------------------------------

    def fill(self, d: Tensor, colour: Colour, alpha: float | Tensor = 1.0, soft: float = 1.0) -> None:
        """Cover distance d < 0 with a colour; the edge is `soft` pixels wide and eased when wide."""
        cover = (0.5 - d / soft).clamp(0.0, 1.0)
        if soft > 2.0:
            cover = cover * cover * (3.0 - 2.0 * cover)
        cover = cover * alpha
        self.colour = self.colour * (1.0 - cover) + rgb(colour) * cover
        self.alpha = self.alpha * (1.0 - cover) + cover

    def glow(self, d: Tensor, colour: Colour, radius: float, strength: float = 1.0) -> None:
        """Add light that falls off within about 2 x radius outside d < 0 and hides nothing."""
        light = torch.exp(-((d.clamp(min=0.0) / radius) ** 2)) * strength
        self.colour = self.colour + rgb(colour) * light

    def shade(self, d: Tensor, colour: Colour, alpha: float | Tensor = 1.0, soft: float = 1.0) -> None:
        """Like fill, but only on what is painted already: light and shadow that keep the silhouette."""
        cover = (0.5 - d / soft).clamp(0.0, 1.0) * alpha
        self.colour = self.colour * (1.0 - cover) + rgb(colour) * cover * self.alpha

    def gradient_y(self, top: Colour, bottom: Colour, y0: float = 0.0, y1: float | None = None) -> Tensor:
        """Colour [3, H, W] from `top` at y0 to `bottom` at y1."""
        t = ((self.y - y0) / ((self.height if y1 is None else y1) - y0)).clamp(0.0, 1.0)
        return mix(top, bottom, t.expand(self.height, self.width))

    # -- distances [H, W] --------------------------------------------------------------------------

    def circle(self, cx: float, cy: float, r: float) -> Tensor:
        return torch.sqrt((self.x - cx) ** 2 + (self.y - cy) ** 2) - r

    def ellipse(self, cx: float, cy: float, rx: float, ry: float) -> Tensor:
        """First-order distance: exact at the edge, which is where it matters."""
        px, py = (self.x - cx) / rx, (self.y - cy) / ry
        k0 = torch.sqrt(px * px + py * py)
        k1 = torch.sqrt((px / rx) ** 2 + (py / ry) ** 2).clamp(min=1e-6)
        return k0 * (k0 - 1.0) / k1

    def box(self, x0: float, y0: float, x1: float, y1: float, r: float = 0.0) -> Tensor:
        """Rectangle with corner radius r."""
        qx = (self.x - (x0 + x1) / 2).abs() - (x1 - x0) / 2 + r
        qy = (self.y - (y0 + y1) / 2).abs() - (y1 - y0) / 2 + r
        outside = torch.sqrt(qx.clamp(min=0.0) ** 2 + qy.clamp(min=0.0) ** 2)
        return outside + torch.maximum(qx, qy).clamp(max=0.0) - r

    def line(self, x0: float, y0: float, x1: float, y1: float, r: float) -> Tensor:
        """A stroke with round ends and radius r."""
        dx, dy = x1 - x0, y1 - y0
        t = (((self.x - x0) * dx + (self.y - y0) * dy) / (dx * dx + dy * dy + 1e-9)).clamp(0.0, 1.0)
        return torch.sqrt((self.x - x0 - t * dx) ** 2 + (self.y - y0 - t * dy) ** 2) - r

    def half(self, x0: float, y0: float, degrees: float) -> Tensor:
        """The half plane behind a line through (x0, y0); outwards is `degrees` (0 right, 90 down)."""
        a = math.radians(degrees)
        return (self.x - x0) * math.cos(a) + (self.y - y0) * math.sin(a)

    def polygon(self, points: Sequence[tuple[float, float]], r: float = 0.0) -> Tensor:
        """Any simple polygon, grown and rounded by r (after Inigo Quilez, 'polygon - exact')."""
        px, py = self.x.expand(self.height, -1), self.y.expand(-1, self.width)
        square = torch.full((self.height, self.width), 1e12)
        inside = torch.zeros((self.height, self.width), dtype=torch.bool)
        for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]]):
            dx, dy = bx - ax, by - ay
            t = (((px - ax) * dx + (py - ay) * dy) / (dx * dx + dy * dy + 1e-12)).clamp(0.0, 1.0)
            square = torch.minimum(square, (px - ax - t * dx) ** 2 + (py - ay - t * dy) ** 2)
            if ay != by:
                crosses = (py < max(ay, by)) & (py >= min(ay, by))
                inside ^= crosses & (px < ax + (py - ay) * (dx / dy))
        distance = square.sqrt()
        return torch.where(inside, -distance, distance) - r
