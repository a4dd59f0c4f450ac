"""The learned extrapolator on a GPU: network and geometry in one CUDA graph, so that a filled frame costs
little more than its decode.

Run eagerly it is some hundred small kernels and several copies, 3 ms; as a graph one copy in, one launch, one
copy out, and one wait. Two graphs: on beyond the newest latent, and towards a draft. In float32 (TF32
products): at this size launches cost, not arithmetic. With capture=False the same class runs uncaptured, on
the CPU too, and is tested there."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from engine.backend import Draft
from engine.fast.cuda_graph import Replay, Staging
from engine.fast.extrapolators import MOST_RATIO, MOST_STRIDE, LearnedExtrapolator, TorchNet, way_to
from engine.models.extrapolator import log_map
from engine.models.extrapolator_net import (
    ExtrapolatorNet,
    between,
    gate,
    last_motion,
    moved,
    time_features,
)

Fill = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Known latents [K, C, h, w], oldest first, buttons [1, N], stride and frames ahead [1] -> [1, C, h, w]."""


def continued(net: ExtrapolatorNet) -> Fill:
    """What LearnedExtrapolator.extrapolate does with the last two latents, all on the network's device."""

    def fill(latents: Tensor, buttons: Tensor, stride: Tensor, ahead: Tensor) -> Tensor:
        before, newest = latents[-2:-1], latents[-1:]
        motion = last_motion(before, newest)
        heads = net(motion, newest, time_features(buttons, stride, ahead))
        return moved(newest, motion, heads, _ratio(stride, ahead), gate(before, newest, heads))

    return fill


def towards(net: ExtrapolatorNet) -> Fill:
    """What LearnedExtrapolator.interpolate does; the last of the three latents is the draft."""
    has_draft = torch.ones(1, 1, device=net.place.device)

    def fill(latents: Tensor, buttons: Tensor, stride: Tensor, ahead: Tensor) -> Tensor:
        before, newest, draft = latents.split(1)
        toward = log_map(newest, draft)
        told = time_features(buttons, stride, ahead)
        heads = net(last_motion(before, newest), newest, told, toward, has_draft)
        return between(newest, toward, heads, _ratio(stride, ahead))

    return fill


def _ratio(stride: Tensor, ahead: Tensor) -> Tensor:
    return (ahead / stride).view(1, 1, 1, 1)


class GraphedFill:
    """One `fill` on buffers that never move: `known` latents [C, h, w], `buttons` numbers, stride and frames
    ahead go in by one copy."""

    def __init__(
        self,
        fill: Fill,
        known: int,
        shape: tuple[int, int, int],
        buttons: int,
        device: torch.device,
        capture: bool,
    ) -> None:
        self._fill = fill
        size = known * shape[0] * shape[1] * shape[2]
        self.given = torch.ones(size + buttons + 2, device=device)
        self._latents = self.given[:size].view(known, *shape)
        self._numbers = self.given[None, size:]
        self.made = torch.zeros(shape, device=device)
        self._host = torch.empty(shape, pin_memory=device.type == "cuda")
        self._staging = Staging(self.given)
        self._replay = Replay(self.advance, capture)

    @torch.inference_mode()
    def advance(self) -> None:
        """given -> made, in place."""
        buttons, stride, ahead = self._numbers[:, :-2], self._numbers[0, -2:-1], self._numbers[0, -1:]
        self.made.copy_(self._fill(self._latents, buttons, stride, ahead)[0])

    def __call__(
        self, latents: list[np.ndarray], buttons: np.ndarray, stride: float, ahead: float
    ) -> np.ndarray:
        """latents [C, h, w] each -> [C, h, w], the caller's to keep; waits for the device once."""
        parts = [*(latent.ravel() for latent in latents), buttons, np.array([stride, ahead])]
        self._staging.send(np.concatenate(parts, dtype=np.float32, casting="same_kind"))
        self._replay()
        self._host.copy_(self.made, non_blocking=True)
        if self.made.is_cuda:
            torch.cuda.current_stream().synchronize()
        return self._host.numpy().copy()


class GraphedExtrapolator(LearnedExtrapolator):
    """See engine.backend.Extrapolator. fill: the estimate ahead, of the newest `known` latents; the
    network's unless given."""

    def __init__(
        self,
        net: ExtrapolatorNet,
        shape: tuple[int, int, int],
        buttons: int,
        capture: bool = True,
        fill: Fill | None = None,
        known: int = 2,
    ) -> None:
        super().__init__(TorchNet(net, torch.float32), takes_drafts=net.takes_drafts)
        device = net.place.device
        self._known = known
        self._ahead = GraphedFill(fill or continued(net), known, shape, buttons, device, capture)
        if self.takes_drafts:
            self._towards = GraphedFill(towards(net), 3, shape, buttons, device, capture)

    def extrapolate(
        self, latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float
    ) -> np.ndarray:
        if len(latents) < self._known or time <= times[-1]:
            return latents[-1]
        stride = min(max(float(times[-1] - times[-2]), 1.0), MOST_STRIDE)
        ahead = min(float(time - times[-1]), MOST_RATIO * stride)
        return self._ahead(list(latents[-self._known :]), buttons, stride, ahead)

    def interpolate(
        self, latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float, draft: Draft
    ) -> np.ndarray:
        if not self.takes_drafts:
            return super().interpolate(latents, times, buttons, time, draft)
        before = latents[-2] if len(latents) > 1 else latents[-1]
        stride = min(max(draft.time - float(times[-1]), 1.0), MOST_STRIDE)
        ahead = way_to(times, time, draft) * stride
        return self._towards([before, latents[-1], draft.latent], buttons, stride, ahead)
