"""engine/fast/static_world and cuda_graph against the readable model: uncaptured on the CPU, captured where
there is CUDA (marked gpu)."""

import numpy as np
import pytest
import torch

from engine.backend import Opening
from engine.config import WorldConfig
from engine.fast.dream import Dream
from engine.fast.static_dream import StaticDream
from engine.fast.static_world import Controls, StaticWorld
from engine.fast.torch_backend import TorchStep
from engine.models.world_model import WorldModel
from tests.tiny import shaken, tiny_config

STEPS = 13  # the tiny ring holds 5


def tiny_world() -> WorldModel:
    model = WorldModel(tiny_config().world)
    shaken(model)
    return model


def opening(config: WorldConfig, steps: int = 3, seed: int = 0) -> Opening:
    random = np.random.default_rng(seed)
    latents = random.standard_normal((steps, config.channels, 10, 15)).astype(np.float32)
    latents /= np.sqrt((latents**2).mean(1, keepdims=True))
    buttons = random.random((steps, config.buttons)).astype(np.float32)
    telemetry = random.random((steps, config.telemetry)).astype(np.float32)
    return Opening(latents, buttons, np.full(steps, 4), telemetry)


def dreamed(dream: Dream, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Opening and STEPS steps: latents [T, C, H, W], telemetry [T, F]."""
    expected = dream.open(opening(dream.config), noise_seed=seed)
    random = np.random.default_rng(1)
    steps = [
        dream.step(random.random(dream.config.buttons).astype(np.float32), 1 + t % 8) for t in range(STEPS)
    ]
    return np.concatenate((expected, [s.latent for s in steps])), np.stack([s.telemetry for s in steps])


def test_static_ring_gives_the_dream_past_its_rollover():
    model = tiny_world()
    latents, telemetry = dreamed(Dream("racing", model.config, TorchStep(model, torch.float32)))
    quick = StaticDream("racing", StaticWorld(model))
    for _ in range(2):  # opened again, nothing of the first dream is left
        made, told = dreamed(quick)
        np.testing.assert_allclose(made, latents, atol=2e-5)
        np.testing.assert_allclose(told, telemetry, atol=1e-3, rtol=1e-4)
