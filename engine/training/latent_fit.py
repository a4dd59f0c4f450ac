"""What the extrapolator's training computes instead of learning: the decoder's metric on latents, and the
linear combination of recent latents that fits best."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.models.extrapolator_net import MAX_STRIDE
from engine.training.runs import Windows


@dataclass(frozen=True)
class Metric:
    """What a latent error costs in the picture. root [C, C]: errors times root have the metric as their
    square; trace of root root^T = C, so that a random error costs as much as without."""

    root: Tensor

    def squared(self, error: Tensor) -> Tensor:
        """error [B, C, H, W] -> [B, 1, H, W], a mean over channels."""
        return self.turned(error).square().mean(1, keepdim=True)

    def turned(self, error: Tensor) -> Tensor:
        """error [B, C, H, W] times root: its plain length is the cost."""
        return torch.einsum("bchw,cd->bdhw", error, self.root)


def decoder_metric(decoder: nn.Module, latents: Tensor, rounds: int, plain: float = 0.1) -> Metric:
    """From Jacobian-vector products of random pictures at `latents` [B, C, H, W]. plain: the share of it that
    counts all directions alike, so that none is free."""
    channels = latents.shape[1]
    total = torch.zeros(channels, channels, device=latents.device)
    for _ in range(rounds):
        z = latents.clone().requires_grad_(True)
        picture = decoder(z)
        (slope,) = torch.autograd.grad(picture, z, torch.randn_like(picture))
        flat = slope.movedim(1, 0).flatten(1)
        total += flat @ flat.T
    metric = total * (channels / total.trace())
    metric = (1 - plain) * metric + plain * torch.eye(channels, device=latents.device)
    values, vectors = torch.linalg.eigh(metric)
    return Metric(vectors * values.clamp(min=0).sqrt())


class CombinationFit:
    """Least squares of the truth on the recent latents, per stride and frames ahead: no gradient needed."""

    def __init__(self, metric: Metric, device: str) -> None:
        cells = 2 * MAX_STRIDE * 2 * MAX_STRIDE
        self.metric = metric
        self.gram = torch.zeros(cells, 3, 3, device=device)
        self.right = torch.zeros(cells, 3, device=device)

    @torch.no_grad()
    def add(self, batch: Windows) -> None:
        cell = ((batch.strides - 1) * 2 * MAX_STRIDE + batch.aheads - 1).long()
        cell = cell + batch.deep * (MAX_STRIDE * 2 * MAX_STRIDE)
        latents = torch.stack((batch.oldest * batch.deep.view(-1, 1, 1, 1), batch.before, batch.newest), 1)
        weighed = torch.einsum("bkchw,cd->bkdhw", latents, self.metric.root).flatten(2)
        truth = torch.einsum("bchw,cd->bdhw", batch.truth, self.metric.root).flatten(1)
        self.gram.index_add_(0, cell, weighed @ weighed.mT / truth.shape[1])
        self.right.index_add_(0, cell, (weighed @ truth[..., None])[..., 0] / truth.shape[1])

    def coefficients(self) -> Tensor:
        """[2, stride, frames ahead, 3]; cells with few windows lean to hold."""
        hold = torch.tensor([0.0, 0.0, 1.0], device=self.gram.device)
        ridge = 0.02 * torch.eye(3, device=self.gram.device) * (1 + self.gram[:, 2:, 2:] * 0.01)
        solved = torch.linalg.solve(self.gram + ridge, self.right + ridge @ hold)
        return solved.view(2, MAX_STRIDE, 2 * MAX_STRIDE, 3)
