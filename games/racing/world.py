"""The racing game: B independent worlds as one batch of tensors. See games.world for the interface.

buttons -> physics.step -> State; State + Track + Scenery -> render -> picture. Everything random is a
hash of the world's seed.
"""

import math

import torch
from torch import Tensor

from games.noise import constants, hash_bits
from games.racing import physics
from games.racing.driver import Drivers
from games.racing.ground import pattern
from games.racing.physics import State, wrap_angle, wrap_gap
from games.racing.render import Painter, rival_paint
from games.racing.scenery import Scenery, build_scenery, gate_places
from games.racing.spec import COMPASS, NEAR_M, PATTERNS_M, RETURNS_M, RIVAL_PAINTS, RIVALS, SPEC, circle_m
from games.racing.track import Track, build_tracks
from games.select import either
from games.spec import GameSpec

__all__ = ["Drivers", "World"]

_LOOK = 401


class World:
    """B races. Drivers and tests read: seeds, look (index into spec.looks) [B], track, scenery, state."""

    spec: GameSpec = SPEC

    def __init__(self, seeds: Tensor, device: str = "cpu") -> None:
        self.device = device
        self.seeds = seeds.to(device=device, dtype=torch.int64).clone()
        self.look = _look(self.seeds)
        self.track: Track = build_tracks(self.seeds)
        self.scenery: Scenery = build_scenery(self.seeds, self.track, self.look)
        self.state: State = physics.start(self.seeds, self.track)
        self._painter: Painter | None = None

    def step(self, buttons: Tensor, active: Tensor | None = None) -> None:
        new = physics.step(self.state, buttons.to(self.device), self.track, self.seeds)
        self.state = new if active is None else physics.choose(active.to(self.device), new, self.state)

    def restart(self, where: Tensor, seeds: Tensor) -> None:
        rows = where.to(self.device).nonzero()[:, 0]
        if rows.numel() == 0:
            return
        fresh = seeds.to(device=self.device, dtype=torch.int64)[rows]
        track, look = build_tracks(fresh), _look(fresh)
        self.seeds = self.seeds.index_copy(0, rows, fresh)
        self.look = self.look.index_copy(0, rows, look)
        self.track = self.track.replaced(rows, track)
        self.scenery = self.scenery.replaced(rows, build_scenery(fresh, track, look))
        self.state = self.state.replaced(rows, physics.start(fresh, track))

    def displace(self, where: Tensor, draw: int) -> None:
        """Put the cars of some worlds (bool [B]) where drivers seldom get by themselves: beside the road, at
        any angle. draw: another number, other places. For training; lap counts go on."""
        moved = physics.displaced(self.state, self.track, self.seeds, draw)
        self.state = physics.choose(where.to(self.device), moved, self.state)

    def render(self) -> Tensor:
        return self._paint(False)[0]

    def render_classes(self) -> tuple[Tensor, Tensor]:
        picture, classes = self._paint(True)
        assert classes is not None
        return picture, classes

    def _paint(self, with_classes: bool) -> tuple[Tensor, Tensor | None]:
        if self._painter is None:  # the atlas is painted when somebody first looks
            self._painter = Painter(self.device)
        return self._painter.paint(self.state, self.track, self.scenery, self.look, self.seeds, with_classes)

    def telemetry(self) -> Tensor:
        c, track = self.state, self.track
        half = track.half_width
        error = wrap_angle(c.heading - track.heading(c.s[:, None])[:, 0])
        # 'Ahead' is where the car looks, so who faces backwards reads the bends that he sees.
        sense = either(error.abs() <= 0.5 * torch.pi, 1.0, -1.0)
        ahead = constants((0.0, 15.0, 25.0, 40.0, 80.0, 140.0), str(c.s.device))
        bends = sense[:, None] * track.at(track.curvature, c.s[:, None] + sense[:, None] * ahead)
        here, near, following, mid, far, horizon = bends.unbind(1)
        _, stretch = pattern(track)
        turns = [
            *(c.view * times for times in COMPASS),
            *(c.s * stretch * (2 * math.pi / period) for period in PATTERNS_M),
        ]
        fields = [
            c.speed,
            c.lateral / half,
            error,
            near,
            mid,
            far,
            c.travelled / track.length,
            c.lap,
            c.lateral.abs() >= half,
            c.bump > 0.0,
            horizon,
            *(self.look == look for look in range(len(SPEC.looks))),
            c.steer,
            wrap_angle(c.view - c.heading),
            c.roll,
            c.pitch,
            c.slip,
            here,
            following,
            half,
            *(wave for turn in turns for wave in (torch.sin(turn), torch.cos(turn))),
            *self._gate(),
            *self._rivals().unbind(1),
            *(rival_paint(self.seeds) == paint for paint in range(RIVAL_PAINTS)),
        ]
        return torch.stack([f.to(torch.float32) for f in fields], 1)

    def _gate(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where the gates are, as SPEC.telemetry tells it, [B] each."""
        length = self.track.length[:, None]
        ahead = torch.remainder(gate_places(self.seeds[:, None], self.track) - self.state.s[:, None], length)
        coming, passed = ahead.amin(1), (length - ahead).amin(1)
        turn = passed / (passed + coming) * math.tau
        return _near(either(coming < passed, coming, -passed)), torch.sin(turn), torch.cos(turn)

    def _rivals(self) -> Tensor:
        """Each rival's fields, one rival's behind the other's, [B, RIVALS * 6]."""
        c, track = self.state, self.track
        gap = wrap_gap(c.rival_s - c.s[:, None], track.length[:, None])
        circle = constants(tuple(circle_m(i) for i in range(RIVALS)), str(gap.device))
        turn = (gap + RETURNS_M).clamp(min=0.0).minimum(circle) * (math.tau / circle)
        aside = c.rival_lateral / track.half_width[:, None]
        parts = (_near(gap), torch.sin(turn), torch.cos(turn), aside, c.rival_speed, c.rival_drift)
        return torch.stack(parts, 2).flatten(1)


def _near(gap: Tensor) -> Tensor:
    """Gaps in m, as far as metres count."""
    return gap * torch.exp(-gap.abs() / NEAR_M)


def _look(seeds: Tensor) -> Tensor:
    return hash_bits(seeds, _LOOK) % len(SPEC.looks)
