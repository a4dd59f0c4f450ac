"""How cars move: one frame of B worlds, elementwise, so that a world's result depends on itself alone.

buttons + State + Track -> State. The player steers continuously (a tap a little, holding more, centring
itself), slides within limits, is slowed by grass and turned back far outside. Rivals keep to the road.
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from games.noise import uniform
from games.racing.spec import AHEAD_M, APART_M, RETURNS_M, RIVALS, Buttons
from games.racing.track import Track, angle
from games.select import either

DT = 1.0 / 60.0
TOP_SPEED, REVERSE_SPEED = 56.0, -8.0
GRIP_MS2 = 15.0
"""Most sideways acceleration: 19 m/s through the tightest bend."""
CAR_LENGTH_M, CAR_WIDTH_M = 4.3, 1.9
SOFT_BOUND, HARD_BOUND = 2.3, 2.9
"""Half road widths at which the ground begins to turn the car back, and beyond which it never gets."""
BUMP_FRAMES = 15
_RIVAL, _LANE, _PLACE = 201, 202, 203


@dataclass(frozen=True)
class State:
    """Everything that changes, [B] float32 unless said.

    x, y m; heading rad; speed m/s forwards; slip m/s to the right; steer -1..1; s, lateral m on the road;
    travelled m along the road since the start (float64); lap completed; bump frames left of a collision;
    view rad, roll rad, pitch px, shake px: the camera; phase rad of the shake; braking 0..1;
    frame int64; rival_s, rival_lateral, rival_speed, rival_drift [B, RIVALS].
    """

    x: Tensor
    y: Tensor
    heading: Tensor
    speed: Tensor
    slip: Tensor
    steer: Tensor
    s: Tensor
    lateral: Tensor
    travelled: Tensor
    lap: Tensor
    bump: Tensor
    view: Tensor
    roll: Tensor
    pitch: Tensor
    shake: Tensor
    phase: Tensor
    braking: Tensor
    frame: Tensor
    rival_s: Tensor
    rival_lateral: Tensor
    rival_speed: Tensor
    rival_drift: Tensor

    def replaced(self, where: Tensor, other: "State") -> "State":
        """A copy with rows `where` (int64 [n]) taken from `other` (n worlds)."""
        return State(
            *(getattr(self, f.name).index_copy(0, where, getattr(other, f.name)) for f in fields(State))
        )


def choose(where: Tensor, a: State, b: State) -> State:
    """a where `where` (bool [B]), b elsewhere."""

    def pick(x: Tensor, y: Tensor) -> Tensor:
        return either(where.view(-1, *[1] * (x.ndim - 1)), x, y)

    return State(*(pick(getattr(a, f.name), getattr(b, f.name)) for f in fields(State)))


def wrap_angle(a: Tensor) -> Tensor:
    """To -pi..pi."""
    return torch.remainder(a + math.pi, 2 * math.pi) - math.pi


def wrap_gap(gap: Tensor, length: Tensor) -> Tensor:
    """A difference of two s, the short way round."""
    return torch.remainder(gap + 0.5 * length, length) - 0.5 * length


def start(seeds: Tensor, track: Track) -> State:
    """Standing on the start line in the right lane, rivals ahead in pairs."""
    zero = torch.zeros(seeds.shape, device=seeds.device)
    lateral = 0.42 * track.half_width
    x, y = track.point(zero[:, None], lateral[:, None])
    heading = track.heading(zero[:, None])[:, 0]
    i = torch.arange(RIVALS, device=seeds.device)
    side = either(i % 2 == 0, -0.42, 0.42) * track.half_width[:, None]
    ahead = 9.0 + 13.0 * i + 3.0 * uniform(seeds[:, None], _RIVAL, 0, i)
    still = torch.zeros_like(ahead)
    whole = torch.zeros_like(seeds)
    return State(
        x[:, 0],
        y[:, 0],
        heading,
        zero,
        zero,
        zero,
        zero,
        lateral,
        zero.to(torch.float64),
        zero,
        zero,
        heading,
        zero,
        zero,
        zero,
        zero,
        zero,
        whole,
        ahead,
        side,
        still,
        still,
    )


def displaced(state: State, track: Track, seeds: Tensor, draw: int) -> State:
    """Every car somewhere on its track, mostly beside the road, at any angle and pace; rivals come along.

    draw: another number, other places."""

    def chance(which: int) -> Tensor:
        return uniform(seeds, _PLACE, draw, which)

    s = chance(0) * track.length
    lateral = (2.0 * chance(1) - 1.0) * (HARD_BOUND - 0.1) * track.half_width
    x, y = track.point(s[:, None], lateral[:, None])
    swing = either(chance(2) < 0.7, 0.9, math.pi)
    heading = wrap_angle(track.heading(s[:, None])[:, 0] + (2.0 * chance(3) - 1.0) * swing)
    zero = torch.zeros_like(s)
    return replace(
        state,
        x=x[:, 0],
        y=y[:, 0],
        heading=heading,
        view=heading,
        speed=(30.0 * chance(4) - 6.0).clamp(min=0.0),
        slip=zero,
        steer=zero,
        s=s,
        lateral=lateral,
        rival_s=torch.remainder(state.rival_s + (s - state.s)[:, None], track.length[:, None]),
    )


def step(state: State, buttons: Tensor, track: Track, seeds: Tensor) -> State:
    """One frame of every world."""
    state = _drive(state, buttons, track)
    state = _rivals(state, track, seeds)
    state = _collide(state, track)
    state = _bounds(state, track)
    state = _locate(state, track)
    return _camera(state, track)


def _drive(c: State, buttons: Tensor, track: Track) -> State:
    """Steering, engine, brakes, grip; moves the player."""

    def held(button: Buttons) -> Tensor:
        return ((buttons & int(button)) != 0).to(torch.float32)

    left, right, throttle, brake = (held(b) for b in Buttons)
    wish = right - left
    rate = either(wish * c.steer < 0, 6.0, either(wish == 0, 4.2, 3.0)) * DT
    steer = c.steer + (wish - c.steer).clamp(-rate, rate)
    off = (c.lateral.abs() > track.half_width).to(torch.float32)

    forward = c.speed >= 0.0
    engine = throttle * either(forward, 11.0 * (1.0 - c.speed / TOP_SPEED).clamp(min=0.0) + 0.6, 16.0)
    slow_enough = c.speed < 0.4
    reverse = brake * (1.0 - throttle) * slow_enough * 6.0 * (1.0 - c.speed / REVERSE_SPEED).clamp(min=0.0)
    friction = 0.5 + 0.006 * c.speed * c.speed.abs() * 0.1 + off * (0.6 + 0.42 * c.speed.abs())
    friction = friction + brake * either(slow_enough, 0.0, 21.0) + (1 - throttle) * 1.4
    speed = c.speed + (engine - reverse) * DT
    slowing = torch.minimum(friction * DT, speed.abs())
    speed = (speed - torch.sign(speed) * slowing).clamp(REVERSE_SPEED, TOP_SPEED)

    grip = GRIP_MS2 * (1.0 - 0.35 * off)
    bend = steer * torch.minimum(torch.full_like(speed, 0.13), grip / (speed * speed + 25.0))
    turn = bend * speed * DT
    heading = wrap_angle(c.heading + turn)
    # The car's velocity lags its nose a little: slip is what the turn left over, and grip eats it.
    slip = (c.slip - turn * speed * 0.55) * math.exp(-1.0) ** (DT * (9.0 - 5.0 * off))
    sin, cos = torch.sin(heading), torch.cos(heading)
    return replace(
        c,
        x=c.x + (sin * speed + cos * slip) * DT,
        y=c.y + (cos * speed - sin * slip) * DT,
        heading=heading,
        speed=speed,
        slip=slip,
        steer=steer,
        braking=c.braking + (brake - c.braking) * 0.35,
        frame=c.frame + 1,
        bump=(c.bump - 1.0).clamp(min=0.0),
    )


def _rivals(c: State, track: Track, seeds: Tensor) -> State:
    """Rivals: own pace, slower in bends and behind others, lane changes; who is far behind returns ahead."""
    i = torch.arange(RIVALS, device=seeds.device)
    length, half = track.length[:, None], track.half_width[:, None]
    own = 19.0 + 15.0 * uniform(seeds[:, None], _RIVAL, 1, i)
    bend = torch.stack([track.at(track.curvature, c.rival_s + d).abs() for d in (2.0, 12.0, 26.0)]).amax(0)
    wish = torch.minimum(own, torch.sqrt(9.0 / bend.clamp(min=1e-3)))
    gap = wrap_gap(c.rival_s - c.s[:, None], length)
    wish = wish * either(gap > 140.0, 0.6, 1.0)

    # The car in front, in the same lane: keep its pace.
    ahead = wrap_gap(c.rival_s[:, None, :] - c.rival_s[:, :, None], length[:, :, None])
    beside = (c.rival_lateral[:, None, :] - c.rival_lateral[:, :, None]).abs()
    close = (ahead > 0.0) & (ahead < 14.0) & (beside < 2.4)
    limit = either(close, c.rival_speed[:, None, :] - (9.0 - ahead) * 0.6, 1e3).amin(2)
    block = (gap < 0.0) & (gap > -13.0) & ((c.rival_lateral - c.lateral[:, None]).abs() < 2.3)
    limit = either(block, torch.minimum(limit, c.speed[:, None] - 0.5), limit)
    wish = torch.minimum(wish, limit).clamp(min=0.0)
    wish = wish * (c.frame[:, None] > 20 + 12 * i)  # they leave the line one after another
    speed = c.rival_speed + (wish - c.rival_speed).clamp(-14.0 * DT, 6.0 * DT)

    epoch = (c.frame[:, None] + 67 * i) // 270
    lane = (uniform(seeds[:, None], _LANE, i, epoch) * 3.0).floor() - 1.0
    aim = either(c.frame[:, None] < 240, c.rival_lateral, lane * 0.46 * half)
    pull = ((aim - c.rival_lateral) * 1.1).clamp(-2.2, 2.2) * (speed * 0.12).clamp(max=1.0)
    drift = c.rival_drift + (pull - c.rival_drift) * (4.0 * DT)
    lateral = (c.rival_lateral + drift * DT).clamp(-0.9 * half, 0.9 * half)
    kappa = track.at(track.curvature, c.rival_s)
    s = c.rival_s + speed * DT / (1.0 - kappa * lateral)
    # Out of sight both before and after.
    s = either(gap < -RETURNS_M, c.s[:, None] + AHEAD_M + APART_M * i, s)
    return replace(
        c, rival_s=torch.remainder(s, length), rival_lateral=lateral, rival_speed=speed, rival_drift=drift
    )


def _collide(c: State, track: Track) -> State:
    """Bumps between the player and rivals: speeds are exchanged in part and overlaps end at once."""
    length = track.length[:, None]
    local = track.locate(c.x[:, None], c.y[:, None])
    tx, ty = local.tx[:, 0], local.ty[:, 0]
    sin, cos = torch.sin(c.heading), torch.cos(c.heading)
    facing, across = (
        sin * tx + cos * ty,
        (sin * ty - cos * tx).abs(),
    )  # of the nose, along and across the road
    spare = 0.5 * (CAR_LENGTH_M - CAR_WIDTH_M)
    ds = wrap_gap(c.rival_s - local.s, length)
    dl = c.rival_lateral - local.lateral
    deep_s = (CAR_LENGTH_M * (0.5 + 0.5 * facing.abs()) - spare * across)[:, None] - ds.abs()
    deep_l = (CAR_WIDTH_M + spare * across)[:, None] - dl.abs()
    hit = (deep_s > 0) & (deep_l > 0)
    lengthways = hit & (deep_s < 1.6 * deep_l)
    sideways = hit & ~lengthways
    # Lengthways: speeds along the road, with a little bounce; the rival is pushed as well.
    toward, out = either(ds < 0, -1.0, 1.0), either(dl < 0, -1.0, 1.0)
    closing = (((c.speed * facing)[:, None] - c.rival_speed) * toward).clamp(min=0.0) * lengthways * toward
    move = either(lengthways, (deep_s + 0.02) * toward, 0.0)
    shift = either(sideways, (deep_l + 0.02) * out, 0.0)
    scrape = _total(sideways * out)
    back, aside = 0.5 * _total(move), 0.5 * _total(shift)
    return replace(
        c,
        x=c.x - back * tx - aside * ty,
        y=c.y - back * ty + aside * tx,
        speed=(c.speed - 0.65 * _total(closing) * facing) * (1.0 - 0.015 * scrape.abs().clamp(max=1.0)),
        slip=c.slip - 1.6 * scrape.clamp(-1.0, 1.0) * facing,
        bump=either(hit.any(1), float(BUMP_FRAMES), c.bump),
        rival_s=torch.remainder(c.rival_s + 0.5 * move, length),
        rival_lateral=c.rival_lateral + 0.5 * shift,
        rival_speed=(c.rival_speed + 0.65 * closing).clamp(0.0, 60.0),
        rival_drift=c.rival_drift + sideways * out * 0.6 + 0.1 * shift,
    )


def _total(v: Tensor) -> Tensor:
    """Sum over rivals [B, RIVALS] -> [B], always in the same order."""
    a = v[:, 0]
    for i in range(1, v.shape[1]):
        a = a + v[:, i]
    return a


def _bounds(c: State, track: Track) -> State:
    """Far outside, the ground holds the car back, turns its nose along the road, and lets it no further."""
    local = track.locate(c.x[:, None], c.y[:, None])
    lateral, tx, ty = local.lateral[:, 0], local.tx[:, 0], local.ty[:, 0]
    half = track.half_width
    beyond = (lateral.abs() / half - SOFT_BOUND).clamp(min=0.0)
    side = torch.sign(lateral)
    sin, cos = torch.sin(c.heading), torch.cos(c.heading)
    outward = (sin * ty - cos * tx) * side * torch.sign(c.speed)
    leaving = beyond * outward.clamp(min=0.0)
    # Nose towards the road's own direction that is nearer, faster the deeper.
    along = either(sin * tx + cos * ty >= 0, 1.0, -1.0)
    error = wrap_angle(angle(tx * along, ty * along) - c.heading)
    turn = (error * 6.0).clamp(-2.2, 2.2) * leaving.clamp(max=1.0) * (c.speed.abs() * 0.25).clamp(max=1.0)
    speed = c.speed * (1.0 - (leaving * 2.5 * DT).clamp(max=0.5))
    back = (lateral.abs() - HARD_BOUND * half).clamp(min=0.0) * side
    return replace(
        c, x=c.x - back * ty, y=c.y + back * tx, heading=wrap_angle(c.heading + turn * DT), speed=speed
    )


def _locate(c: State, track: Track) -> State:
    """Read the player's place on the road off the world position, and count the way along it."""
    local = track.locate(c.x[:, None], c.y[:, None])
    s = torch.remainder(local.s[:, 0], track.length)
    moved = wrap_gap(s - c.s, track.length)
    moved = either(moved.abs() < 12.0, moved, 0.0)  # a jump across the infield is no driving
    travelled = c.travelled + moved.to(torch.float64)
    lap = torch.maximum(c.lap, (travelled / track.length).floor().to(torch.float32))
    return replace(c, s=s, lateral=local.lateral[:, 0], travelled=travelled, lap=lap)


def _camera(c: State, track: Track) -> State:
    """The camera follows the nose with a lag, leans into bends, dips under braking, shakes off the road."""
    view = wrap_angle(c.view + wrap_angle(c.heading - c.view) * (7.0 * DT))
    pace = (c.speed / 16.0).clamp(-1.0, 1.0)
    roll = c.roll + (0.046 * c.steer * pace - c.roll) * (4.5 * DT)
    pitch = c.pitch + (-5.0 * c.braking * pace.clamp(min=0.0) - c.pitch) * (5.0 * DT)
    off = (c.lateral.abs() > track.half_width).to(torch.float32)
    shake = c.shake + (2.6 * off * pace.abs() - c.shake) * (8.0 * DT)
    phase = torch.remainder(c.phase + (0.12 + 0.3 * pace.abs()) * (c.speed.abs() > 0.5), 2 * math.pi)
    return replace(c, view=view, roll=roll, pitch=pitch, shake=shake, phase=phase)
