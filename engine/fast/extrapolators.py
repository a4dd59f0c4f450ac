"""The extrapolators of the decoder ranks, on numpy arrays: the learned one where it was trained, else the
sphere map. Geometry runs in PyTorch on the CPU in float32 (0.3 ms); what runs the network is the backend's
matter."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from engine.backend import Draft
from engine.models.extrapolator import exp_map, extrapolate, log_map
from engine.models.extrapolator_net import Heads, between, gate, last_motion, moved, time_features

RunNet = Callable[[Sequence[np.ndarray]], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""ExtrapolatorNet.forward on arrays: motion, newest [1, C, H, W], told [1, N + 4] and, with a draft, toward
[1, C, H, W], drafted [1, 1] -> the heads."""
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

    def interpolate(
        self, latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float, draft: Draft
    ) -> np.ndarray:
        """Along the great circle."""
        newest = torch.from_numpy(latents[-1])
        toward = log_map(newest, torch.from_numpy(draft.latent))
        return exp_map(newest, toward * way_to(times, time, draft)).numpy()


class LearnedExtrapolator:
    """The small network; without a draft it is gated by the errors it predicts. takes_drafts: it was trained
    with them. See engine.backend.Extrapolator."""

    uses_buttons = True

    def __init__(self, run: RunNet, gated: bool = True, takes_drafts: bool = False) -> None:
        self.run, self.gated, self.takes_drafts = run, gated, takes_drafts

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
        heads = self._heads(motion, newest, told)
        trust = gate(before, newest, heads) if self.gated else 1.0
        made: Tensor = moved(newest, motion, heads, torch.tensor(ahead / stride), trust)
        return made[0].numpy()

    @torch.inference_mode()
    def interpolate(
        self, latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float, draft: Draft
    ) -> np.ndarray:
        if not self.takes_drafts:
            return self._closed(latents, times, buttons, time, draft)
        newest = torch.from_numpy(latents[-1])[None]
        before = torch.from_numpy(latents[-2])[None] if len(latents) > 1 else newest
        toward = log_map(newest, torch.from_numpy(draft.latent)[None])
        stride = min(max(draft.time - float(times[-1]), 1.0), MOST_STRIDE)
        way = way_to(times, time, draft)
        held = torch.from_numpy(np.asarray(buttons, np.float32))[None]
        told = time_features(held, torch.tensor([stride]), torch.tensor([way * stride]))
        heads = self._heads(last_motion(before, newest), newest, told, toward, torch.ones(1, 1))
        made: Tensor = between(newest, toward, heads, torch.tensor(way))
        return made[0].numpy()

    def _closed(
        self, latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float, draft: Draft
    ) -> np.ndarray:
        """Extrapolated, and what that misses of the draft made up for on the way: for a network that knows no
        drafts this was measured better than the great circle, and than not to look at the draft."""
        newest, way = torch.from_numpy(latents[-1]), way_to(times, time, draft)
        here, there = (
            log_map(newest, torch.from_numpy(self.extrapolate(latents, times, buttons, when)))
            for when in (time, draft.time)
        )
        missing = log_map(newest, torch.from_numpy(draft.latent)) - there
        return exp_map(newest, here + missing * way).numpy()

    def _heads(self, *inputs: Tensor) -> Heads:
        return Heads(*map(torch.from_numpy, self.run([x.numpy() for x in inputs])))


def way_to(times: np.ndarray, time: float, draft: Draft) -> float:
    """How far `time` is on the way from the newest latent to the draft, 0 to 1."""
    newest = float(times[-1])
    return min(max((time - newest) / (draft.time - newest), 0.0), 1.0)


class TorchNet:
    """The network in PyTorch, on the model's device."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self.model, self.dtype = model, dtype
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def __call__(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inputs = (torch.from_numpy(x).to(self.device) for x in arrays)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            push, gain, log_errors = (x.float().cpu().numpy() for x in self.model(*inputs))
        return push, gain, log_errors
