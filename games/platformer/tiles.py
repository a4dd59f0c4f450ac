"""How each tile is drawn: from the kinds of a tile and its neighbours to a number of its picture.

Numbers: 0 nothing; SOLID_0 + exposure * 8 + place (exposure: bits top 1, left 2, right 4, bottom 8 where
the neighbour is not solid; place: position inside the 4 x 2 tile ground pattern); LEDGE_0 + ends (bits
left 1, right 2) + 4 * (1 + row) over a pit's lowest rows; PIT_0 + row;
DECO_0 + ornament (standing on the ground, drawn only).
"""

import torch
from torch import Tensor

from games.platformer.sections import LEDGE, SOLID
from games.select import either

PATTERN_W, PATTERN_H = 4, 2
SOLID_0 = 1
LEDGE_0 = SOLID_0 + 16 * PATTERN_W * PATTERN_H
PIT_ROWS = 3
PIT_0 = LEDGE_0 + 4 * (1 + PIT_ROWS)
DECO_0, DECOS = PIT_0 + PIT_ROWS, 6
TALL = 2
"""Of the ornaments, the last TALL are the lower and upper half of one that is two tiles high."""
ARTS = DECO_0 + DECOS


def _shifted(solid: Tensor, rows: int, columns: int) -> Tensor:
    """solid[r + rows, c + columns], with the level's edge repeated."""
    _, height, width = solid.shape
    r = (torch.arange(height, device=solid.device) + rows).clamp(0, height - 1)
    c = (torch.arange(width, device=solid.device) + columns).clamp(0, width - 1)
    return solid[:, r][:, :, c]


def tile_art(kinds: Tensor, dice: Tensor) -> Tensor:
    """kinds int64 [B, ROWS, COLUMNS], dice int64 [B, COLUMNS] -> picture numbers, shaped like kinds."""
    rows, columns = kinds.shape[1:]
    row = torch.arange(rows, device=kinds.device)[:, None]
    column = torch.arange(columns, device=kinds.device)[None, :]
    solid, ledge = kinds == SOLID, kinds == LEDGE
    open_at = {k: (~_shifted(solid, *s)).long() for k, s in
               {"up": (1, 0), "left": (0, -1), "right": (0, 1), "down": (-1, 0)}.items()}  # fmt: skip
    exposure = open_at["up"] + 2 * open_at["left"] + 4 * open_at["right"] + 8 * open_at["down"]
    place = row % PATTERN_H * PATTERN_W + column % PATTERN_W
    art = either(solid, SOLID_0 + exposure * (PATTERN_W * PATTERN_H) + place, 0)
    ends = (~_shifted(ledge, 0, -1)).long() + 2 * (~_shifted(ledge, 0, 1)).long()
    pit = ~solid[:, :1] & (row < PIT_ROWS)
    art = either(ledge, LEDGE_0 + ends + either(pit, 4 * (1 + row), 0), art)
    art = either(pit & (art == 0), PIT_0 + row, art)
    return _ornaments(art, solid, dice)


def _ornaments(art: Tensor, solid: Tensor, dice: Tensor) -> Tensor:
    """Ornaments on about every fourth column of open ground."""
    small = DECOS - TALL
    wish = dice[:, None] % 19
    stands = (art == 0) & _shifted(solid, -1, 0)
    art = either(stands & (wish < small), DECO_0 + wish, art)
    tall = wish == small
    art = either(stands & tall, DECO_0 + small, art)
    upper = (art == 0) & tall & (_shifted(art, -1, 0) == DECO_0 + small)
    return either(upper, DECO_0 + small + 1, art)
