"""The learned extrapolator on a GPU: network and geometry in one CUDA graph, so that a filled frame costs
little more than its decode.

Run eagerly it is some hundred small kernels and several copies, 3 ms; as a graph one copy in, one launch, one
copy out. In float32 (TF32 products): at this size launches cost, not arithmetic. With capture=False the same
class runs uncaptured, on the CPU too, and is tested there."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from engine.fast.cuda_graph import Replay, Staging
from engine.fast.extrapolators import MOST_RATIO, MOST_STRIDE, LearnedExtrapolator, TorchNet
from engine.models.extrapolator_net import ExtrapolatorNet, gate, last_motion, moved, time_features

Fill = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Known latents [K, C, h, w], oldest first, buttons [1, N], stride and frames ahead [1] -> [1, C, h, w]."""


def continued(net: ExtrapolatorNet) -> Fill:
    """What LearnedExtrapolator does with the last two latents and no draft, all on the network's device."""

    def fill(latents: Tensor, buttons: Tensor, stride: Tensor, ahead: Tensor) -> Tensor:
        before, newest = latents[-2:-1], latents[-1:]
        motion = last_motion(before, newest)
        told = time_features(buttons, stride, ahead)
        heads = net(motion, newest, told)
        ratio = (ahead / stride).view(1, 1, 1, 1)
        return moved(newest, motion, heads, ratio, gate(before, newest, heads))

    return fill


class GraphedExtrapolator(LearnedExtrapolator):
    """See engine.backend.Extrapolator. fill: the estimate, of the newest `known` latents."""

    def __init__(
        self,
        net: ExtrapolatorNet,
        shape: tuple[int, int, int],
        buttons: int,
        capture: bool = True,
        fill: Fill | None = None,
        known: int = 2,
    ) -> None:
        super().__init__(TorchNet(net, torch.float32))
        device = net.place.device
        self._fill, self._known = fill or continued(net), known
        size = known * shape[0] * shape[1] * shape[2]
        # Latents, buttons, stride and frames ahead: one copy to the device.
        self.given = torch.ones(size + buttons + 2, device=device)
        self._latents = self.given[:size].view(known, *shape)
        self._numbers = self.given[None, size:]
        self.made = torch.zeros(shape, device=device)
        self._host = torch.empty(shape, pin_memory=device.type == "cuda")
        self._staging = Staging(self.given)
        self.replay = Replay(self.advance, capture)

    @torch.inference_mode()
    def advance(self) -> None:
        """given -> made, in place."""
        buttons, stride, ahead = self._numbers[:, :-2], self._numbers[0, -2:-1], self._numbers[0, -1:]
        self.made.copy_(self._fill(self._latents, buttons, stride, ahead)[0])

    def extrapolate(
        self, latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float
    ) -> np.ndarray:
        if len(latents) < self._known or time <= times[-1]:
            return latents[-1]
        stride = min(max(float(times[-1] - times[-2]), 1.0), MOST_STRIDE)
        ahead = min(float(time - times[-1]), MOST_RATIO * stride)
        parts = (latents[-self._known :].ravel(), buttons, (stride, ahead))
        self._staging.send(np.concatenate(parts, dtype=np.float32))
        self.replay()
        self._host.copy_(self.made, non_blocking=True)
        if self.made.is_cuda:
            torch.cuda.current_stream().synchronize()
        return self._host.numpy().copy()
