"""The platformer as a batch of worlds: `World`, and its scripted players `Drivers`.

Way of a frame: buttons -> physics.advance -> World._turn_page (death over, level finished) -> render,
telemetry.
"""

from dataclasses import replace as changed

import torch
from torch import Tensor

from games.platformer.driver import Drivers
from games.platformer.level import make_level
from games.platformer.physics import advance
from games.platformer.render import Renderer
from games.platformer.senses import telemetry
from games.platformer.spec import SPEC
from games.platformer.state import CHEER, DEAD, State, fresh, placed
from games.platformer.units import CHEER_FRAMES, DEATH_FRAMES, START_LIVES
from games.select import either

__all__ = ["Drivers", "World"]


class World:
    """B platformer worlds (games.world.World). `level` and `state` are open to drivers and tests."""

    spec = SPEC

    def __init__(self, seeds: Tensor, device: str = "cpu") -> None:
        """seeds: int64 [B]."""
        self.device = device
        self.seeds = seeds.to(device=device, dtype=torch.int64)
        self.level = make_level(self.seeds, torch.zeros_like(self.seeds))
        self.state = fresh(self.level)
        self._renderer: Renderer | None = None

    def step(self, buttons: Tensor, active: Tensor | None = None) -> None:
        """One frame; see games.world.World.step."""
        before = self.state
        self.state = advance(before, self.level, buttons.to(self.device))
        if active is not None:
            self.state = before.replaced(active.to(self.device), self.state)
        self._turn_page()

    def restart(self, where: Tensor, seeds: Tensor) -> None:
        """Begin the worlds `where` (bool [B]) anew with `seeds` (int64 [B])."""
        where = where.to(self.device)
        self.seeds = either(where, seeds.to(self.device), self.seeds)
        self.level = self.level.replaced(where, make_level(self.seeds, torch.zeros_like(self.seeds)))
        self.state = self.state.replaced(where, fresh(self.level))

    def render(self) -> Tensor:
        """uint8 [B, 480, 720, 3]."""
        return self._painter().render(self.level, self.state)

    def render_classes(self) -> tuple[Tensor, Tensor]:
        """The picture and uint8 [B, 480, 720]: 1 player, 2 enemy, 3 coin, 4 moving platform."""
        return self._painter().render_classes(self.level, self.state)

    def telemetry(self) -> Tensor:
        """float32 [B, T] in the order of spec.telemetry."""
        return telemetry(self.level, self.state)

    def _painter(self) -> Renderer:
        if self._renderer is None:
            self._renderer = Renderer(self.device)
        return self._renderer

    def _turn_page(self) -> None:
        """Respawn where the death animation is over; the next (or the first) level where one has ended."""
        s = self.state
        died = (s.mode == DEAD) & (s.timer >= DEATH_FRAMES)
        done = (s.mode == CHEER) & (s.timer >= CHEER_FRAMES)
        over = died & (s.lives <= 0)
        # Reading the flag back costs nothing on a CPU; on a GPU it would wait for the device each frame.
        if self.device == "cpu" and not bool((died | done).any()):
            return
        anew = done | over
        s = self.state.replaced(anew, self._turned(over))
        self.level = self.level.replaced(anew, make_level(self.seeds, s.number))
        self.state = s.replaced(died | done, placed(s, self.level))

    def _turned(self, over: Tensor) -> State:
        """The states at the head of the next level, or of the first one with new lives where `over`."""
        s = self.state
        return changed(
            s,
            number=either(over, 0, s.number + 1),
            lives=either(over, START_LIVES, s.lives),
            finished=either(over, s.finished, s.finished + 1),
            behind=either(over, s.behind, s.behind + self.level.length),
            checkpoint=torch.zeros_like(s.checkpoint),
            time=torch.zeros_like(s.time),
            enemy=torch.zeros_like(s.enemy),
            coin=torch.zeros_like(s.coin),
        )
