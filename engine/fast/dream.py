"""One session's dream: the world model's ring of keys and values, its clock of steps, its telemetry totals.

The model itself is a callable on numpy arrays (an OpenVINO graph or a PyTorch module), so every backend
dreams alike."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from engine.backend import Opening, Step
from engine.config import WorldConfig
from engine.fast.bounds import Bounds
from engine.fast.checkpoint import Checkpoints
from engine.fast.sight import Sight
from engine.fast.snapshot import Snapshot
from engine.models.layers import rotary
from engine.models.telemetry import TelemetryScale
from games import GAMES

StepFunction = Callable[[list[np.ndarray]], tuple[np.ndarray, np.ndarray, np.ndarray]]
EMPTY = np.float32(-1e9)
"""Attention bias of a ring slot that holds nothing yet."""


@dataclass(frozen=True)
class Made:
    """What the model gives: latent [C, H, W], told [F], and its ring entries where the ring is kept here."""

    latent: np.ndarray
    told: np.ndarray
    entries: np.ndarray | None = None


@dataclass(frozen=True)
class _Drafted:
    """A step computed ahead of its time."""

    buttons: np.ndarray
    stride: int
    made: Made

    def is_of(self, buttons: np.ndarray, stride: int) -> bool:
        return stride == self.stride and np.array_equal(buttons, self.buttons)


class Dream:
    """See engine.backend.WorldStepper. The ring holds the last context - 1 steps, in any order: rotary keys
    carry their age. ring_type: of its numbers, as `run` takes and gives them; only all zeros must mean 0.
    sight: puts right what is told of what lies ahead; None: it is told as the model does."""

    def __init__(
        self,
        game: str,
        config: WorldConfig,
        run: StepFunction,
        ring_type: type = np.float32,
        sight: Sight | None = None,
    ) -> None:
        self.config, self.run, self.sight = config, run, sight
        self.scale, self.bounds = TelemetryScale(GAMES[game].telemetry), Bounds(GAMES[game])
        self.checkpoints = Checkpoints(GAMES[game])
        slots = config.context - 1
        self.ring: np.ndarray = np.zeros(
            (len(config.time_layers), 2, slots, config.tokens, config.heads, config.head_width), ring_type
        )
        self.bias = np.full(slots, EMPTY, np.float32)
        self._noise: np.ndarray | None = None
        self._drafted: _Drafted | None = None

    def open(self, opening: Opening, noise_seed: int) -> np.ndarray:
        """Forget everything, fill the ring from the opening's steps. Returns what was expected of each of
        them from the true one before, [T - 1, C, H, W]: the next step's quality can be read off it."""
        self.random = np.random.default_rng(noise_seed)
        self._noise = self._drafted = None
        self.bias[:] = EMPTY
        self.number = 0
        before = np.concatenate((opening.telemetry[:1], opening.telemetry[:-1]))
        told = self.scale.scaled(
            *map(torch.from_numpy, (opening.telemetry, before, opening.strides.astype(np.float32)))
        )
        self.totals = torch.from_numpy(opening.telemetry[-1].copy())
        self.previous = self.latent = opening.latents[0]
        expected = []
        for t in range(1, len(opening.latents)):
            self.told = told[t - 1].numpy()
            expected.append(self._advance(opening.buttons[t], int(opening.strides[t]))[0])
            self.previous, self.latent = opening.latents[t - 1], opening.latents[t]
        self.told = told[-1].numpy()
        self.checkpoints.open(Snapshot(self.latent, self.told, self.totals.numpy()))
        return np.stack(expected)

    def step(self, buttons: np.ndarray, stride: int) -> Step:
        """One true step. buttons [N] float32 shares; stride 1 to max_stride."""
        return self.file(*self._advance(buttons, stride), stride)

    def draft(self, buttons: np.ndarray, stride: int) -> Step:
        """The next step, not filed: that one draws no other noise, and is this one if it is of the same."""
        if self._drafted is None or not self._drafted.is_of(buttons, stride):
            self._drop_draft()
            self._keep()
            self._drafted = _Drafted(np.array(buttons, np.float32), stride, self._computed(buttons, stride))
        made = self._drafted.made
        filed = self.checkpoints.draft(self._snapshot(made.latent, made.told, stride), stride)
        return Step(filed.latent, filed.totals)

    def file(self, latent: np.ndarray, told: np.ndarray, stride: int) -> Step:
        """What a step made is what the next one begins from; if it led back to a checkpoint, the next one
        begins there, as behind a cut: `previous` stays the picture before."""
        filed = self.checkpoints.file(self._snapshot(latent, told, stride), stride)
        self.previous, self.latent, self.told = self.latent, filed.latent, filed.told
        self.totals = torch.from_numpy(filed.totals)
        return Step(filed.latent, filed.totals)

    def drawn(self) -> np.ndarray:
        """The next step's random vector, [D] float32, the same until that is filed."""
        if self._noise is None:
            lively = self.config.lively > 0 and self.random.random() < self.config.lively
            noise = self.random.standard_normal(self.config.noise, np.float32)
            self._noise = noise * np.float32(1.0 if lively else self.config.temperature)
        return self._noise

    def _snapshot(self, latent: np.ndarray, told: np.ndarray, stride: int) -> Snapshot:
        told = self.bounds.kept(told)
        told = told if self.sight is None else self.sight.corrected(latent, told)
        totals = self.scale.in_units(torch.from_numpy(told), self.totals, stride)
        told, counted = self.bounds.counted(told, totals.numpy(), self.totals.numpy())
        return Snapshot(latent, told, counted)

    def _advance(self, buttons: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
        """Take what was drafted, if it is of the same, else run the model; file its keys and values; returns
        what it made."""
        if self._drafted is None or not self._drafted.is_of(buttons, stride):
            self._drop_draft()
            made = self._computed(buttons, stride)
        else:
            made = self._drafted.made
        self._file_entries(made)
        self._noise = self._drafted = None
        self.number += 1
        return made.latent, made.told

    def _drop_draft(self) -> None:
        if self._drafted is not None:
            self._drafted = None
            self._back()

    def _keep(self) -> None:
        """Before a draft: remember whatever `_computed` changes."""

    def _back(self) -> None:
        """After a draft that is not taken: to what was remembered."""

    def _file_entries(self, made: Made) -> None:
        slot = self.number % len(self.bias)
        self.ring[:, :, slot], self.bias[slot] = made.entries, 0

    def _computed(self, buttons: np.ndarray, stride: int) -> Made:
        """Run the model on the latent at hand."""
        cos, sin = rotary(torch.tensor(self.number), self.config.head_width)
        noise = self.drawn()
        made, told, entries = self.run(
            [
                self.latent[None],
                self.previous[None],
                np.asarray(buttons, np.float32)[None, None],
                np.full((1, 1), stride, np.float32),
                np.ascontiguousarray(self.told, np.float32)[None, None],
                np.zeros((1, 1), np.float32),
                noise[None, None],
                cos.numpy(),
                sin.numpy(),
                self.ring,
                self.bias,
            ]
        )
        return Made(made[0], told[0], entries)
