"""How a dream begins: the game's own simulator stands still for a few steps, its frames are rendered and
encoded.

The only simulator code that runs for a dream, once, before the first frame is shown.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.backend import FrameEncoder, Opening
from games.spec import GameSpec

STEPS = 8


def make_opening(
    world_class: Callable[..., Any], spec: GameSpec, encoder: FrameEncoder, seed: int, stride: int
) -> Opening:
    """STEPS steps of `stride` frames without buttons. world_class: a games.world.World, made for one seed."""
    import torch

    nothing = torch.zeros(1, dtype=torch.int64)
    pictures = np.empty((STEPS, spec.height, spec.width, 3), np.uint8)
    telemetry = np.empty((STEPS, len(spec.telemetry)), np.float32)
    with torch.inference_mode():
        world = world_class(torch.tensor([seed], dtype=torch.int64))
        for t in range(STEPS):
            for _ in range(stride):
                world.step(nothing)
            pictures[t] = world.render()[0].numpy()
            telemetry[t] = world.telemetry()[0].numpy()
    return Opening(
        latents=encoder.encode(pictures),
        buttons=np.zeros((STEPS, spec.n_buttons), np.float32),
        strides=np.full(STEPS, stride, np.int64),
        telemetry=telemetry,
    )
