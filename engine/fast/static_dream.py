"""A dream whose ring lives in a static world: on a GPU, in a graph, or shared over ranks."""

import numpy as np

from engine.fast.dream import Dream
from engine.fast.static_world import Controls, World
from engine.models.telemetry import TelemetryScale
from games import GAMES


class StaticDream(Dream):
    """See engine.backend.WorldStepper. Gives what Dream gives for the same seed: noise is drawn here, once,
    and goes to all ranks with the buttons. Holds slot 0 of a world of one."""

    def __init__(self, game: str, world: World) -> None:
        self.config, self.world = world.config, world
        self.scale = TelemetryScale(GAMES[game].telemetry)
        self.bias = np.zeros(0, np.float32)  # the ring is not here
        self.number = 0
        self._made: np.ndarray | None = None

    def _advance(self, buttons: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
        if self.number == 0:
            self.world.forget(0)
        if self.latent is not self._made:  # an opening's true latent, not the world's own
            self.world.place(0, self.latent, self.previous, self.told)
        controls = Controls(
            buttons=np.asarray(buttons, np.float32)[None],
            noise=self.random.standard_normal(self.config.noise, np.float32)[None],
            strides=np.array([stride], np.float32),
            active=np.ones(1, np.float32),
        )
        self.world.step(controls.packed())
        self.number += 1
        self._made, told = self.world.made(0)
        return self._made, told
