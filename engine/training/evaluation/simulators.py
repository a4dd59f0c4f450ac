"""B simulators of one game that step together, each steered by a pilot of its own.

The batch's twin of truth.driven_world and play_clip. On a GPU the frame is captured and the pictures stay
there; a simulator on the CPU gives the same bytes in any batch."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from engine.training.captured import Captured, Pinned
from engine.training.evaluation.truth import Pilot
from games import simulator
from games.world import World


class Simulators:
    """One world a seed, on `device`."""

    def __init__(self, game: str, seeds: Sequence[int], device: str) -> None:
        self._device = device
        self._world: World = simulator(game).World(torch.tensor(seeds, device=device), device=device)
        self._told: np.ndarray | None = None
        self._frame: Callable[[Tensor], None] = self._world.step
        if device == "cuda":
            self._frame = captured_frame(self._world, torch.ones(len(seeds), dtype=torch.bool, device=device))

    def steer(self, pilots: Sequence[Pilot], frames: int) -> list[list[int]]:
        """One step of `frames` frames. Returns each pilot's button masks."""
        for pilot, told in zip(pilots, self.telemetry()):
            pilot.see(told)
        rows = [[pilot.decide(frame) for pilot in pilots] for frame in range(frames)]
        for row in rows:
            self._frame(torch.tensor(row, device=self._device))
        self._told = None
        return [list(masks) for masks in zip(*rows)]

    def telemetry(self) -> np.ndarray:
        """[B, F] in units, waits for the device."""
        if self._told is None:
            self._told = self._world.telemetry().cpu().numpy()
        return self._told

    def render(self) -> Tensor:
        """uint8 [B, 480, 720, 3] on the device."""
        return self._world.render()


def captured_frame(world: World, active: Tensor) -> Captured:
    """world.step as one graph: as engine.training.data.Simulation has it. active: bool [B]."""
    pinned = Pinned(world)

    def advance(buttons: Tensor) -> None:
        world.step(buttons, active)
        pinned.settle()

    return Captured(advance)
