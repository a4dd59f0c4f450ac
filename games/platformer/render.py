"""A world's picture: backdrop (sky, three parallax layers, tiles) and then sprites over it.

Everything lies on whole pixels at scale 1. On the CPU each backdrop is put together from slices of cached
strips; on a GPU one kernel does the same per pixel (backdrop_gpu.py).
"""

from functools import cache

import torch
from torch import Tensor

from games.platformer.cast import placements
from games.platformer.figures import figures
from games.platformer.ground import ground
from games.platformer.level import Level
from games.platformer.palette import PALETTES
from games.platformer.scenery import LAYERS, scenery
from games.platformer.state import State
from games.platformer.units import (
    COLUMNS,
    PARALLAX,
    PERIOD,
    PLATFORM_H,
    PLATFORM_W,
    ROWS,
    SUB,
    TILE,
    VIEW_H,
    VIEW_W,
)
from games.sprites import Atlas, Placements, build_atlas, composite


@cache
def atlas(device: str) -> Atlas:
    """The sprites of all looks: number look * (sprites per look) + name."""
    size = (PLATFORM_W, PLATFORM_H)
    everything = {f"{i}/{n}": c for i, p in enumerate(PALETTES) for n, c in figures(p, size).items()}
    return build_atlas(everything).to(device)


@cache
def _strips(look: int) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """Sky [3, 480, 720], layers made longer by one picture so that a view is one slice, and for each layer
    the first row that shows anything and the first row from which it hides all behind it."""
    sky, layers = scenery(look)
    alpha = layers[:, 3]
    bounds = []
    for a in alpha:
        shows = (a.amax(1) > 0).nonzero()
        hides = (a.amin(1) < 255).nonzero()
        bounds.append((int(shows[0]), int(hides[-1]) + 1))
    long = torch.cat([layers, layers[..., :VIEW_W]], -1)
    long[:, 3] = 1 - long[:, 3] / 255
    return sky, long, bounds


@cache
def _tiles(look: int) -> tuple[Tensor, list[bool]]:
    """Tile pictures [ARTS, 4, 48, 48] with (1 - alpha) in the last plane; which of them hide all behind."""
    pictures = ground(look).clone()
    solid = (pictures[:, 3] == 255).flatten(1).all(1).tolist()
    pictures[:, 3] = 1 - pictures[:, 3] / 255
    return pictures, solid


def backdrop_cpu(level: Level, state: State) -> Tensor:
    """float32 [B, 480, 720, 3] in whole numbers (a view of planar memory)."""
    out = torch.empty(len(state.x), 3, VIEW_H, VIEW_W)
    rows = zip(level.look.tolist(), state.camera_x.tolist(), (state.camera_y // SUB).tolist(), level.art)
    for picture, (look, x, y, art) in zip(out, rows):
        _draw_layers(picture, look, x, y)
        _draw_tiles(picture, look, x, y, art)
    return out.add_(0.5).floor_().permute(0, 2, 3, 1)


def _draw_layers(picture: Tensor, look: int, camera_x: int, camera_y: int) -> None:
    """Sky and hills into picture [3, 480, 720]; rows that a nearer layer hides are left out."""
    sky, layers, bounds = _strips(look)
    downs = [camera_y * percent // 100 for percent in PARALLAX]
    ends = [min([VIEW_H] + [bounds[j][1] + downs[j] for j in range(i, LAYERS)]) for i in range(LAYERS)]
    picture[:, : ends[0]] = sky[:, : ends[0]]
    for i, (strip, down) in enumerate(zip(layers, downs)):
        x = camera_x * PARALLAX[i] // 100 % PERIOD
        shows, hides = bounds[i]
        # What shows in the topmost row (a ceiling) goes on above it.
        top = 0 if shows == 0 else shows + down
        if shows == 0 and down:
            _blend(picture[:, :down], strip[:, :1, x : x + VIEW_W])
        top, whole = (down if shows == 0 else top), min(hides + down, VIEW_H)
        low = min(ends[i + 1] if i + 1 < LAYERS else VIEW_H, whole)
        if top < low:
            _blend(picture[:, top:low], strip[:, top - down : low - down, x : x + VIEW_W])
        last = ends[i + 1] if i + 1 < LAYERS else VIEW_H
        if whole < last:
            picture[:, whole:last] = strip[:3, whole - down : last - down, x : x + VIEW_W]


def _blend(window: Tensor, over: Tensor) -> None:
    """over: premultiplied, with 1 - alpha in its last plane."""
    window.mul_(over[3]).add_(over[:3])


def _draw_tiles(picture: Tensor, look: int, camera_x: int, camera_y: int, art: Tensor) -> None:
    """The tiles in view; art [ROWS * COLUMNS]."""
    pictures, solid = _tiles(look)
    first_row, first_column = camera_y // TILE, camera_x // TILE
    view = art.view(ROWS, COLUMNS)[first_row : first_row + VIEW_H // TILE + 1,
                                   first_column : first_column + VIEW_W // TILE + 1].tolist()  # fmt: skip
    for r, line in enumerate(view):
        y = VIEW_H - (first_row + r + 1) * TILE + camera_y
        y0, y1 = max(y, 0), min(y + TILE, VIEW_H)
        for c, number in enumerate(line):
            x = (first_column + c) * TILE - camera_x
            x0, x1 = max(x, 0), min(x + TILE, VIEW_W)
            if number == 0 or y0 >= y1 or x0 >= x1:
                continue
            tile = pictures[number, :, y0 - y : y1 - y, x0 - x : x1 - x]
            if solid[number]:
                picture[:, y0:y1, x0:x1] = tile[:3]
            else:
                _blend(picture[:, y0:y1, x0:x1], tile)


class Renderer:
    """Holds what was painted for one device."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.atlas = atlas(device)
        self._names = len(self.atlas.names) // len(PALETTES)

    def render(self, level: Level, state: State) -> Tensor:
        """uint8 [B, 480, 720, 3]."""
        return composite(self._backdrop(level, state), None, self._cast(level, state), self.atlas)[0]

    def render_classes(self, level: Level, state: State) -> tuple[Tensor, Tensor]:
        """The picture and uint8 [B, 480, 720]: 1 + index into spec.masks, 0 elsewhere."""
        nothing = torch.zeros(len(state.x), VIEW_H, VIEW_W, dtype=torch.uint8, device=state.x.device)
        picture, classes = composite(
            self._backdrop(level, state), nothing, self._cast(level, state), self.atlas
        )
        assert classes is not None
        return picture, classes

    def _cast(self, level: Level, state: State) -> Placements:
        return placements(level, state, self.atlas, self._names)

    def _backdrop(self, level: Level, state: State) -> Tensor:
        if state.x.device.type == "cuda":
            from games.platformer.backdrop_gpu import backdrop_gpu

            return backdrop_gpu(level, state)
        return backdrop_cpu(level, state)
