"""What a role needs of the models, whatever runs them: OpenVINO, PyTorch on the CPU, CUDA.

Latents are numpy float32 [C, 10, 15] at this border; a backend keeps its own caches on its own device.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Opening:
    """The true frames that a dream begins with, T of them in order, the last one is frame index 0.

    latents [T, C, 10, 15] float32; buttons [T, N] float32, the share of step t each button was held
    (the step that led to latent t); strides [T] int, frames that step covered; telemetry [T, F] float32,
    in units.
    """

    latents: np.ndarray
    buttons: np.ndarray
    strides: np.ndarray
    telemetry: np.ndarray


@dataclass(frozen=True)
class Step:
    """One true step's result: latent [C, 10, 15] float32, telemetry [F] float32 in units (counts as running
    totals)."""

    latent: np.ndarray
    telemetry: np.ndarray


@dataclass(frozen=True)
class Draft:
    """The next true step as it will be if buttons stay as they are: latent [C, 10, 15] float32 of the frame
    index `time`."""

    latent: np.ndarray
    time: float


class WorldStepper(Protocol):
    """The world model with its key-value cache: one session's dream."""

    def open(self, opening: Opening, noise_seed: int) -> np.ndarray:
        """Forget everything, fill the cache from `opening` (T >= 2). Returns what the model expected of each
        of its steps from the true one before, [T - 1, C, 10, 15]."""

    def step(self, buttons: np.ndarray, stride: int) -> Step:
        """One true step. buttons: float32 [N], share of the step's frames each was held; stride: 1 to 8. What
        it gives does not depend on drafts; the last draft costs nothing more if it was of the same."""

    def draft(self, buttons: np.ndarray, stride: int) -> Step:
        """What `step` would give, without taking it."""


class Worlds(Protocol):
    """The dreams of several sessions; what they can share is loaded and compiled once. May be used from
    several threads, one dream by one thread at a time."""

    def join(self) -> WorldStepper:
        """A session's own dream. Raises EngineError when there is no room for one more."""

    def leave(self, dream: WorldStepper) -> None:
        """Its session is over."""


class FrameDecoder(Protocol):
    def decode(self, latent: np.ndarray) -> np.ndarray:
        """latent float32 [C, 10, 15] -> uint8 [480, 720, 3], C-contiguous, the caller's to keep."""


class FrameEncoder(Protocol):
    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 [T, 480, 720, 3] -> latents float32 [T, C, 10, 15] on the token sphere."""


class Extrapolator(Protocol):
    def extrapolate(
        self, latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float
    ) -> np.ndarray:
        """latents float32 [K, C, 10, 15], oldest first, at frame indices `times` [K]; newest buttons [N] (0
        or 1); `time`: the frame index wanted, beyond times[-1]. Returns float32 [C, 10, 15] on the token
        sphere."""

    def interpolate(
        self, latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float, draft: Draft
    ) -> np.ndarray:
        """The same for a `time` between times[-1] and the draft's."""


class Backend(Protocol):
    """All of one game's models on one device. `load_backend` makes one."""

    name: str  # "openvino-bf16", "torch-cpu", "cuda-bf16", ...
    device: str
    decoder_name: str
    weights_id: str  # first 12 hex digits of the weights' checksum
    latent_shape: tuple[int, int, int]
    min_stride: int  # the smallest stride the engine may choose by itself

    def world(self) -> WorldStepper: ...
    def worlds(self, players: int) -> Worlds: ...
    def decoder(self) -> FrameDecoder: ...
    def encoder(self) -> FrameEncoder: ...
    def extrapolator(self) -> Extrapolator: ...


def load_backend(
    game: str,
    *,
    device: str = "cpu",
    roles: tuple[str, ...] = ("world", "decoder"),
    threads: int = 2,
    weights: str | None = None,
    decoder: str | None = None,
) -> Backend:
    """The fastest backend this machine has for `game`; compiles only what `roles` need.

    weights: a directory instead of the shipped assets/weights/<game>. decoder: "cpu" or "wide" instead of
    what fits the device. Raises WeightsError (missing, truncated or altered weights, no wide decoder; wrong
    shapes in the config), whose text says what to do."""
    from engine.fast.choose import choose_backend

    return choose_backend(game, device=device, roles=roles, threads=threads, weights=weights, decoder=decoder)
