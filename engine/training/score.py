"""What a world model is scored by: the energy score of pictures and of the telemetry that belongs to them.

A proper score of one or two samples (FGN, 2506.10772): its mean is least where samples are spread as the
truth is. Distances are taken per token, per neighbourhood of tokens, and per whole picture with its
telemetry, so that what a sample says of itself is what it shows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.training.latent_fit import Metric

TELEMETRY_WEIGHT = 0.3
SCALES = ((1, 0.35), (3, 0.35), (7, 0.15))
"""Neighbourhoods whose errors are scored together, in tokens, and their weights."""
WHOLE_WEIGHT, WHOLE_TELEMETRY = 0.15, 4.0
"""Of a picture and its telemetry scored as one; how much the telemetry's mean square counts there."""
USUAL_CHANGE, MOST_WORTH = 0.05, 8.0
"""See field_worth; the former in halves of a field's range."""


def field_worth(telemetry: Tensor, whole: Tensor, plain: Tensor) -> Tensor:
    """What an error of each telemetry field counts, [F], 1 to MOST_WORTH: the more the less the field changes
    in a step. A hundredth of the range is nothing of a flag; of a heading it moves the picture by 20 px.

    telemetry [B, T, F] scaled, consecutive steps; whole bool [B, T - 1]: no restart between; plain bool [F]:
    fields that count 1 (flags and events)."""
    change = (telemetry[:, 1:] - telemetry[:, :-1]).abs()[whole].mean(0)
    return torch.where(plain, 1.0, (USUAL_CHANGE / change.clamp(min=1e-6)).clamp(1.0, MOST_WORTH))


@dataclass(frozen=True)
class Made:
    """What is scored: latents [..., B, T, C, H, W] and telemetry [..., B, T, F] scaled."""

    latents: Tensor
    telemetry: Tensor


@dataclass(frozen=True)
class Distances:
    """Between two of the same: picture [B, T, H, W] by neighbourhoods, whole [B, T] with telemetry, telemetry
    [B, T, F]."""

    picture: Tensor
    whole: Tensor
    telemetry: Tensor

    @classmethod
    def between(
        cls, a: Made, b: Made, weights: Tensor, metric: Metric | None = None, worth: Tensor | None = None
    ) -> "Distances":
        """weights [B, T, H, W] of the tokens; a mean over channels inside every root, in the metric if there
        is one; worth [F] of the telemetry's fields, all 1 if None."""
        error = (a.latents - b.latents).flatten(0, 1)
        error = error if metric is None else metric.turned(error)
        square = error.square().mean(1)
        near = torch.stack([_around(square, size).view_as(weights) * weight for size, weight in SCALES])
        told = (a.telemetry - b.telemetry).clamp(-2, 2)
        told = told if worth is None else told * worth
        mean = (square.view_as(weights) * weights).mean((-2, -1)) / weights.mean((-2, -1))
        whole = torch.sqrt(mean + WHOLE_TELEMETRY * told.square().mean(-1) + 1e-4)
        return cls(near.sum(0), whole, told.abs())


def _around(square: Tensor, size: int) -> Tensor:
    """[N, H, W] -> the root of the mean over size x size tokens around each, those that are there."""
    pooled = square[:, None]
    if size > 1:
        pooled = F.avg_pool2d(pooled, size, 1, size // 2, count_include_pad=False)
    return torch.sqrt(pooled + 1e-4)


@dataclass(frozen=True)
class Scores:
    """Means over a batch: of pictures (with what the telemetry counts there), of telemetry alone."""

    picture: Tensor
    telemetry: Tensor

    @property
    def loss(self) -> Tensor:
        return self.picture + TELEMETRY_WEIGHT * self.telemetry


def energy_score(
    samples: Sequence[Made],
    truth: Made,
    weights: Tensor,
    metric: Metric | None = None,
    worth: Tensor | None = None,
) -> Scores:
    """One or two samples; weights [B, T, H, W] of the tokens; worth [F] of telemetry fields, see field_worth.

    mean_k |x_k - y| - 0.5 |x_1 - x_2|, |.| as in Distances."""
    scores = [_scores(Distances.between(x, truth, weights, metric, worth), weights) for x in samples]
    picture, telemetry = (torch.stack(parts).mean(0) for parts in zip(*scores))
    if len(samples) == 2:
        spread = _scores(Distances.between(samples[0], samples[1], weights, metric, worth), weights)
        picture, telemetry = picture - 0.5 * spread[0], telemetry - 0.5 * spread[1]
    return Scores(picture, telemetry)


def _scores(distances: Distances, weights: Tensor) -> tuple[Tensor, Tensor]:
    near = (distances.picture * weights).mean() / weights.mean()
    return near + WHOLE_WEIGHT * distances.whole.mean(), distances.telemetry.mean()
