"""What a world remembers from frame to frame, as integer tensors of shape [B] or [B, N]."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from games.platformer.level import Level
from games.platformer.units import ROWS, SLOT, START_LIVES, SUB, TILE, VIEW_W

PLAY, DEAD, CHEER = 0, 1, 2
NOBODY = -1
LEAD = 2 * TILE


@dataclass
class State:
    """int64 throughout, flags as 0 / 1. Positions and speeds in 1/256 px, heights upwards."""

    x: Tensor  # left edge of the hero's box
    y: Tensor  # feet
    vx: Tensor
    vy: Tensor
    facing: Tensor  # +1 right, -1 left
    grounded: Tensor
    ride: Tensor  # index of the moving platform under the feet, or NOBODY
    coyote: Tensor  # frames left in which a jump still counts as from the ground
    buffer: Tensor  # frames left in which a pressed jump is remembered
    held: Tensor  # jump was held in the frame before
    cuttable: Tensor  # rising by an own jump: letting go shortens it
    mode: Tensor  # PLAY, DEAD or CHEER
    timer: Tensor  # frames since the mode began
    stomp: Tensor  # frames left of the stomp pose
    time: Tensor  # frames since the level began
    checkpoint: Tensor  # section to come back to
    lives: Tensor
    coins: Tensor
    finished: Tensor  # levels finished so far
    number: Tensor  # number of the level being played, 0 after the last life
    behind: Tensor  # tiles of all finished levels
    lead: Tensor  # how far the camera looks ahead, px
    camera_x: Tensor  # left edge of the picture, px
    camera_y: Tensor  # lower edge of the picture, 1/256 px
    enemy: Tensor  # [B, N] 0 alive, else frames since it was stomped
    coin: Tensor  # [B, N] 0 there, else frames since it was taken

    def replaced(self, where: Tensor, other: "State") -> "State":
        """`other` where `where` (bool [B]) is True, this elsewhere."""
        mixed = {}
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            mixed[f.name] = torch.where(where[:, None] if mine.dim() == 2 else where, theirs, mine)
        return State(**mixed)


def fresh(level: Level) -> State:
    """Standing at the start of `level` with all lives."""
    zero = torch.zeros_like(level.length)
    one = torch.ones_like(zero)
    nothing = {f.name: zero for f in fields(State)}
    nothing |= {
        "facing": one,
        "grounded": one,
        "ride": one * NOBODY,
        "lives": one * START_LIVES,
        "lead": one * LEAD,
        "enemy": torch.zeros_like(level.enemy[..., 0]),
        "coin": torch.zeros_like(level.coin[..., 0]),
    }
    return placed(State(**nothing), level)


def placed(state: State, level: Level) -> State:
    """`state` standing at its checkpoint, at rest, with every enemy back and the camera cut to it."""
    zero, one = torch.zeros_like(state.x), torch.ones_like(state.x)
    x = (state.checkpoint * SLOT * TILE + TILE + 6) * SUB
    y = level.base.gather(1, state.checkpoint[:, None])[:, 0] * TILE * SUB
    return State(**(vars(state) | {
        "x": x, "y": y, "vx": zero, "vy": zero, "facing": one, "grounded": one, "ride": one * NOBODY,
        "coyote": zero, "buffer": zero, "cuttable": zero, "mode": zero, "timer": zero, "stomp": zero,
        "lead": one * LEAD, "camera_x": camera_goal_x(x, one * LEAD, level),
        "camera_y": camera_goal_y(y) * SUB,
        "enemy": torch.zeros_like(state.enemy),
    }))  # fmt: skip


def camera_goal_x(x: Tensor, lead: Tensor, level: Level) -> Tensor:
    """Left edge of the picture in px: the hero in its middle, moved by `lead` px, inside the level."""
    goal = x // SUB + TILE // 2 + lead - VIEW_W // 2
    return torch.minimum(goal.clamp(min=0), level.length * TILE - VIEW_W)


def camera_goal_y(y: Tensor) -> Tensor:
    """Lower edge of the picture in px for a hero who stands at y: feet at 3.5 tiles, inside the level."""
    return (y // SUB - 7 * TILE // 2).clamp(0, (ROWS - 10) * TILE)
