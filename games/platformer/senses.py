"""What a player sees ahead, and the world's telemetry in the order of spec.telemetry."""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from games.platformer.level import Level, enemies_at, platforms_at
from games.platformer.spec import LAYERS_TOLD, SPEC
from games.platformer.state import DEAD, State
from games.platformer.units import (
    COIN_TURN_FRAMES,
    COLUMNS,
    ENEMY_W,
    GAIT,
    HERO_W,
    PARALLAX,
    PERIOD,
    PLATFORM_W,
    SUB,
    TILE,
    VIEW_W,
)  # fmt: skip
from games.select import either

GRAIN = 6
"""Pixels between two looks at the ground ahead; a divisor of TILE, so edges of tiles come out exactly."""
REACH = 10 * TILE
CLIMB = 170
"""Pixels: a place higher than this above the feet cannot be jumped onto."""


@dataclass(frozen=True)
class Ahead:
    """Distances in pixels from the hero's front edge, int64 [B]; REACH when there is nothing."""

    gap: Tensor
    gap_width: Tensor
    wall: Tensor
    wall_height: Tensor
    enemy: Tensor
    enemy_height: Tensor
    enemy_spiked: Tensor
    below: Tensor  # height of the ground under the front edge, px; -1 over a pit


def _first(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the first True along dim 1 (its length if none), and whether there is one."""
    there = mask.any(1)
    return either(there, mask.long().argmax(1), mask.shape[1]), there


def look_ahead(level: Level, state: State) -> Ahead:
    """Looks in the facing direction; moving platforms count as ground where they are now."""
    right = (state.facing > 0)[:, None]
    x, feet = state.x[:, None] // SUB, state.y[:, None] // SUB
    front = either(right, x + HERO_W, x)
    index = torch.arange(REACH // GRAIN + 1, device=x.device)[None]
    edge = either(right, front // GRAIN * GRAIN + index * GRAIN, -(-front // GRAIN) * GRAIN - index * GRAIN)
    spot = edge + either(right, GRAIN // 2, -GRAIN // 2)
    surface = level.surface.gather(1, (spot // TILE).clamp(0, COLUMNS - 1))
    left, top = platforms_at(level, state.time)
    over = (spot[:, None] >= left[..., None]) & (spot[:, None] < left[..., None] + PLATFORM_W)
    over &= (level.platform[..., 5] == 1)[..., None]
    surface = torch.maximum(surface, either(over, top[..., None], -1).amax(1))
    stand = (surface >= 0) & (surface <= feet + CLIMB)

    distance = either(right, edge - front, front - edge).clamp(min=0)
    void = surface < 0
    first, gap = _first(void)
    after, _ = _first((index > first[:, None]) & stand)
    higher, wall = _first((surface > feet + GRAIN) & ~void)
    far = torch.cat([distance, torch.full_like(front, REACH)], 1).clamp(max=REACH)
    at = lambda i: far.gather(1, i[:, None])[:, 0]  # noqa: E731
    rise = surface.gather(1, higher.clamp(max=surface.shape[1] - 1)[:, None])[:, 0] - feet[:, 0]
    enemy, enemy_height, spiked = _enemy_ahead(level, state, right, x, feet)
    return Ahead(
        gap=at(first),
        gap_width=either(gap, at(after) - at(first), 0),
        wall=at(higher),
        wall_height=either(wall, rise, 0),
        enemy=enemy,
        enemy_height=enemy_height,
        enemy_spiked=spiked,
        below=surface[:, 0],
    )


def _enemy_ahead(
    level: Level, state: State, right: Tensor, x: Tensor, feet: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance to, height of and spikes of the nearest living enemy ahead within 5 tiles of height."""
    left, _ = enemies_at(level, state.time)
    bottom, kind = level.enemy[..., 2], level.enemy[..., 3]
    distance = either(right, left - x - HERO_W, x - left - ENEMY_W)
    seen = (kind > 0) & (state.enemy == 0) & (distance > -ENEMY_W) & ((bottom - feet).abs() <= 5 * TILE)
    distance = either(seen, distance.clamp(min=0), REACH).clamp(max=REACH)
    nearest, index = distance.min(1)
    there = nearest < REACH
    height = (bottom - feet).gather(1, index[:, None])[:, 0]
    spiked = kind.gather(1, index[:, None])[:, 0] == 2
    return nearest, either(there, height, 0), there & spiked


def telemetry(level: Level, state: State) -> Tensor:
    """float32 [B, T]."""
    ahead = look_ahead(level, state)
    x = (state.x / SUB / TILE).to(torch.float32)
    speed = 60.0 / SUB / TILE
    columns = [
        x + state.behind,
        state.y / SUB / TILE,
        state.vx * speed,
        state.vy * speed,
        state.grounded,
        state.mode != DEAD,
        x / level.length,
        ahead.gap / TILE,
        ahead.gap_width / TILE,
        ahead.wall / TILE,
        ahead.wall_height / TILE,
        ahead.enemy / TILE,
        ahead.enemy_height / TILE,
        ahead.enemy_spiked,
        state.coins,
        state.lives,
        state.finished,
        *(level.look == look for look in range(len(SPEC.looks))),
        state.facing > 0,
        (state.camera_x + VIEW_W // 2 - state.x // SUB - TILE // 2) / TILE,
        state.camera_y / SUB / TILE,
        *_angles(state),
    ]
    values = torch.stack([c.to(torch.float32) for c in columns], 1)
    low, high = _limits(values.device)
    return torch.minimum(torch.maximum(values, low), high)


def _angles(state: State) -> list[Tensor]:
    """Sine and cosine of each of the spec's ANGLES, [B] each."""
    layers = [state.camera_x * percent // 100 for percent in PARALLAX]
    turns = [(place * times, PERIOD) for place in layers for times in LAYERS_TOLD]
    turns += [(state.camera_x, TILE), (state.x // SUB, GAIT), (state.time, COIN_TURN_FRAMES)]
    device = state.x.device
    return [wave[place % period] for place, period in turns for wave in _waves(period, device)]


@cache
def _waves(period: int, device: torch.device) -> Tensor:
    """Sine and cosine of all places in a period, [2, period]: looked up they are the same on every device."""
    turn = torch.arange(period) * (2 * math.pi / period)
    return torch.stack((turn.sin(), turn.cos())).to(device)


@cache
def _limits(device: torch.device) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of every field; running totals have no limits."""
    wide = [(f.low, f.high) if f.kind in ("value", "flag") else (-1e9, 1e9) for f in SPEC.telemetry]
    low, high = torch.tensor(wide).T
    return low.to(device), high.to(device)
