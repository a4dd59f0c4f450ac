"""For tests (`--fake`): a backend and a simulator that run the real engine without torch models or weights.

The fake dream is made so that tests can read it: a latent's first row holds, token by token, how many frames
each button was held so far; the other rows change with every frame. So a button changes a picture exactly
when the picture's step covers it.
"""

import time
from typing import Any

import numpy as np

from engine.backend import Draft, Opening, Step
from engine.fast.own_worlds import OwnWorlds
from games import GAMES
from games.spec import GameSpec

LATENT_SHAPE = (4, 10, 15)
LEVELS_PER_FRAME = 5  # of a button token's brightness, modulo 256
BLOCK_PX = 48


def fake_latent(frames: float, held: np.ndarray) -> np.ndarray:
    """frames: of the game so far; held: float32 [N], frames each button was held so far."""
    latent = np.zeros(LATENT_SHAPE, np.float32)
    latent[:, 0, : len(held)] = held
    latent[:, 1:, :] = frames
    return latent


class FakeStepper:
    def __init__(self, n_buttons: int, n_telemetry: int, step_s: float) -> None:
        self._n_telemetry, self._step_s = n_telemetry, step_s
        self._held = np.zeros(n_buttons, np.float32)
        self._frames = 0
        self._assumed = (self._held, 0)
        self._drafted: Step | None = None

    def open(self, opening: Opening, noise_seed: int) -> np.ndarray:
        self._held = np.zeros_like(self._held)
        self._frames = 0
        self._drafted = None
        return opening.latents[1:]

    def step(self, buttons: np.ndarray, stride: int) -> Step:
        made = self.draft(buttons, stride)
        self._held = self._held + buttons * stride
        self._frames += stride
        self._drafted = None
        return made

    def draft(self, buttons: np.ndarray, stride: int) -> Step:
        if self._drafted is not None and self._is_drafted(buttons, stride):
            return self._drafted
        time.sleep(self._step_s)
        telemetry = np.zeros(self._n_telemetry, np.float32)
        telemetry[0] = frames = self._frames + stride
        self._assumed = (buttons.copy(), stride)
        self._drafted = Step(fake_latent(frames, self._held + buttons * stride), telemetry)
        return self._drafted

    def _is_drafted(self, buttons: np.ndarray, stride: int) -> bool:
        return stride == self._assumed[1] and np.array_equal(buttons, self._assumed[0])


class FakeDecoder:
    def __init__(self, decode_s: float) -> None:
        self._decode_s = decode_s

    def decode(self, latent: np.ndarray) -> np.ndarray:
        time.sleep(self._decode_s)
        tokens = (np.rint(latent[:3] * LEVELS_PER_FRAME) % 256).astype(np.uint8).transpose(1, 2, 0)
        return np.ascontiguousarray(tokens.repeat(BLOCK_PX, 0).repeat(BLOCK_PX, 1))


class FakeEncoder:
    def encode(self, pictures: np.ndarray) -> np.ndarray:
        return np.stack([fake_latent(0, np.zeros(0, np.float32)) for _ in pictures])


class FakeExtrapolator:
    """Goes on counting frames; the buttons' row holds still."""

    def extrapolate(
        self, latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float
    ) -> np.ndarray:
        ahead = latents[-1].copy()
        ahead[:, 1:, :] += time - times[-1]
        return ahead

    def interpolate(
        self, latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float, draft: Draft
    ) -> np.ndarray:
        way = np.float32((time - times[-1]) / (draft.time - times[-1]))
        return latents[-1] + way * (draft.latent - latents[-1])


class FakeBackend:
    name, device, decoder_name, weights_id = "fake", "cpu", "fake", "0" * 12
    min_stride = 1
    latent_shape = LATENT_SHAPE

    def __init__(self, spec: GameSpec, step_s: float = 0.004, decode_s: float = 0.004) -> None:
        self._spec, self._step_s, self._decode_s = spec, step_s, decode_s

    def world(self) -> FakeStepper:
        return FakeStepper(self._spec.n_buttons, len(self._spec.telemetry), self._step_s)

    def worlds(self, players: int) -> OwnWorlds:
        return OwnWorlds(self.world, players)

    def decoder(self) -> FakeDecoder:
        return FakeDecoder(self._decode_s)

    def encoder(self) -> FakeEncoder:
        return FakeEncoder()

    def extrapolator(self) -> FakeExtrapolator:
        return FakeExtrapolator()


class FakeWorld:
    """A games.world.World: the same picture as the fake dream's, made frame by frame."""

    def __init__(self, spec: GameSpec, seeds: Any, device: str = "cpu") -> None:
        self.spec = spec
        self._held = np.zeros(spec.n_buttons, np.float32)
        self._frames = 0

    def step(self, buttons: Any, active: Any = None) -> None:
        mask = int(buttons[0])
        self._held = self._held + np.array([mask >> i & 1 for i in range(self.spec.n_buttons)], np.float32)
        self._frames += 1

    def render(self) -> Any:
        import torch

        return torch.from_numpy(FakeDecoder(0.0).decode(fake_latent(self._frames, self._held)))[None]

    def telemetry(self) -> Any:
        import torch

        telemetry = torch.zeros(1, len(self.spec.telemetry))
        telemetry[0, 0] = self._frames
        return telemetry


def fake_backend(game: str) -> FakeBackend:
    return FakeBackend(GAMES[game])
