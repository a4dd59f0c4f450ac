"""Scripted players: a batch of drivers whose habits cover play widely, for training data and autopilot.

A driver keeps a style for 5-20 s, then takes another (hash of its seed and the time); skilled and sloppy
driving come most often. Steering is by duty cycle, as with a keyboard: the wish is a wheel position, and a
key is held while the wheel is short of it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from games.noise import constants, hash_bits, uniform
from games.racing.physics import GRIP_MS2, wrap_angle, wrap_gap
from games.racing.spec import Buttons
from games.racing.track import angle
from games.select import either
from games.spec import GameSpec

_STYLE, _TIME, _NOISE, _MASH, _HABIT = 301, 302, 303, 304, 305
_SLOT = 60
"""Frames per slot of the style clock."""


@dataclass(frozen=True)
class Style:
    """weight of being chosen; pace x what the bends allow; top m/s; wobble: sideways wandering in half road
    widths; target: aimed lateral in half road widths; jitter: noise on the wheel; dodge: 1 goes round rivals,
    -1 seeks them; special: what the rules below do otherwise."""

    weight: float
    pace: float = 1.0
    top: float = 60.0
    wobble: float = 0.0
    target: float = 0.0
    jitter: float = 0.0
    dodge: float = 1.0
    special: str = ""


STYLES: dict[str, Style] = {
    "skilled": Style(26, 0.97, 60.0, 0.12, 0.0, 0.0, 1.0),
    "sloppy": Style(18, 1.05, 50.0, 0.45, 0.0, 0.35, 0.4),
    "weaving": Style(8, 0.8, 30.0, 0.85, 0.0, 0.1, 0.0),
    "cruiser": Style(9, 0.75, 24.0, 0.2, 0.35, 0.05, 1.0),
    "edge": Style(5, 0.8, 32.0, 0.3, 1.0, 0.1, 0.5),
    "reversing": Style(4, 0.6, 20.0, 0.3, 0.0, 0.1, 0.0, "reverse"),
    "crasher": Style(7, 1.5, 60.0, 0.5, 0.0, 0.3, -1.0, "blind"),
    "explorer": Style(5, 1.0, 40.0, 0.3, 2.8, 0.1, 0.0),
    "idle": Style(4, special="idle"),
    "masher": Style(5, special="mash"),
    "stop_and_go": Style(5, 0.85, 34.0, 0.2, 0.0, 0.1, 0.7, "stop"),
    "u_turner": Style(4, 0.7, 24.0, 0.3, 0.0, 0.1, 0.3, "turn"),
}


class Drivers:
    """B scripted players; see games.world.Drivers."""

    STYLES: tuple[str, ...] = tuple(STYLES)
    spec: GameSpec

    def __init__(self, seeds: Tensor, device: str = "cpu", style: str | None = None) -> None:
        self.seeds = seeds.to(device)
        if style is not None and style not in STYLES:
            raise ValueError(f"no driving style {style!r}; there are {', '.join(STYLES)}")
        self.only = None if style is None else self.STYLES.index(style)
        table = STYLES.values()
        self._weights = torch.tensor([s.weight for s in table], device=device).cumsum(0)
        rows = [[s.pace, s.top, s.wobble, s.target, s.jitter, s.dodge] for s in table]
        self._habits = torch.tensor(rows, device=device)
        self._special = {
            name: torch.tensor([s.special == name for s in table], device=device)
            for name in ("reverse", "blind", "idle", "mash", "stop", "turn")
        }

    def style(self, frame: Tensor) -> Tensor:
        """Index into STYLES of each driver at `frame`, int64 [B]; 20 s are cut at a random second."""
        if self.only is not None:
            return torch.full_like(self.seeds, self.only)
        second = frame // _SLOT
        block = second // 20
        cut = 5 + hash_bits(self.seeds, _TIME, block) % 11
        part = block * 2 + (second % 20 >= cut)
        point = uniform(self.seeds, _STYLE, part) * self._weights[-1]
        return torch.searchsorted(self._weights, point, right=True).clamp(max=len(STYLES) - 1)

    def act(self, world) -> Tensor:  # type: ignore[no-untyped-def]  # a racing World; importing it would be a circle
        c, track = world.state, world.track
        which = self.style(c.frame)
        pace, top, wobble, target, jitter, dodge = self._habits[which].unbind(1)
        special = {name: table[which] for name, table in self._special.items()}
        error = wrap_angle(c.heading - track.heading(c.s[:, None])[:, 0])
        # Who faces the wrong way and does not want to, turns round; u-turners alternate every 7 s.
        swing = (((c.frame + hash_bits(self.seeds, _HABIT, 0) % 420) // 420) % 2 == 1) & special["turn"]
        sense = either(swing, -1.0, 1.0)

        wheel = self._wheel(c, track, error, sense, wobble, target, dodge)
        noise = uniform(self.seeds, _NOISE, c.frame // 18) - 0.5
        wheel = wheel + 2.0 * jitter * noise
        wheel = either(special["blind"] & ((c.frame // 90) % 3 == 0), 1.6 * noise, wheel)
        short = wheel.clamp(-1.0, 1.0) - c.steer
        right, left = short > 0.09, short < -0.09

        want = torch.minimum(self._allowed(c, track, sense) * pace, top)
        lost = (wrap_angle(error + either(sense < 0, torch.pi, 0.0)).abs() > 1.2) & (c.speed.abs() > 0)
        want = either(lost, torch.minimum(want, torch.full_like(want, 9.0)), want)
        throttle, brake = c.speed < want, c.speed > want + 2.5
        throttle, brake = self._pedals(c, special, throttle, brake)
        # Going backwards the wheel works the other way round.
        backwards = c.speed < -0.3
        left, right = either(backwards, right, left), either(backwards, left, right)
        return self._habitual(c, special, left, right, throttle, brake)

    def _wheel(self, c, track, error, sense, wobble, target, dodge) -> Tensor:  # type: ignore[no-untyped-def]
        """Wheel position -1..1 that brings the car to its line: pure pursuit of a point ahead."""
        half = track.half_width
        side = either(uniform(self.seeds, _HABIT, 1, c.frame // 900) < 0.5, -1.0, 1.0)
        seconds = c.frame.to(torch.float32) / 60.0
        wander = torch.sin(
            seconds * (0.7 + 0.9 * uniform(self.seeds, _HABIT, 2)) + 6.3 * uniform(self.seeds, _HABIT, 3)
        )
        reach = 6.0 + 0.55 * c.speed.abs()
        kappa = track.at(track.curvature, (c.s + sense * 0.8 * reach)[:, None])[:, 0]
        inside = (kappa * 55.0).clamp(-0.55, 0.55)  # cut towards the inside of the bend
        aim = (target * side + wobble * wander + either(target > 0.5, 0.0, inside)) * half

        # A rival in the way: pass on the freer side (or seek it, for those who do).
        gap = wrap_gap(c.rival_s - c.s[:, None], track.length[:, None]) * sense[:, None]
        near = either(gap > 0.0, gap, 1e3)
        distance, i = near.min(1)
        rival = c.rival_lateral.gather(1, i[:, None])[:, 0]
        pass_at = either(rival > 0.1 * half, rival - 3.1, rival + 3.1)
        busy = (distance < 10.0 + 0.9 * c.speed) & ((rival - aim).abs() < 2.7)
        aim = either(busy & (dodge > 0), aim + (pass_at - aim) * dodge, aim)
        aim = either((distance < 40.0) & (dodge < 0), rival, aim)

        x, y = track.point((c.s + sense * reach)[:, None], aim[:, None])
        bearing = wrap_angle(angle(x[:, 0] - c.x, y[:, 0] - c.y) - c.heading)
        far = torch.sqrt((x[:, 0] - c.x) ** 2 + (y[:, 0] - c.y) ** 2).clamp(min=3.0)
        bend = 2.0 * torch.sin(bearing) / far
        bend = either(bearing.abs() > 1.57, torch.sign(bearing) * 0.13, bend)
        most = torch.minimum(torch.full_like(bend, 0.13), GRIP_MS2 / (c.speed * c.speed + 25.0))
        return bend / most

    @staticmethod
    def _allowed(c, track, sense) -> Tensor:  # type: ignore[no-untyped-def]
        """Speed from which every bend within sight can still be reached slowly enough, m/s."""
        ahead = constants((0.0, 6, 12, 18, 26, 34, 44, 56, 70, 86, 104), str(c.s.device))
        kappa = track.at(track.curvature, c.s[:, None] + sense[:, None] * ahead).abs()
        bend = 0.66 * GRIP_MS2 / kappa.clamp(min=1e-3)
        return torch.sqrt(bend + 2.0 * 15.0 * (ahead - 6.0).clamp(min=0.0)).amin(1)

    def _pedals(self, c, special, throttle, brake):  # type: ignore[no-untyped-def]
        """Throttle and brake of those who do not simply drive on."""
        clock = c.frame + hash_bits(self.seeds, _HABIT, 4) % 600
        halt = special["stop"] & (clock % 330 < 130)
        throttle, brake = throttle & ~halt, (brake | (halt & (c.speed > 0.5))) & ~(halt & (c.speed <= 0.5))
        back = special["reverse"] & (clock % 420 < 300)
        throttle, brake = throttle & ~back, brake | back
        # The crash-and-recover sort shifts back a little after a bump, then goes on.
        rebound = (
            special["blind"] & (c.bump > 0) & (hash_bits(self.seeds, _HABIT, 5, c.frame // 240) % 2 == 0)
        )
        return throttle & ~rebound, brake | rebound

    def _habitual(self, c, special, left, right, throttle, brake) -> Tensor:  # type: ignore[no-untyped-def]
        """Bits from keys; idlers and mashers press by the clock instead."""
        bits = torch.zeros_like(self.seeds)
        for key, button in zip((left, right, throttle, brake), Buttons):
            bits = bits | either(key, int(button), 0)
        random = hash_bits(self.seeds, _MASH, c.frame // (3 + hash_bits(self.seeds, _HABIT, 6) % 20))
        mash = (random & 7) | ((random >> 3) & (random >> 4) & 1) * int(Buttons.BRAKE)
        tap = either((c.frame % 75 < 7) & (random % 3 == 0), random & 15, 0)
        stop = either(c.speed > 0.5, int(Buttons.BRAKE), 0)  # an idler first comes to rest
        bits = either(special["mash"], mash, bits)
        return either(special["idle"], tap | stop, bits)
