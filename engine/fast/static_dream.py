"""A dream whose ring lives in a static world: on a GPU, in a graph, or shared over ranks."""

import numpy as np

from engine.backend import Step
from engine.fast.bounds import Bounds
from engine.fast.checkpoint import Checkpoints
from engine.fast.dream import Dream, Made
from engine.fast.sight import Sight
from engine.fast.static_world import Controls, World
from engine.models.telemetry import TelemetryScale
from games import GAMES


class StaticDream(Dream):
    """See engine.backend.WorldStepper. Gives what Dream gives for the same seed: noise is drawn here, once,
    and goes to all ranks with the buttons. Holds one of the world's slots; the others wait while it steps
    alone, see slots.py for steps of several."""

    def __init__(self, game: str, world: World, slot: int = 0, sight: Sight | None = None) -> None:
        self.config, self.world, self.slot, self.sight = world.config, world, slot, sight
        self.scale, self.bounds = TelemetryScale(GAMES[game].telemetry), Bounds(GAMES[game])
        self.checkpoints = Checkpoints(GAMES[game])
        self.bias = np.zeros(0, np.float32)  # the ring is not here
        self.number = 0
        self._made: Made | None = None
        """What the world goes on from by itself."""
        self._noise = self._drafted = None

    def controls(self, buttons: np.ndarray, stride: int) -> np.ndarray:
        """This slot's row of Controls.packed for its next step; draws its noise, and places what it begins
        from where that is not the world's own."""
        self._place()
        row = Controls(
            buttons=np.asarray(buttons, np.float32)[None],
            noise=self.drawn()[None],
            strides=np.array([stride], np.float32),
            active=np.ones(1, np.float32),
        )
        return row.packed()[0]

    def _place(self) -> None:
        if self.number == 0:
            self.world.forget(self.slot)
        made = self._made
        # An opening's true latent, a checkpoint's, telemetry put right: the world has none of these.
        if made is None or self.latent is not made.latent or self.told is not made.told:
            self.world.place(self.slot, self.latent, self.previous, self.told)

    def stepped(self, latent: np.ndarray, told: np.ndarray, stride: int) -> Step:
        """The world has stepped this slot, with its controls, to these."""
        assert self._drafted is None, "the slots of a batch make no drafts"
        self._noise = None
        self.number += 1
        self._made = Made(latent, told)
        return self.file(latent, told, stride)

    def _computed(self, buttons: np.ndarray, stride: int) -> Made:
        """The world's own state moves on with it."""
        row = self.controls(buttons, stride)
        controls = np.zeros((self.world.slots, len(row)), np.float32)
        controls[self.slot] = row
        self.world.step(controls)
        return Made(*self.world.made(self.slot))

    def _keep(self) -> None:
        self._place()
        self.world.keep(self.slot)

    def _back(self) -> None:
        self.world.back(self.slot)

    def _file_entries(self, made: Made) -> None:
        self._made = made  # the ring is the world's
