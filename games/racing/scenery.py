"""What stands beside a track, decided once from its seed: posts, trees in groups, arrow boards, gates.

A world holds a fixed number of slots; an unused one has width 0.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from games.noise import uniform
from games.racing import art
from games.racing.track import Track

POSTS, TREES, BOARDS, GATES = 110, 230, 170, 3
_TREE, _GATE = 501, 502
_SHARP = 1.0 / 62.0


@dataclass(frozen=True)
class Scenery:
    """[B, M]: x, y world m of the foot; width, height m (0: absent); sprite int64 id; flip bool."""

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    sprite: Tensor
    flip: Tensor

    def replaced(self, where: Tensor, other: "Scenery") -> "Scenery":
        """A copy with rows `where` (int64 [n]) taken from `other` (n worlds)."""
        return Scenery(
            *(getattr(self, f.name).index_copy(0, where, getattr(other, f.name)) for f in fields(Scenery))
        )


def build_scenery(seeds: Tensor, track: Track, look: Tensor) -> Scenery:
    """int64 seeds [B], looks [B] -> scenery of B tracks."""
    base = (look * art.PER_LOOK)[:, None]
    parts = [
        _posts(track, base),
        _trees(seeds[:, None], track, base),
        _boards(track, base),
        _gates(seeds[:, None], track, base),
    ]
    return Scenery(*(torch.cat([getattr(p, f.name) for p in parts], 1) for f in fields(Scenery)))


def _slots(track: Track, most: int, apart_m: float) -> tuple[Tensor, Tensor]:
    """s [B, most] of slots apart_m or a little more apart, and which of them are used."""
    count = (track.length / apart_m).floor().clamp(max=most)[:, None]
    i = torch.arange(most, device=count.device)[None]
    return i * (track.length[:, None] / count), i < count


def _stand(
    track: Track,
    s: Tensor,
    lateral: Tensor,
    there: Tensor,
    width: Tensor | float,
    height: Tensor | float,
    sprite: Tensor,
    flip: Tensor | None = None,
) -> Scenery:
    x, y = track.point(s, lateral)
    width, height = (
        torch.as_tensor(v, device=s.device, dtype=torch.float32).expand(s.shape) for v in (width, height)
    )
    flip = torch.zeros_like(there) if flip is None else flip
    zero = torch.zeros_like(x)
    return Scenery(
        x,
        y,
        torch.where(there, width, zero),
        torch.where(there, height, zero),
        sprite.expand(s.shape).to(torch.int64),
        flip,
    )


def _posts(track: Track, base: Tensor) -> Scenery:
    s, there = _slots(track, POSTS, 22.0)
    half = track.half_width[:, None]
    s, there = s.repeat(1, 2), there.repeat(1, 2)
    lateral = torch.cat([-half - 1.7 + 0 * s[:, :POSTS], half + 1.7 + 0 * s[:, :POSTS]], 1)
    return _stand(track, s, lateral, there, 0.37, 1.1, base + art.POST)


def _trees(seed: Tensor, track: Track, base: Tensor) -> Scenery:
    """Both sides, beyond where cars get; dense and empty stretches by turns."""
    s, there = _slots(track, TREES, 10.5)
    s, there = s.repeat(1, 2), there.repeat(1, 2)
    i = torch.arange(2 * TREES, device=s.device)
    group = uniform(seed, _TREE, 0, i // 7)
    there = there & (uniform(seed, _TREE, 1, i) < torch.where(group < 0.45, 0.12, 0.8))
    s = s + 7.0 * uniform(seed, _TREE, 2, i)
    out = uniform(seed, _TREE, 3, i)
    half = track.half_width[:, None]
    lateral = (3.05 * half + 2.5 + 30.0 * out * out) * torch.where(i < TREES, -1.0, 1.0)
    x, y = track.point(s, lateral)
    there = there & (track.locate(x, y).lateral.abs() > 3.0 * half)  # not on another part of the road
    kind = torch.where(uniform(seed, _TREE, 4, i // 4) < 0.62, art.TREE_A, art.TREE_B)
    look = base // art.PER_LOOK
    size = 0.8 + 0.5 * uniform(seed, _TREE, 5, i)
    # Height and width in metres of both kinds of the three looks.
    table = torch.tensor(
        [[[9.5, 5.9], [7.5, 6.4]], [[5.6, 3.4], [4.6, 6.7]], [[9.0, 6.75], [7.0, 3.5]]], device=s.device
    )
    row = table.view(-1, 2)[(look * 2 + kind)]
    flip = uniform(seed, _TREE, 6, i) < 0.0
    return _stand(track, s, lateral, there, row[..., 1] * size, row[..., 0] * size, base + kind, flip)


def _boards(track: Track, base: Tensor) -> Scenery:
    """Arrow boards on the outside, from shortly before a sharp bend to its end."""
    s, there = _slots(track, BOARDS, 14.0)
    ahead = torch.stack([track.at(track.curvature, s + d) for d in (0.0, 12.0, 24.0)])
    kappa = ahead.gather(0, ahead.abs().argmax(0, keepdim=True))[0]
    there = there & (kappa.abs() > _SHARP)
    lateral = -torch.sign(kappa) * (track.half_width[:, None] + 4.6)
    return _stand(track, s + 7.0, lateral, there, 2.3, 2.3, base + art.BOARD, kappa < 0)


def gate_places(seed: Tensor, track: Track) -> Tensor:
    """int64 seeds [B, 1] -> s of the gates [B, GATES] m."""
    i = torch.arange(GATES, device=seed.device)[None]
    place = torch.where(i == 0, 0.0, i / GATES + 0.18 * (uniform(seed, _GATE, i) - 0.5))
    return 24.0 + place * track.length[:, None]


def _gates(seed: Tensor, track: Track, base: Tensor) -> Scenery:
    s = gate_places(seed, track)
    width = (2.0 * track.half_width[:, None] + 5.6).expand(s.shape)
    return _stand(
        track, s, torch.zeros_like(s), torch.ones_like(s) > 0, width, width * (224 / 512), base + art.GATE
    )
