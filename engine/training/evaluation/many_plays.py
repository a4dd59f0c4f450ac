"""Long plays of many seeds at once: the quick twin of long_play.py, which says what a play is.

    start_all: simulators, steered by a pilot each -> openings
    dream_all: telemetry of the newest steps -> pilots -> buttons -> one world step of all -> one decode of
        all -> traces
    reference_all: the simulators go on, steered by copies of the same pilots -> traces
Nothing in a step mixes seeds. Where the models or simulators compute in another order for a batch (on a GPU)
a play goes its own way after a while; on a CPU it is, step by step, that of the seed by itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from engine.backend import Opening, Step, Worlds, WorldStepper
from engine.fast.slots import Due, WorldSlots
from engine.fast.static_dream import StaticDream
from engine.pacing.session import share_held
from engine.training.evaluation.canvas import Canvas, astray
from engine.training.evaluation.long_play import WARM_UP_FRAMES, Trace
from engine.training.evaluation.progress import counted
from engine.training.evaluation.recorder import Recorder
from engine.training.evaluation.simulators import Simulators
from engine.training.evaluation.truth import CONTEXT_STEPS, Pilot
from games import GAMES

SEEING_FRAMES = 4  # a pilot sees telemetry so often in the warm-up, see truth.driven_world


@dataclass(frozen=True)
class Starts:
    """Where B plays begin: long_play.Start of each. pictures uint8 [B, 480, 720, 3], the last true ones."""

    simulators: Simulators
    pilots: list[Pilot]
    openings: list[Opening]
    pictures: Tensor


def start_all(game: str, seeds: Sequence[int], stride: int, canvas: Canvas, device: str) -> Starts:
    """The autopilots play the warm-up and the context in simulators on `device`, which is the canvas's."""
    simulators, pilots = Simulators(game, seeds, device), [Pilot(game) for _ in seeds]
    for _ in range(WARM_UP_FRAMES // SEEING_FRAMES):
        simulators.steer(pilots, SEEING_FRAMES)
    rows = []
    for _ in range(CONTEXT_STEPS):
        masks = simulators.steer(pilots, stride)
        pictures = simulators.render()
        held = np.stack([share_held(one, GAMES[game].n_buttons) for one in masks])
        rows.append((canvas.encode(pictures), held, simulators.telemetry()))
    latents, buttons, telemetry = (np.stack(column, 1) for column in zip(*rows))
    strides = np.full(CONTEXT_STEPS, stride)
    openings = [Opening(z, held, strides, told) for z, held, told in zip(latents, buttons, telemetry)]
    return Starts(simulators, pilots, openings, pictures)


def dream_all(
    game: str, starts: Starts, traces: Sequence[Trace], steps: int, worlds: Worlds, canvas: Canvas, who: str
) -> None:
    """`steps` steps of every dream, into `traces`. who: see `counted`."""
    stride, recorder = traces[0].stride, Recorder(traces)
    pilots = [pilot.twin() for pilot in starts.pilots]
    with opened(worlds, starts.openings) as dreams:
        newest = [Step(opening.latents[-1], opening.telemetry[-1]) for opening in starts.openings]
        latents, masks = latents_of(newest), [[0]] * len(pilots)
        recorder.add(canvas.paint(latents), telemetry_of(newest), masks, latents)
        for trace, first in zip(traces, astray_at_first(starts.openings, canvas)):
            trace.astray_at_first = float(first)
        for number in counted(steps, stride, who):
            for pilot, step in zip(pilots, newest):
                pilot.see(step.telemetry)
            masks = [[pilot.decide(frame) for frame in range(stride)] for pilot in pilots]
            held = [share_held(one, GAMES[game].n_buttons) for one in masks]
            newest = step_all(worlds, dreams, held, stride)
            latents = latents_of(newest)
            pictures = canvas.paint(latents)
            recorder.add(pictures, telemetry_of(newest), masks, latents)
            measured = recorder.measured(number)
            far = astray(latents, pictures, canvas).tolist() if measured else [float("nan")] * len(traces)
            for trace, value in zip(traces, far):
                trace.astray.append(value)
        recorder.flush()


def reference_all(starts: Starts, traces: Sequence[Trace], steps: int, who: str) -> None:
    """The simulators go on, into `traces`; `starts.simulators` is used up."""
    stride, recorder = traces[0].stride, Recorder(traces)
    pilots, simulators = [pilot.twin() for pilot in starts.pilots], starts.simulators
    recorder.add(starts.pictures, simulators.telemetry(), [[0]] * len(pilots), None)
    for _ in counted(steps, stride, who, "simulated"):
        masks = simulators.steer(pilots, stride)
        recorder.add(simulators.render(), simulators.telemetry(), masks, None)
    recorder.flush()


@contextmanager
def opened(worlds: Worlds, openings: Sequence[Opening]) -> Iterator[list[WorldStepper]]:
    """A dream for each opening, with a noise stream of its own, as a play by itself has it."""
    dreams = [worlds.join() for _ in openings]
    try:
        for dream, opening in zip(dreams, openings):
            dream.open(opening, noise_seed=0)
        yield dreams
    finally:
        for dream in dreams:
            worlds.leave(dream)


def step_all(
    worlds: Worlds, dreams: Sequence[WorldStepper], buttons: Sequence[np.ndarray], stride: int
) -> list[Step]:
    """One step of every dream, of all at once where the backend can."""
    if not isinstance(worlds, WorldSlots):
        return [dream.step(held, stride) for dream, held in zip(dreams, buttons)]
    due = []
    for dream, held in zip(dreams, buttons):
        assert isinstance(dream, StaticDream)
        due.append(Due(dream, held, stride))
    return worlds.step(due)


def astray_at_first(openings: Sequence[Opening], canvas: Canvas) -> np.ndarray:
    """Of true latents, the mean of every fourth of the context, [B]."""
    far = []
    for t in range(0, CONTEXT_STEPS, 4):
        latents = np.stack([opening.latents[t] for opening in openings])
        far.append(astray(latents, canvas.paint(latents), canvas))
    return np.mean(far, 0)


def latents_of(steps: Sequence[Step]) -> np.ndarray:
    return np.stack([step.latent for step in steps])


def telemetry_of(steps: Sequence[Step]) -> np.ndarray:
    return np.stack([step.telemetry for step in steps])
