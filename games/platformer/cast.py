"""Who stands where on the screen: the sprites of one frame, from a world's state."""

import torch
from torch import Tensor

from games.platformer.figures import ENEMY_CANVAS, FLAG_CANVAS, HERO_CANVAS, MARGIN, POLE_X
from games.platformer.level import Level, enemies_at, flag_left, platforms_at
from games.platformer.spec import SPEC
from games.platformer.state import CHEER, DEAD, State
from games.platformer.units import (
    COIN,
    COIN_POSE_FRAMES,
    COIN_WIDTHS,
    ENEMY_W,
    GAIT_POSE,
    GAIT_POSES,
    HERO_W,
    MAX_SLOTS,
    PLATFORM_H,
    PLATFORM_W,
    POP_FRAMES,
    SLOT,
    SQUASH_FRAMES,
    SUB,
    TILE,
    VIEW_H,
)  # fmt: skip
from games.select import either
from games.sprites import Atlas, Placements, join, place

PLAYER, ENEMY, COINS, PLATFORM = (1 + SPEC.masks.index(m) for m in ("player", "enemy", "coin", "platform"))
SLOTS_IN_VIEW = 3


class Stage:
    """Turns world pixels into screen pixels and names into sprite numbers of each world's look."""

    def __init__(self, level: Level, state: State, atlas: Atlas, per_look: int) -> None:
        self.camera_x = state.camera_x[:, None]
        self.camera_y = state.camera_y[:, None] // SUB
        self.look = level.look[:, None] * per_look
        self.names = atlas.names
        self.slot = (state.camera_x // (SLOT * TILE)).clamp(0, MAX_SLOTS - SLOTS_IN_VIEW)

    def seen(self, values: Tensor) -> Tensor:
        """Of values [B, MAX_SLOTS * K], those in the sections that the picture can show: [B, 3 * K]."""
        per_slot = values.shape[1] // MAX_SLOTS
        index = torch.arange(SLOTS_IN_VIEW * per_slot, device=values.device)
        return values.gather(1, self.slot[:, None] * per_slot + index)

    def sprite(self, name: str, offset: Tensor | int = 0) -> Tensor:
        """Number of sprite `name`, or of the one `offset` after it, [B, 1] or the shape of offset."""
        return self.look + self.names[f"0/{name}"] + offset

    def put(
        self,
        sprite: Tensor,
        left: Tensor,
        bottom: Tensor,
        size: tuple[int, int],
        there: Tensor,
        klass: int,
        flip: Tensor | None = None,
    ) -> Placements:
        """Sprites of one canvas size, their canvas' left and bottom edges at world pixels [B, N]."""
        x = (left - self.camera_x).expand(there.shape)
        y = VIEW_H - (bottom - self.camera_y) - size[1]
        width = either(there, float(size[0]), 0.0)
        height = torch.full((), float(size[1]), device=x.device)
        return place(sprite, x, y, width, height, klass=_filled(klass, x), flip=flip, opacity=height / height)


def _filled(value: int, like: Tensor) -> Tensor:
    """A constant made on the device, so that a GPU waits for no copy."""
    return torch.full((), value, dtype=torch.int64, device=like.device)


def placements(level: Level, state: State, atlas: Atlas, per_look: int) -> Placements:
    """All sprites back to front. per_look: sprites per look in the atlas."""
    stage = Stage(level, state, atlas, per_look)
    parts = [_flag(stage, level, state), _platforms(stage, level, state), *_coins(stage, level, state),
             _enemies(stage, level, state), _hero(stage, state)]  # fmt: skip
    return join(parts)


def _flag(stage: Stage, level: Level, state: State) -> Placements:
    left = flag_left(level)[:, None] - POLE_X
    last = level.length // SLOT - 1
    bottom = level.base.gather(1, last[:, None]) * TILE
    wave = state.time[:, None] // 16 % 2
    return stage.put(stage.sprite("flag_0", wave), left, bottom, FLAG_CANVAS, torch.ones_like(left) > 0, 0)


def _platforms(stage: Stage, level: Level, state: State) -> Placements:
    left, top = (stage.seen(v) for v in platforms_at(level, state.time))
    there = stage.seen(level.platform[..., 5]) == 1
    size = (PLATFORM_W, PLATFORM_H)
    return stage.put(stage.sprite("platform"), left, top - PLATFORM_H, size, there, PLATFORM)


def _coins(stage: Stage, level: Level, state: State) -> list[Placements]:
    left, bottom, present = (stage.seen(level.coin[..., i]) for i in range(3))
    age = stage.seen(state.coin)
    turn = (state.time[:, None] // COIN_POSE_FRAMES + left // 24) % len(COIN_WIDTHS)
    whole = stage.put(
        stage.sprite("coin_0", turn), left - 3, bottom - 3, (42, 42), (present == 1) & (age == 0), COINS
    )
    stage_of_pop = (age * 4 // POP_FRAMES).clamp(0, 3)
    popping = (age > 0) & (age < POP_FRAMES)
    middle = (COIN - 72) // 2
    pop = stage.put(stage.sprite("pop_0", stage_of_pop), left + middle, bottom + middle, (72, 72), popping, 0)
    return [whole, pop]


def _enemies(stage: Stage, level: Level, state: State) -> Placements:
    left, facing = (stage.seen(v) for v in enemies_at(level, state.time))
    bottom, kind = stage.seen(level.enemy[..., 2]), stage.seen(level.enemy[..., 3])
    age = stage.seen(state.enemy)
    step = left // 14 % 2
    sprite = either(kind == 2, stage.sprite("spiked_0", step), stage.sprite("walker_0", step))
    sprite = either(age > 0, stage.sprite("squashed"), sprite)
    there = (kind > 0) & (age < SQUASH_FRAMES)
    inset = (ENEMY_CANVAS[0] - ENEMY_W) // 2
    return stage.put(sprite, left - inset, bottom - MARGIN, ENEMY_CANVAS, there, ENEMY, flip=facing < 0)


def _hero(stage: Stage, state: State) -> Placements:
    """Poses from the state alone: the run follows the way, so feet do not slide."""
    x, feet = state.x // SUB, state.y // SUB
    # The scarf's length on its left makes the canvas wider there: its middle is 4 px right of centre.
    left = x + HERO_W // 2 - HERO_CANVAS[0] // 2 - 4 * state.facing
    first = stage.names["0/idle_0"]
    number = {n: stage.names[f"0/{n}"] - first for n in ("run_0", "rise", "fall", "stomp", "dead", "cheer")}
    run = number["run_0"] + x // GAIT_POSE % GAIT_POSES
    pose = either(state.vx.abs() > SUB // 2, run, state.time // 36 % 2)
    air = either(state.vy > 0, number["rise"], number["fall"])
    pose = either(state.grounded == 1, pose, air)
    pose = either(state.stomp > 0, number["stomp"], pose)
    pose = either((state.mode == CHEER) & (state.grounded == 1), number["cheer"], pose)
    pose = either(state.mode == DEAD, number["dead"], pose)[:, None]
    there = torch.ones_like(pose) > 0
    sprite = stage.sprite("idle_0", pose)
    return stage.put(sprite, left[:, None], feet[:, None] - MARGIN, HERO_CANVAS, there, PLAYER,
                     flip=state.facing[:, None] < 0)  # fmt: skip
