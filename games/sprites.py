"""Sprites for both games: an atlas painted once, and a compositor that lays placements over pictures.

Sits between a game's background shader and its picture: background [B, H, W, 3] + Placements + Atlas ->
uint8 picture and class map. The torch path here is the truth and the way on the CPU, where every sprite
touches only its own window; on a GPU `games.sprites_gpu` does the same in one Triton kernel.

    atlas = build_atlas({"coin": coin_canvas, ...})
    picture, classes = composite(background, classes, placements, atlas.to(device))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from games.painter import Canvas

LEVELS = 12
"""Mip levels per sprite, each 1/sqrt(2) of the one before: the nearest is never off by more than 19 %,
so no blend of two is needed and nothing pops."""


@dataclass(frozen=True)
class Atlas:
    """All sprites and mip levels.

    packed  int32 [P]: premultiplied RGBA texels, 8 bits each, red lowest (what the kernel reads)
    planes  float32 [4, P]: the same values 0..255 (what the CPU reads)
    table   int64 [S, LEVELS, 3]: offset into P, width, height
    names   sprite name -> id in 0..S-1
    """

    packed: Tensor
    planes: Tensor
    table: Tensor
    names: dict[str, int]

    def to(self, device: str | torch.device) -> "Atlas":
        """Tensors on `device`; keep the result, it is the per-device cache."""
        return replace(
            self, packed=self.packed.to(device), planes=self.planes.to(device), table=self.table.to(device)
        )

    def size(self, name: str) -> tuple[int, int]:
        """Width and height in pixels as painted."""
        _, w, h = self.table[self.names[name], 0].tolist()
        return w, h


def build_atlas(sprites: Mapping[str, Canvas | Tensor]) -> Atlas:
    """Pack canvases (or premultiplied float RGBA 0..255 [4, H, W]) in order of the mapping; ids follow it."""
    chunks: list[Tensor] = []
    table = torch.zeros(len(sprites), LEVELS, 3, dtype=torch.int64)
    offset = 0
    for i, sprite in enumerate(sprites.values()):
        full = sprite.rgba() if isinstance(sprite, Canvas) else sprite
        h0, w0 = full.shape[1:]
        pyramid: list[Tensor] = []
        for level in range(LEVELS):
            w, h = (max(1, round(side * 2.0 ** (-level / 2))) for side in (w0, h0))
            # From the level of twice the size where there is one: as good, and a tenth of the work.
            source = pyramid[max(0, level - 2)] if level else full
            small = (
                full
                if level == 0
                else F.interpolate(
                    source[None], (h, w), mode="bilinear", antialias=True, align_corners=False
                )[0]
            )
            pyramid.append(small)
            chunks.append(small.round().clamp(0, 255).reshape(4, -1))
            table[i, level] = torch.tensor([offset, w, h])
            offset += w * h
    planes = torch.cat(chunks, dim=1).contiguous()
    packed = torch.zeros(planes.shape[1], dtype=torch.int32)
    for shift, plane in zip((0, 8, 16, 24), planes):
        packed |= plane.to(torch.int32) << shift  # alpha reaches the sign bit; the kernel masks it off again
    return Atlas(packed, planes, table, {name: i for i, name in enumerate(sprites)})


@dataclass(frozen=True)
class Placements:
    """Where sprites go: tensors [B, N], painted in order of N, back to front.

    sprite   int64, id in the atlas
    x, y     float32, left and top of the box on the screen, pixels
    w, h     float32, size of the box, pixels; w or h <= 0 means absent
    flip     bool, mirrored left to right
    opacity  float32, 0..1
    haze     float32, 0..1, mix of the sprite's colours towards haze_rgb
    haze_rgb float32 [B, N, 3], 0..255
    klass    int64, written to the class map where the sprite covers more than half; -1 writes nothing
    """

    sprite: Tensor
    x: Tensor
    y: Tensor
    w: Tensor
    h: Tensor
    flip: Tensor
    opacity: Tensor
    haze: Tensor
    haze_rgb: Tensor
    klass: Tensor


def place(
    sprite: Tensor,
    x: Tensor,
    y: Tensor,
    w: Tensor,
    h: Tensor,
    *,
    klass: Tensor | int = -1,
    flip: Tensor | None = None,
    opacity: Tensor | float = 1.0,
    haze: Tensor | float = 0.0,
    haze_rgb: Tensor | None = None,
) -> Placements:
    """Placements with defaults; every argument broadcasts to x's shape [B, N]."""

    def full(value: Tensor | float | int, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(value, device=x.device).to(dtype).expand(x.shape)

    f32, i64 = torch.float32, torch.int64
    colour = torch.zeros(3, device=x.device) if haze_rgb is None else haze_rgb.to(f32)
    return Placements(
        full(sprite, i64),
        x.to(f32),
        full(y, f32),
        full(w, f32),
        full(h, f32),
        full(False if flip is None else flip, torch.bool),
        full(opacity, f32),
        full(haze, f32),
        colour.expand(*x.shape, 3),
        full(klass, i64),
    )


def join(parts: Sequence[Placements]) -> Placements:
    """One list of placements after another, along N."""
    return Placements(*(torch.cat([getattr(p, f.name) for p in parts], dim=1) for f in fields(Placements)))


def reorder(placements: Placements, order: Tensor) -> Placements:
    """Placements taken in `order`, int64 [B, M] of indices into N (sorting by depth, dropping some)."""
    picked = {}
    for f in fields(Placements):
        value = getattr(placements, f.name)
        index = order[..., None].expand(*order.shape, 3) if value.ndim == 3 else order
        picked[f.name] = value.gather(1, index)
    return Placements(**picked)


@dataclass(frozen=True)
class Resolved:
    """Placements with mip level chosen and box in whole pixels.

    reals  float32 [B, N, 9]: x, y, texels per pixel across, down, opacity, haze, haze red, green, blue
    ints   int32 [B, N, 9]: left, top, right, bottom (pixels, exclusive; empty when absent), offset, width,
           height (texels), flip, class
    """

    reals: Tensor
    ints: Tensor


def resolve(p: Placements, table: Tensor, width: int, height: int) -> Resolved:
    """Choose each sprite's nearest mip level and clip its box to the picture of width x height."""
    there = (p.w > 0) & (p.h > 0) & (p.opacity > 0)
    w, h = torch.where(there, p.w, 1.0), torch.where(there, p.h, 1.0)
    base = table[p.sprite, 0].to(torch.float32)
    shrink = torch.maximum(base[..., 1] / w, base[..., 2] / h)
    level = (2.0 * torch.log2(shrink)).round().clamp(0, LEVELS - 1).to(torch.int64)
    texture = table[p.sprite, level]
    across, down = texture[..., 1] / w, texture[..., 2] / h
    # Bilinear taps reach half a texel beyond the box, where the texture fades to nothing.
    left, right = p.x - 0.5 / across, p.x + w + 0.5 / across
    top, bottom = p.y - 0.5 / down, p.y + h + 0.5 / down
    box = [
        (left - 0.5).ceil().clamp(0, width),
        (top - 0.5).ceil().clamp(0, height),
        (right - 0.5).ceil().clamp(0, width),
        (bottom - 0.5).ceil().clamp(0, height),
    ]
    box[2] = torch.where(there, box[2], box[0])
    reals = torch.stack([p.x, p.y, across, down, p.opacity, p.haze], -1)
    ints = [*(b.to(torch.int32) for b in box), *texture.to(torch.int32).unbind(-1), p.flip.to(torch.int32)]
    ints.append(p.klass.to(torch.int32))
    return Resolved(torch.cat([reals, p.haze_rgb], -1).contiguous(), torch.stack(ints, -1).contiguous())


def composite(
    picture: Tensor, classes: Tensor | None, placements: Placements, atlas: Atlas
) -> tuple[Tensor, Tensor | None]:
    """Lay the placements over the pictures.

    picture: uint8 or float32 0..255 [B, H, W, 3]; classes: uint8 [B, H, W] or None; neither is changed.
    Returns a uint8 picture [B, H, W, 3] and the new class map. A sprite drawn at its painted size at
    whole pixels is copied exactly; elsewhere it is sampled bilinearly and fades over one texel at its
    border, so tiles that must join without a seam belong on whole pixels.
    """
    height, width = picture.shape[1:3]
    resolved = resolve(placements, atlas.table, width, height)
    if picture.device.type == "cuda":
        from games.sprites_gpu import composite_triton

        return composite_triton(picture, classes, resolved, atlas)
    return composite_torch(picture, classes, resolved, atlas)


def composite_torch(
    picture: Tensor, classes: Tensor | None, resolved: Resolved, atlas: Atlas
) -> tuple[Tensor, Tensor | None]:
    """The readable twin of the Triton kernel; see `composite`."""
    planar = picture.permute(0, 3, 1, 2).to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    classes = None if classes is None else classes.clone()
    reals, ints = resolved.reals.tolist(), resolved.ints.tolist()
    for b in range(picture.shape[0]):
        for real, whole in zip(reals[b], ints[b]):
            if whole[2] > whole[0] and whole[3] > whole[1]:
                _lay(planar[b], None if classes is None else classes[b], real, whole, atlas.planes)
    # + 0.5 and truncate: what the kernel does as well (values lie within 0..255).
    whole_planar = planar.add_(0.5).clamp_(0.0, 255.0).to(torch.uint8)
    return whole_planar.permute(0, 2, 3, 1).contiguous(), classes


def _lay(planar: Tensor, classes: Tensor | None, real: list[float], whole: list[int], planes: Tensor) -> None:
    """Blend one sprite into its window of planar [3, H, W] and classes [H, W], in place."""
    x, y, across, down, opacity, haze, *haze_rgb = real
    left, top, right, bottom, offset, w, h, flip, klass = whole
    texture = planes[:, offset : offset + w * h].view(4, h, w)
    texture = _resample(texture, 1, top, bottom, y, down, False)
    texture = _resample(texture, 2, left, right, x, across, bool(flip))
    alpha = texture[3] * (opacity / 255.0)
    colour = texture[:3]
    if haze > 0.0:
        colour = colour * (1.0 - haze) + texture[3] * (torch.tensor(haze_rgb).view(3, 1, 1) * (haze / 255.0))
    window = planar[:, top:bottom, left:right]
    window.mul_(1.0 - alpha).add_(colour, alpha=opacity)
    if classes is not None and klass >= 0:
        classes[top:bottom, left:right].masked_fill_(alpha > 0.5, klass)


def _resample(
    texture: Tensor, dim: int, start: int, stop: int, origin: float, scale: float, flip: bool
) -> Tensor:
    """Bilinear samples of `texture` along `dim` at the pixel centres start..stop; zero beyond it."""
    n = texture.shape[dim]
    # Whole numbers first, so that a copy at scale 1 stays exact.
    u = (torch.arange(start, stop, dtype=torch.float32) + 0.5 - origin) * scale - 0.5
    if flip:
        u = (n - 1) - u
    low = u.floor()
    part = u - low
    i = low.to(torch.int64)
    shape = [1, 1, 1]
    shape[dim] = -1
    w0 = ((1.0 - part) * ((i >= 0) & (i < n))).view(shape)
    w1 = (part * ((i >= -1) & (i < n - 1))).view(shape)
    a = texture.index_select(dim, i.clamp(0, n - 1))
    b = texture.index_select(dim, (i + 1).clamp(0, n - 1))
    return a.mul_(w0).addcmul_(b, w1)
