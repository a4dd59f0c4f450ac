"""One frame of play for all worlds at once: run, jump, collide, ride, stomp, collect, die, finish.

Integer tensors, no branches on data: every rule is computed for every world and picked with `where`.
"""

from dataclasses import dataclass
from dataclasses import replace as changed

import torch
from torch import Tensor

from games.platformer import units as u
from games.platformer.level import Level, enemies_at, flag_left, platforms_at
from games.platformer.sections import LEDGE, SOLID
from games.platformer.spec import Buttons
from games.platformer.state import CHEER, DEAD, NOBODY, PLAY, State, camera_goal_x, camera_goal_y
from games.platformer.units import COLUMNS, ROWS, SUB, TILE
from games.select import either


@dataclass(frozen=True)
class Input:
    """What the player asks for in this frame, int64 [B]: direction -1..1, jump held, jump newly pressed."""

    direction: Tensor
    jump: Tensor
    pressed: Tensor


def read_buttons(state: State, buttons: Tensor) -> Input:
    """Buttons count only while the hero is in play."""
    buttons = either(state.mode == PLAY, buttons, 0)
    jump = (buttons // Buttons.JUMP) & 1
    direction = ((buttons // Buttons.RIGHT) & 1) - (buttons & 1)
    return Input(direction, jump, jump * (1 - state.held))


def tile_at(level: Level, x: Tensor, y: Tensor) -> Tensor:
    """Tile kinds at pixels x, y [B, K]; empty above and below the level."""
    row, column = y // TILE, (x // TILE).clamp(0, COLUMNS - 1)
    kind = level.tiles.gather(1, row.clamp(0, ROWS - 1) * COLUMNS + column)
    return either((row >= 0) & (row < ROWS), kind, 0)


def run(state: State, move: Input) -> State:
    """Acceleration, friction and facing."""
    ground = state.grounded == 1
    turning = move.direction * state.vx < 0
    gain = either(ground, u.ACCEL, u.AIR_ACCEL) + either(turning, u.FRICTION, 0)
    slow = either(ground, u.FRICTION, u.AIR_FRICTION)
    coasting = state.vx.sign() * (state.vx.abs() - slow).clamp(min=0)
    driven = (state.vx + move.direction * gain).clamp(-u.RUN, u.RUN)
    return changed(
        state,
        vx=either(move.direction == 0, coasting, driven),
        facing=either(move.direction == 0, state.facing, move.direction),
    )


def jump(state: State, move: Input) -> State:
    """Starts, cuts and lets fall: coyote time, jump buffer, variable height."""
    buffer = either(move.pressed == 1, u.BUFFER, (state.buffer - 1).clamp(min=0))
    leaps = (buffer > 0) & (state.coyote > 0) & (state.mode == PLAY)
    vy = either(leaps, u.JUMP, state.vy)
    cuttable = either(leaps, 1, state.cuttable) * (vy > 0)
    cut = (cuttable == 1) & (move.jump == 0) & (state.mode == PLAY)
    vy = either(cut, vy.clamp(max=u.JUMP_CUT), vy)
    vy = vy - either(vy > 0, u.GRAVITY, u.FALL_GRAVITY)
    return changed(
        state,
        vy=vy.clamp(min=-u.MAX_FALL),
        cuttable=cuttable,
        buffer=either(leaps, 0, buffer),
        coyote=either(leaps, 0, state.coyote),
        ride=either(leaps, NOBODY, state.ride),
        held=move.jump,
    )


def move_x(state: State, level: Level, carried: Tensor) -> State:
    """Sideways by own speed and by `carried` (px, of the platform ridden on), against walls."""
    way = state.vx + carried * SUB
    x = state.x + way
    right = way > 0
    edge = x // SUB + either(right, u.HERO_W - 1, 0)
    heights = torch.arange(3, device=x.device) * (u.HERO_H - 1) // 2
    hit = (tile_at(level, edge[:, None].expand(-1, 3), state.y[:, None] // SUB + heights) == SOLID).any(1)
    column = edge // TILE
    stop = either(right, column * TILE - u.HERO_W, (column + 1) * TILE) * SUB
    x = either(hit, stop, x)
    free = torch.minimum(x.clamp(min=0), (level.length * TILE - u.HERO_W) * SUB)
    return changed(state, x=free, vx=either(hit | (free != x), 0, state.vx))


def move_y(state: State, level: Level, platforms: tuple[Tensor, Tensor, Tensor]) -> State:
    """Up and down, against ceilings, onto ground, ledges and moving platforms.

    platforms: left edges, tops now and tops before, px [B, N]. A rider's y is already the top now.
    """
    left, top, before = platforms
    y = state.y + state.vy
    sides = state.x[:, None] // SUB + torch.arange(2, device=y.device) * (u.HERO_W - 1)
    falling = state.vy <= 0
    probe = either(falling, y // SUB, y // SUB + u.HERO_H - 1)
    kind = tile_at(level, sides, probe[:, None].expand(-1, 2))
    row = probe // TILE
    over = state.y >= (row + 1) * TILE * SUB
    floor = falling & ((kind == SOLID) | ((kind == LEDGE) & over[:, None])).any(1)
    bump = ~falling & (kind == SOLID).any(1)
    ground = either(floor, (row + 1) * TILE * SUB, -(1 << 40))

    x = state.x[:, None] // SUB
    lands = (
        (level.platform[..., 5] == 1) & (x + u.HERO_W > left) & (x < left + u.PLATFORM_W) & falling[:, None]
    )
    lands &= (state.y[:, None] >= torch.minimum(top, before) * SUB) & (y[:, None] <= top * SUB)
    deck, index = either(lands, top * SUB, -(1 << 40)).max(1)
    rides = lands.any(1) & (deck >= ground)

    stands = floor | rides
    y = either(stands, torch.maximum(ground, deck), either(bump, (row * TILE - u.HERO_H) * SUB, y))
    return changed(
        state,
        y=y,
        vy=either(stands | bump, 0, state.vy),
        grounded=stands.long(),
        ride=either(rides, index, NOBODY),
        coyote=either(stands, u.COYOTE, (state.coyote - 1).clamp(min=0)),
    )


def collect(state: State, level: Level) -> State:
    """Coins that the hero's box touches; taken ones count frames up to the end of their pop."""
    x, y = state.x[:, None] // SUB, state.y[:, None] // SUB
    left, bottom, present = level.coin.unbind(-1)
    touch = (x < left + u.COIN) & (x + u.HERO_W > left) & (y < bottom + u.COIN) & (y + u.HERO_H > bottom)
    taken = touch & (present == 1) & (state.coin == 0) & (state.mode == PLAY)[:, None]
    going = either(state.coin > 0, (state.coin + 1).clamp(max=u.POP_FRAMES), 0)
    return changed(state, coin=either(taken, 1, going), coins=state.coins + taken.sum(1))


def meet_enemies(state: State, level: Level, move: Input) -> State:
    """Stomps (falling onto a walker), and touches that kill."""
    left, _ = enemies_at(level, state.time)
    bottom, kind = level.enemy[..., 2], level.enemy[..., 3]
    x, y = state.x[:, None] // SUB, state.y[:, None] // SUB
    touch = (x + 4 < left + u.ENEMY_W) & (x + u.HERO_W - 4 > left)
    touch &= (y < bottom + u.ENEMY_H) & (y + u.HERO_H > bottom)
    touch &= (kind > 0) & (state.enemy == 0) & (state.mode == PLAY)[:, None]
    stomped = touch & (kind == 1) & (state.vy < 0)[:, None] & (y >= bottom + u.ENEMY_H // 3)
    bounces = stomped.any(1)
    hurt = touch.any(1) & ~bounces
    high = either(move.jump == 1, u.BOUNCE_HIGH, u.BOUNCE)
    squash = either(state.enemy > 0, (state.enemy + 1).clamp(max=u.SQUASH_FRAMES), stomped.long())
    state = changed(
        state,
        enemy=squash,
        vy=either(bounces, high, state.vy),
        stomp=either(bounces, u.STOMP_FRAMES, (state.stomp - 1).clamp(min=0)),
        cuttable=either(bounces, 0, state.cuttable),
        coyote=either(bounces, 0, state.coyote),
    )
    return _die(state, hurt, leap=True)


def _die(state: State, where: Tensor, leap: bool) -> State:
    """Costs a life and begins the death animation; `leap` throws the hero up once."""
    return changed(
        state,
        mode=either(where, DEAD, state.mode),
        timer=either(where, 0, state.timer),
        lives=state.lives - where.long(),
        vx=either(where, 0, state.vx),
        vy=either(where, 10 * SUB, state.vy) if leap else state.vy,
        grounded=either(where, 0, state.grounded),
    )


def fall_and_finish(state: State, level: Level) -> State:
    """Pits cost a life; the flag begins the cheer; checkpoints move on."""
    playing = state.mode == PLAY
    state = _die(state, playing & (state.y < -u.HERO_H * SUB), leap=False)
    playing = state.mode == PLAY
    at_flag = playing & (state.x // SUB + u.HERO_W > flag_left(level)) & (state.grounded == 1)
    slot = (state.x // SUB + u.HERO_W // 2) // (u.SLOT * TILE)
    reached = slot // u.CHECKPOINT_SLOTS * u.CHECKPOINT_SLOTS
    safe = playing & (state.grounded == 1)
    return changed(
        state,
        mode=either(at_flag, CHEER, state.mode),
        timer=either(at_flag, 0, state.timer),
        checkpoint=either(safe, torch.maximum(state.checkpoint, reached), state.checkpoint),
    )


def follow(state: State, level: Level) -> State:
    """The camera: leads by two tiles in the running direction, follows upwards only as needed."""
    towards = (state.vx.abs() > 2 * SUB) * state.facing * 2 * TILE
    drift = either(towards == 0, 0, (towards - state.lead).clamp(-3, 3))
    lead = state.lead + drift
    view_y = state.camera_y // SUB
    feet = state.y // SUB
    goal = either(state.grounded == 1, camera_goal_y(state.y), view_y)
    goal = torch.maximum(goal, feet + u.HERO_H + TILE // 2 - u.VIEW_H).clamp(0, (ROWS - 10) * TILE)
    camera_y = state.camera_y + (goal * SUB - state.camera_y) // 14
    alive = state.mode != DEAD
    return changed(
        state,
        lead=lead,
        camera_x=either(alive, camera_goal_x(state.x, lead, level), state.camera_x),
        camera_y=either(alive, camera_y, state.camera_y),
    )


def advance(state: State, level: Level, buttons: Tensor) -> State:
    """The next frame of every world inside its level. buttons: int64 [B]."""
    move = read_buttons(state, buttons)
    left, before = platforms_at(level, state.time)
    state = changed(state, time=state.time + 1, timer=state.timer + 1)
    now, top = platforms_at(level, state.time)
    riding = (state.ride >= 0) & (state.mode != DEAD)
    under = state.ride.clamp(min=0)[:, None]
    carried = either(riding, (now - left).gather(1, under)[:, 0], 0)
    deck = top.gather(1, under)[:, 0] * SUB

    start = changed(state, y=either(riding, deck, state.y))
    moved = jump(run(start, move), move)
    moved = move_y(move_x(moved, level, carried), level, (now, top, before))
    falling = changed(state, y=state.y + state.vy, vy=state.vy - u.FALL_GRAVITY, grounded=state.grounded * 0)
    state = moved.replaced(state.mode == DEAD, falling)
    state = meet_enemies(collect(state, level), level, move)
    return follow(fall_and_finish(state, level), level)
