"""Minutes of play by the autopilot inside the dream, beside the same autopilot in the simulator.

    start: the simulator, steered by the autopilot -> opening
    dream: telemetry of the newest step -> autopilot -> buttons -> world model -> decoder -> trace
    reference: the simulator goes on from the same start, steered by a copy of the same autopilot -> trace
A trace keeps small pictures and a few numbers a step; evaluation/judge.py makes figures of it. Many seeds at
once, on a GPU: evaluation/many_plays.py."""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from engine.backend import FrameDecoder, FrameEncoder, Opening, Step, WorldStepper
from engine.pacing.session import share_held
from engine.training import measures
from engine.training.evaluation.pictures import halved
from engine.training.evaluation.progress import counted
from engine.training.evaluation.rollout import as_float
from engine.training.evaluation.truth import CONTEXT_STEPS, Pilot, driven_world, play_clip
from engine.training.reader import small
from games import GAMES
from games.world import World

WARM_UP_FRAMES = 120
DEAR_EVERY_S = 1.0
"""Sharpness, and how far astray the latent is, are measured so often; small pictures are kept of every
step."""
MOVING = {"racing": ("THROTTLE",), "platformer": ("LEFT", "RIGHT", "JUMP")}
"""Buttons after which the picture must change."""


@dataclass
class Trace:
    """One play, dreamed or real, by step; step 0 is the last true one before the play.

    small uint8 [3, 60, 90]; telemetry [F]; moving: a button of MOVING was held; sharp: gradient energy, nan
    where it was not measured; spread: of the latent's tokens, nan for real play;
    astray: see `astray`, nan where it was not measured, and its mean over true latents; pictures uint8
    [240, 360, 3] of the steps kept."""

    game: str
    stride: int
    keep: Collection[int] = ()
    small: list[Tensor] = field(default_factory=list)
    telemetry: list[np.ndarray] = field(default_factory=list)
    moving: list[bool] = field(default_factory=list)
    sharp: list[float] = field(default_factory=list)
    spread: list[float] = field(default_factory=list)
    astray: list[float] = field(default_factory=list)
    astray_at_first: float = float("nan")
    pictures: dict[int, np.ndarray] = field(default_factory=dict)

    def add(self, picture: np.ndarray, telemetry: np.ndarray, masks: list[int], latent: np.ndarray | None):
        """One step's end. masks: buttons of its frames."""
        number = len(self.small)
        self.small.append(small_bytes(torch.from_numpy(picture)[None])[0])
        measured = self.measured(number)
        sharp = float(measures.gradient_energy(as_float(picture))[0]) if measured else float("nan")
        # Tokens are pinned to one radius: what can shrink is how much they differ from one another.
        spread = float("nan") if latent is None else float(latent.std((1, 2)).mean())
        self.note(telemetry, masks, sharp, spread)
        if number in self.keep:
            self.pictures[number] = halved(picture)

    @property
    def dreamed(self) -> bool:
        """Whether its pictures were decoded from latents: the simulator has none."""
        return not np.isnan(self.spread).all()

    def note(self, telemetry: np.ndarray, masks: list[int], sharp: float, spread: float) -> None:
        """One step's end but for its picture."""
        buttons = GAMES[self.game].buttons
        active = sum(int(buttons[name]) for name in MOVING[self.game])
        self.telemetry.append(np.array(telemetry))
        self.moving.append(bool(masks) and all(mask & active for mask in masks))
        self.sharp.append(sharp)
        self.spread.append(spread)

    def measured(self, number: int) -> bool:
        """Whether the dear figures are taken of this step."""
        return number % dear_every(self.stride) == 0


def dear_every(stride: int) -> int:
    """In steps."""
    return max(1, round(DEAR_EVERY_S * 60 / stride))


def small_bytes(pictures: Tensor) -> Tensor:
    """uint8 [B, 480, 720, 3] -> uint8 [B, 3, 60, 90], where the pictures are."""
    return (small(pictures) * 255).round().to(torch.uint8)


def astray(latent: np.ndarray, encoder: FrameEncoder, decoder: FrameDecoder) -> float:
    """Root mean square of encode(decode(z)) - z: large where z is the latent of nothing that can be seen."""
    again = encoder.encode(decoder.decode(latent)[None])[0]
    return float(np.sqrt(np.mean((again - latent) ** 2)))


@dataclass(frozen=True)
class Start:
    """Where a play begins: the simulator, the autopilot, the opening, the last true picture."""

    world: World
    pilot: Pilot
    opening: Opening
    picture: np.ndarray


def begin(game: str, seed: int, stride: int, encoder: FrameEncoder) -> Start:
    """The autopilot plays the warm-up and the context in the simulator."""
    pilot = Pilot(game)
    world = driven_world(game, seed, pilot, frames=WARM_UP_FRAMES)
    clip = play_clip(game, world, pilot, stride, CONTEXT_STEPS)
    latents = encoder.encode(np.stack([clip.pictures[t] for t in range(CONTEXT_STEPS)]))
    return Start(world, pilot, clip.opening(latents, stride), clip.pictures[CONTEXT_STEPS - 1])


def dream(
    game: str,
    start: Start,
    stride: int,
    steps: int,
    world: WorldStepper,
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    keep: Collection[int] = (),
    who: str = "",
) -> Trace:
    """`steps` steps of the dream, as fast as the machine can. who: see `counted`."""
    pilot, trace = start.pilot.twin(), Trace(game, stride, keep)
    opening = start.opening
    world.open(opening, noise_seed=0)
    step, masks = Step(opening.latents[-1], opening.telemetry[-1]), [0]
    trace.add(decoder.decode(step.latent), step.telemetry, masks, step.latent)
    trace.astray_at_first = float(np.mean([astray(z, encoder, decoder) for z in opening.latents[::4]]))
    for number in counted(steps, stride, who):
        pilot.see(step.telemetry)
        masks = [pilot.decide(frame) for frame in range(stride)]
        step = world.step(share_held(masks, GAMES[game].n_buttons), stride)
        trace.add(decoder.decode(step.latent), step.telemetry, masks, step.latent)
        far = astray(step.latent, encoder, decoder) if trace.measured(number) else float("nan")
        trace.astray.append(far)
    return trace


def reference(
    game: str, start: Start, stride: int, steps: int, keep: Collection[int] = (), who: str = ""
) -> Trace:
    """The simulator goes on; `start.world` is used up. who: see `counted`."""
    pilot, trace = start.pilot.twin(), Trace(game, stride, keep)
    trace.add(start.picture, start.opening.telemetry[-1], [0], None)
    for _ in counted(steps, stride, who, "simulated"):
        masks = []
        for frame in range(stride):
            masks.append(pilot.masks(start.world, frame))
            start.world.step(torch.tensor(masks[-1:]))
        picture = start.world.render()[0].numpy()
        trace.add(picture, start.world.telemetry()[0].numpy(), masks, None)
    return trace
