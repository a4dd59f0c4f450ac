"""The extrapolators of the decoder ranks, on numpy arrays: the learned one where it was trained, else the
sphere map. Geometry runs in PyTorch on the CPU in float32 (0.3 ms); what runs the network is the backend's
matter."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from engine.models.extrapolator import extrapolate
from engine.models.extrapolator_net import Heads, gate, last_motion, moved, time_features

RunNet = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""ExtrapolatorNet.forward on arrays: motion, newest [1, C, H, W], told [1, N + 4] -> the heads."""
MOST_RATIO = 2.0
"""Steps beyond the newest latent that any extrapolator was made for; it stands still after that."""
MOST_STRIDE = 8.0


class SphereExtrapolator:
    """The gated exponential map on the last two latents; it does not look at the buttons."""

    uses_buttons = False

    def extrapolate(
        self, latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float
    ) -> np.ndarray:
        if len(latents) < 2 or time <= times[-1]:
            return latents[-1]
        before, newest = torch.from_numpy(latents[-2]), torch.from_numpy(latents[-1])
        ratio = (time - float(times[-1])) / max(1.0, float(times[-1] - times[-2]))
        return extrapolate(before, newest, min(ratio, MOST_RATIO)).numpy()


class LearnedExtrapolator:
    """The small network, gated by the errors it predicts. See engine.backend.Extrapolator."""

    uses_buttons = True

    def __init__(self, run: RunNet, gated: bool = True) -> None:
        self.run, self.gated = run, gated

    @torch.inference_mode()
    def extrapolate(
        self, latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float
    ) -> np.ndarray:
        if len(latents) < 2 or time <= times[-1]:
            return latents[-1]
        before, newest = torch.from_numpy(latents[-2])[None], torch.from_numpy(latents[-1])[None]
        stride = min(max(float(times[-1] - times[-2]), 1.0), MOST_STRIDE)
        ahead = min(float(time - times[-1]), MOST_RATIO * stride)
        motion = last_motion(before, newest)
        held = torch.from_numpy(np.asarray(buttons, np.float32))[None]
        told = time_features(held, torch.tensor([stride]), torch.tensor([ahead]))
        heads = Heads(*map(torch.from_numpy, self.run(motion.numpy(), newest.numpy(), told.numpy())))
        trust = gate(before, newest, heads) if self.gated else 1.0
        made: Tensor = moved(newest, motion, heads, torch.tensor(ahead / stride), trust)
        return made[0].numpy()


class TorchNet:
    """The network in PyTorch, on the model's device."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self.model, self.dtype = model, dtype
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def __call__(
        self, motion: np.ndarray, newest: np.ndarray, told: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inputs = (torch.from_numpy(x).to(self.device) for x in (motion, newest, told))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            push, gain, log_errors = (x.float().cpu().numpy() for x in self.model(*inputs))
        return push, gain, log_errors
