"""Reconstruction, next step and rollout of each seed, held against the simulator with the same buttons."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.backend import Backend
from engine.models.autoencoder import from_bytes
from engine.training import measures
from engine.training.evaluation.actions import ActionFollowing
from engine.training.evaluation.distribution import Distribution
from engine.training.evaluation.figures import Figures
from engine.training.evaluation.truth import CONTEXT_STEPS, TrueClip, play_truth
from engine.training.reader import PICTURES, Reader, Readings, small
from games import GAMES

ROLLOUT_STEPS = (1, 2, 4, 8, 15, 30, 75, 150)
SECONDS = (1, 2, 5, 10, 60)
"""When sharpness and probes are read: over the steps of the half second that ends there."""
TOLD = 0.1
"""A value is told on a picture if the reader is less than this share of its range off."""
ACTION_STEPS = 30
FICKLE = "masher"
"""The driver who presses every button often, for a second clip on which action following is judged."""


@dataclass(frozen=True)
class Dreamed:
    """A rollout of n steps. small float [n, 3, 60, 90], telemetry [n, F]; pictures of the steps kept, by
    their number from 1."""

    small: Tensor
    telemetry: np.ndarray
    pictures: dict[int, np.ndarray]


def window(second: int, stride: int) -> range:
    """The steps that end within the half second before `second`, one at least."""
    last = round(second * 60 / stride)
    return range(last - max(1, round(30 / stride)) + 1, last + 1)


class Evaluation:
    """Runs the models along true clips and gathers figures."""

    def __init__(
        self, game: str, backend: Backend, stride: int, steps: int, reader: Reader | None = None
    ) -> None:
        self.game, self.spec, self.stride, self.steps, self.reader = game, GAMES[game], stride, steps, reader
        self.world, self.encoder, self.decoder = backend.world(), backend.encoder(), backend.decoder()
        self.figures, self.distribution = Figures(), Distribution()
        self.actions = ActionFollowing(tuple(str(b.name) for b in self.spec.buttons))
        self.points = tuple(n for n in ROLLOUT_STEPS if n <= steps)
        self.seconds = tuple(s for s in SECONDS if window(s, stride).stop <= steps + 1)
        self.kept = {*self.points, *(n for s in self.seconds for n in window(s, stride))}

    def run(self, seed: int) -> None:
        """Everything that one seed tells."""
        keep = {CONTEXT_STEPS + n - 1 for n in self.kept}
        self.measure(play_truth(self.game, seed, self.stride, self.steps, keep))
        if self.reader:
            steps = min(self.steps, ACTION_STEPS)
            self.follow(play_truth(self.game, seed, self.stride, steps, (), FICKLE))

    def measure(self, clip: TrueClip) -> None:
        """One clip: reconstruction, next step, rollout, probes, action following."""
        latents = self.encoder.encode(np.stack([clip.pictures[t] for t in range(CONTEXT_STEPS)]))
        self._reconstruction(clip, latents)
        self._next_step(clip, self.world.open(clip.opening(latents, self.stride), noise_seed=0))
        dream = self._dream(clip.buttons[CONTEXT_STEPS:], self.kept)
        self._rollout(clip, dream)
        self._sharpness(clip, dream)
        if self.reader:
            self._probes(clip, dream)
            self._follow(clip, dream)
            self._distribution(clip, dream)

    def follow(self, clip: TrueClip) -> None:
        """Action following alone."""
        latents = self.encoder.encode(np.stack([clip.pictures[t] for t in range(CONTEXT_STEPS)]))
        self.world.open(clip.opening(latents, self.stride), noise_seed=0)
        self._follow(clip, self._dream(clip.buttons[CONTEXT_STEPS:], set()))

    def _dream(self, buttons: np.ndarray, keep: set[int]) -> Dreamed:
        looks, telemetry, pictures = [], [], {}
        for n, held in enumerate(buttons, start=1):
            step = self.world.step(held, self.stride)
            picture = self.decoder.decode(step.latent)
            looks.append(small(torch.from_numpy(picture)[None])[0])
            telemetry.append(step.telemetry)
            if n in keep:
                pictures[n] = picture
        return Dreamed(torch.stack(looks), np.stack(telemetry), pictures)

    def _reconstruction(self, clip: TrueClip, latents: np.ndarray) -> None:
        made = as_float(*(self.decoder.decode(z) for z in latents))
        true = as_float(*(clip.pictures[t] for t in range(CONTEXT_STEPS)))
        self.figures.add("autoencoder", measures.psnr(made, true))
        self.figures.add("autoencoder ssim", measures.ssim(made[::4], true[::4]))
        self.figures.add("autoencoder flip", measures.flip(made[-1:], true[-1:]))
        self._masked("autoencoder", clip, range(CONTEXT_STEPS), made, true)

    def _next_step(self, clip: TrueClip, expected: np.ndarray) -> None:
        """From true latents, over the later half of the context, where the past is long enough."""
        first = CONTEXT_STEPS // 2
        at = range(first, CONTEXT_STEPS)
        made = as_float(*(self.decoder.decode(expected[t - 1]) for t in at))
        true, before = (as_float(*(clip.pictures[t - back] for t in at)) for back in (0, 1))
        self.figures.add("next", measures.psnr(made, true))
        self.figures.add("next hold", measures.psnr(before, true))
        self.figures.add("next ssim", measures.ssim(made, true))
        self.figures.add("next flip", measures.flip(made[-1:], true[-1:]))
        self._masked("next", clip, at, made, true)

    def _masked(self, name: str, clip: TrueClip, at: range, made: Tensor, true: Tensor) -> None:
        classes = torch.from_numpy(np.stack([clip.classes[t] for t in at]))
        for k, mask in enumerate(self.spec.masks, start=1):
            self.figures.add(f"{name} mask {mask}", measures.masked_psnr(made, true, classes == k))

    def _rollout(self, clip: TrueClip, dream: Dreamed) -> None:
        hold = as_float(clip.pictures[CONTEXT_STEPS - 1])
        for n in self.points:
            at = CONTEXT_STEPS + n - 1
            true, made = as_float(clip.pictures[at]), as_float(dream.pictures[n])
            again = self.decoder.decode(self.encoder.encode(clip.pictures[at][None])[0])
            self.figures.add(f"rollout {n}", measures.psnr(made, true))
            self.figures.add(f"hold {n}", measures.psnr(hold, true))
            self.figures.add(f"ceiling {n}", measures.psnr(as_float(again), true))
            for i, spec in enumerate(self.spec.telemetry):
                error = abs(float(dream.telemetry[n - 1, i] - clip.telemetry[at, i]))
                self.figures.add(f"telemetry {spec.name} {n}", error)

    def _sharpness(self, clip: TrueClip, dream: Dreamed) -> None:
        for second in self.seconds:
            for n in window(second, self.stride):
                true, made = clip.pictures[CONTEXT_STEPS + n - 1], dream.pictures[n]
                self.figures.add(f"sharp dream {second}", measures.gradient_energy(as_float(made)))
                self.figures.add(f"sharp true {second}", measures.gradient_energy(as_float(true)))

    def _readings(self, clip: TrueClip, dream: Dreamed) -> tuple[Readings, Readings]:
        """What the reader tells of the rollout's steps, on real and on dreamed pictures."""
        assert self.reader
        before = clip.small[CONTEXT_STEPS - PICTURES + 1 : CONTEXT_STEPS]
        real = self.reader.read(clip.small[CONTEXT_STEPS - PICTURES + 1 :], self.stride)
        return real, self.reader.read(torch.cat((before, dream.small)), self.stride)

    def _follow(self, clip: TrueClip, dream: Dreamed) -> None:
        real, dreamed = self._readings(clip, dream)
        steps = slice(0, ACTION_STEPS)
        buttons = clip.buttons[CONTEXT_STEPS:]
        self.actions.add(buttons[steps], real.buttons[steps], dreamed.buttons[steps])

    def _distribution(self, clip: TrueClip, dream: Dreamed) -> None:
        assert self.reader
        real, dreamed = self._readings(clip, dream)
        held = clip.small[CONTEXT_STEPS - 1].expand(PICTURES, -1, -1, -1)
        still = self.reader.read(held, self.stride).features
        for kind, features in (("real", real.features), ("dream", dreamed.features)):
            self.distribution.add(kind, features)
        self.distribution.add("hold", still.expand(len(dream.small), -1))

    def _probes(self, clip: TrueClip, dream: Dreamed) -> None:
        """Error of what is read off the pictures against the simulator's telemetry; a count is added up from
        the last true picture on, as long as nothing (a respawn) moved it faster than it can go. Values also
        where the reader tells them on the simulator's picture of the step: no road is in sight of a car that
        stands across it."""
        assert self.reader
        readings = self._readings(clip, dream)
        for i, spec in enumerate(self.reader.specs):
            column = self.spec.field_index(spec.name)
            true = torch.from_numpy(clip.telemetry[CONTEXT_STEPS - 1 :, column])
            told = torch.ones(len(true) - 1, dtype=torch.bool)
            for label, reading in zip(("floor", "probe"), readings):
                made = reading.fields[:, i]
                if spec.kind == "count":
                    error = (made.cumsum(0) - (true[1:] - true[0])).abs()
                    leaps = true.diff().abs() > 1.5 * spec.high * self.stride
                    error = torch.where(leaps.cumsum(0) > 0, float("nan"), error)
                else:
                    error = (made - true[1:]).abs()
                if spec.unit == "rad":
                    error = torch.minimum(error, 2 * torch.pi - error)
                if label == "floor" and spec.kind == "value":
                    told = error < TOLD * (spec.high - spec.low)
                for second in self.seconds:
                    steps = window(second, self.stride)
                    at = slice(steps.start - 1, steps.stop - 1)
                    self.figures.add(f"{label} {spec.name} {second}", error[at])
                    self.figures.add(f"{label} told {spec.name} {second}", error[at][told[at]])
                    self.figures.add(f"told {spec.name} {second}", told[at].float())


def as_float(*pictures: np.ndarray) -> Tensor:
    """uint8 [480, 720, 3] each -> float [B, 3, 480, 720] in 0..1."""
    return from_bytes(torch.from_numpy(np.stack(pictures)))
