"""What the simulator shows: clips played by scripted drivers, and plays steered by the autopilot."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from client.autopilot import Autopilot
from engine.backend import Opening
from engine.pacing.session import share_held
from engine.training.reader import small
from games import GAMES, simulator
from games.world import World

CONTEXT_STEPS = 16
WARM_UP_FRAMES = 240
"""Played before anything is measured, so that not every clip shows a standing start."""


@dataclass(frozen=True)
class TrueClip:
    """One seed's truth at step boundaries: CONTEXT_STEPS of context, then the steps a dream is held against.

    small float [T, 3, 60, 90], buttons [T, N] the share held in the step that led there, telemetry [T, F] in
    units; pictures uint8 [480, 720, 3] and classes uint8 [480, 720] of the context and of the steps kept."""

    small: Tensor
    buttons: np.ndarray
    telemetry: np.ndarray
    pictures: dict[int, np.ndarray]
    classes: dict[int, np.ndarray]

    def opening(self, latents: np.ndarray, stride: int) -> Opening:
        """latents [CONTEXT_STEPS, C, 10, 15] of the context's pictures."""
        return Opening(
            latents,
            self.buttons[:CONTEXT_STEPS],
            np.full(CONTEXT_STEPS, stride),
            self.telemetry[:CONTEXT_STEPS],
        )


class Player(Protocol):
    """Who presses the keys in a simulated play."""

    def masks(self, world: World, frame: int) -> int:
        """Button mask for frame `frame` of the step that begins now or has begun."""


class Driver:
    """One of the game's scripted drivers; style None: as its seed has it."""

    def __init__(self, game: str, seed: int, style: str | None = None) -> None:
        self.drivers = simulator(game).Drivers(torch.tensor([seed]), style=style)

    def masks(self, world: World, frame: int) -> int:
        return int(self.drivers.act(world)[0])


class Pilot:
    """The client's autopilot. It sees telemetry once a step, as a frame carries it, and decides every frame;
    a frame later in the step is told how old what it sees is."""

    def __init__(self, game: str) -> None:
        self.game, self.autopilot, self.index = game, Autopilot(GAMES[game]), 0
        self.telemetry: list[float] = []
        self.decided: list[tuple[list[float], int]] = []

    def masks(self, world: World, frame: int) -> int:
        if frame == 0:
            self.see(world.telemetry()[0].numpy())
        return self.decide(frame)

    def see(self, telemetry: np.ndarray) -> None:
        self.telemetry = [float(v) for v in telemetry]

    def decide(self, frame: int) -> int:
        self.index += 1
        self.decided.append((self.telemetry, frame))
        return self.autopilot.decide(self.telemetry, self.index, latency_frames=frame)

    def twin(self) -> "Pilot":
        """Another one who has seen the same, and so would do the same."""
        other = Pilot(self.game)
        for other.telemetry, frame in self.decided:
            other.decide(frame)
        return other


def play_clip(
    game: str, world: World, player: Player, stride: int, steps: int, keep: Collection[int] = ()
) -> TrueClip:
    """Go on with `world` (a batch of one). keep: steps whose full pictures are kept besides the context."""
    rows: list[tuple[Tensor, np.ndarray, np.ndarray]] = []
    pictures: dict[int, np.ndarray] = {}
    classes: dict[int, np.ndarray] = {}
    for step in range(steps):
        masks = []
        for frame in range(stride):
            masks.append(player.masks(world, frame))
            world.step(torch.tensor(masks[-1:]))
        picture, of_class = world.render_classes()
        if step < CONTEXT_STEPS or step in keep:
            pictures[step], classes[step] = picture[0].numpy(), of_class[0].numpy()
        held = share_held(masks, world.spec.n_buttons)
        rows.append((small(picture)[0], held, world.telemetry()[0].numpy()))
    looks, buttons, telemetry = zip(*rows)
    return TrueClip(torch.stack(looks), np.stack(buttons), np.stack(telemetry), pictures, classes)


def driven_world(game: str, seed: int, player: Player, frames: int = WARM_UP_FRAMES) -> World:
    """A world of one seed after the warm-up."""
    world: World = simulator(game).World(torch.tensor([seed]))
    for frame in range(frames):
        world.step(torch.tensor([player.masks(world, frame % 4)]))
    return world


def play_truth(
    game: str, seed: int, stride: int, steps: int, keep: Collection[int], style: str | None = None
) -> TrueClip:
    """A clip of the context and `steps` more, played by a scripted driver."""
    player = Driver(game, seed, style)
    world = driven_world(game, seed, player)
    return play_clip(game, world, player, stride, CONTEXT_STEPS + steps, keep)
