"""Levels: which sections follow one another, at which heights, as batched integer tensors.

A level is a pure function of (world seed, level number): nothing is drawn in order, so thousands of
worlds change level in the same few kernels.
"""

from dataclasses import dataclass, fields
from functools import cache

import torch
from torch import Tensor

from games.noise import hash_bits
from games.platformer import sections as sec
from games.platformer.tiles import tile_art
from games.platformer.units import (
    COIN,
    COLUMNS,
    ENEMY_W,
    FLAG_COLUMN,
    MAX_SLOTS,
    MIN_SLOTS,
    ROWS,
    SLOT,
    SUB,
    TILE,
)  # fmt: skip
from games.select import either


@dataclass(frozen=True)
class Library:
    """The sections as int64 tables [S, ...]; absent things have kind or size 0 (enemies: kind 0 none,
    1 walker, 2 spiked)."""

    tiles: Tensor  # [S, TABLE_ROWS, SLOT]
    enemy: Tensor  # [S, E, 5] left px, right px, feet px, kind, speed
    coin: Tensor  # [S, C, 3] left px, bottom px, present
    platform: Tensor  # [S, P, 6] left px, top px, dx px, dy px, speed, present


@dataclass
class Level:
    """One level per world, int64. N = slots x entities per slot; pixels, heights upwards."""

    length: Tensor  # [B] tiles
    look: Tensor  # [B] 0..2
    base: Tensor  # [B, MAX_SLOTS] ground height of each section in tiles
    tiles: Tensor  # [B, ROWS * COLUMNS] row 0 is the floor
    art: Tensor  # [B, ROWS * COLUMNS] how each tile is drawn, see tiles.py
    surface: (
        Tensor  # [B, COLUMNS] height of the ground, over pits of the highest ledge, px; -1 without either
    )
    enemy: Tensor  # [B, N, 5] as in Library
    coin: Tensor  # [B, N, 3]
    platform: Tensor  # [B, N, 6]

    def replaced(self, where: Tensor, other: "Level") -> "Level":
        """`other` where `where` (bool [B]) is True, this elsewhere."""
        mixed = []
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            mixed.append(either(where.view(-1, *[1] * (mine.dim() - 1)), theirs, mine))
        return Level(*mixed)


def _tile_table(section: sec.Section) -> list[list[int]]:
    """Rows from BELOW tiles under the base height upwards."""
    table = [[sec.EMPTY] * SLOT for _ in range(sec.TABLE_ROWS)]
    for column, top in enumerate(section.tops):
        if top != sec.PIT:
            for row in range(sec.BELOW + top):
                table[row][column] = sec.SOLID
    for column, row in section.blocks:
        table[sec.BELOW + row][column] = sec.SOLID
    for column, row in section.ledges:
        table[sec.BELOW + row][column] = sec.LEDGE
    return table


def _padded(rows: list[list[int]], count: int) -> list[list[int]]:
    assert len(rows) <= count, "a section holds too many things of one kind"
    width = {sec.MAX_ENEMIES: 5, sec.MAX_COINS: 3, sec.MAX_PLATFORMS: 6}[count]
    return rows + [[0] * width] * (count - len(rows))


@cache
def library(device: str) -> Library:
    """The section tables on `device`, built once per process."""
    tiles, enemies, coins, platforms = [], [], [], []
    for s in sec.library():
        tiles.append(_tile_table(s))
        inset = (TILE - ENEMY_W) // 2
        e = [[int(x.left * TILE) + inset, int(x.right * TILE) + inset, x.row * TILE, 1 + x.spiked, x.speed]
             for x in s.enemies]  # fmt: skip
        c = [[int(x * TILE) - COIN // 2, int(y * TILE) - COIN // 2, 1] for x, y in s.coins]
        p = [[int(x.left * TILE), int(x.top * TILE), int(x.dx * TILE), int(x.dy * TILE), x.speed, 1]
             for x in s.platforms]  # fmt: skip
        enemies.append(_padded(e, sec.MAX_ENEMIES))
        coins.append(_padded(c, sec.MAX_COINS))
        platforms.append(_padded(p, sec.MAX_PLATFORMS))
    return Library(*(torch.tensor(t, device=device) for t in (tiles, enemies, coins, platforms)))


def _draw(key: Tensor, counter: int) -> Tensor:
    """hash_bits of a constant counter that is filled in on the device: no copy that a GPU would wait for."""
    return hash_bits(key, torch.full_like(key, counter))


def _plan(seeds: Tensor, number: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number of slots [B], section ids [B, MAX_SLOTS] and base heights [B, MAX_SLOTS] of each level."""
    device = seeds.device
    key = _draw(hash_bits(seeds, number), 11)
    slots = MIN_SLOTS + _draw(key, 1) % (MAX_SLOTS - MIN_SLOTS + 1)
    slot = torch.arange(MAX_SLOTS, device=device)
    # Kinds by a random order without repetition; the kind number makes ties impossible.
    kinds = len(sec.KINDS)
    rank = torch.arange(kinds, device=device)
    order = hash_bits(_draw(key, 2)[:, None], rank) * 32 + rank
    kind = order.argsort(1)[:, :MAX_SLOTS]
    ids = kind * sec.VARIANTS + hash_bits(_draw(key, 3)[:, None], slot) % sec.VARIANTS
    ids[:, 0] = sec.START
    last = slots[:, None] - 1
    ids = either(slot >= last, sec.GOAL, ids)
    base = 2 + hash_bits(_draw(key, 4)[:, None], slot) % 3
    base = either(slot > last, base.gather(1, last), base)
    return slots, ids, base


def _entities(table: Tensor, ids: Tensor, base: Tensor, x_fields: list[int], y_field: int) -> Tensor:
    """Rows of `table` [S, K, F] for all slots, moved to world pixels: [B, slots * K, F]."""
    rows = table[ids].clone()
    for f in x_fields:
        rows[..., f] += torch.arange(MAX_SLOTS, device=ids.device)[:, None] * (SLOT * TILE)
    rows[..., y_field] += base[..., None] * TILE
    return rows.flatten(1, 2)


def _surface(tiles: Tensor) -> Tensor:
    """Level.surface of tiles [B, ROWS, COLUMNS]."""
    ground = (tiles == sec.SOLID).long().cumprod(1).sum(1)
    height = torch.arange(1, ROWS + 1, device=tiles.device)[:, None]
    ledge = ((tiles == sec.LEDGE) * height).amax(1)
    top = either(ground > 0, ground, ledge)
    return either(top > 0, top * TILE, -1)


def make_level(seeds: Tensor, number: Tensor) -> Level:
    """The levels `number` (int64 [B]) of the worlds `seeds` (int64 [B])."""
    lib = library(str(seeds.device))
    slots, ids, base = _plan(seeds, number)
    row = torch.arange(ROWS, device=seeds.device)[:, None]
    column = torch.arange(COLUMNS, device=seeds.device)[None, :]
    slot = torch.arange(COLUMNS, device=seeds.device) // SLOT
    tiles = lib.tiles[ids[:, slot][:, None], row - base[:, slot][:, None] + sec.BELOW, column % SLOT]
    return Level(
        length=slots * SLOT,
        look=_draw(hash_bits(seeds, number), 12) % 3,
        base=base,
        tiles=tiles.flatten(1),
        art=tile_art(tiles, hash_bits(_draw(hash_bits(seeds, number), 13)[:, None], column)).flatten(1),
        surface=_surface(tiles),
        enemy=_entities(lib.enemy, ids, base, [0, 1], 2),
        coin=_entities(lib.coin, ids, base, [0], 1),
        platform=_entities(lib.platform, ids, base, [0], 1),
    )


def enemies_at(level: Level, time: Tensor) -> tuple[Tensor, Tensor]:
    """Left edges in px [B, N] and facings (+1 right, -1 left) of the enemies at frame `time` [B].

    Patrols are a pure function of time, so nothing has to be remembered of them but when they died.
    """
    left, right, speed = level.enemy[..., 0], level.enemy[..., 1], level.enemy[..., 4]
    span = ((right - left) * SUB).clamp(min=1)
    way = (time[:, None] * speed + left * 977) % (2 * span)
    ahead = way < span
    return left + either(ahead, way, 2 * span - way) // SUB, either(ahead, 1, -1)


def platforms_at(level: Level, time: Tensor) -> tuple[Tensor, Tensor]:
    """Left edges and tops in px [B, N] of the moving platforms at frame `time` [B]; they rest at the ends."""
    p = level.platform
    span = (p[..., 2] + p[..., 3]).clamp(min=1) * SUB
    rest = 20 * p[..., 4]
    period = 2 * (span + 2 * rest)
    way = (time[:, None] * p[..., 4] + p[..., 0] * 977) % period.clamp(min=1)
    way = either(way < period // 2, way, period - way) - rest
    way = torch.minimum(way.clamp(min=0), span) // SUB
    left = p[..., 0] + either(p[..., 2] > 0, way, 0)
    return left, p[..., 1] + either(p[..., 3] > 0, way, 0)


def flag_left(level: Level) -> Tensor:
    """Left edge in px [B] of the goal flag's pole."""
    return (level.length - SLOT + FLAG_COLUMN) * TILE
