"""Is what the dream shows distributed like what the simulator shows? A Frechet distance on the reader's
features: three pictures, so motion counts too. It needs no match of single pictures: another bend is as good
as the true one, a blurred bend is not."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.training.evaluation.figures import mean, rounded


def frechet(a: Tensor, b: Tensor) -> float:
    """Frechet distance of the Gaussians fitted to features [T, D]: |m - n|^2 + tr(C + D - 2 (C D)^(1/2))."""
    a, b = a.double(), b.double()
    of_a, of_b = a.T.cov(), b.T.cov()
    roots = torch.linalg.eigvals(of_a @ of_b).real.clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + of_a.trace() + of_b.trace() - 2 * roots)


@dataclass
class Distribution:
    """Features [T, D] by kind (real, dream, hold), one entry a seed."""

    seeds: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, kind: str, features: Tensor) -> None:
        self.seeds.setdefault(kind, []).append(features)

    def result(self) -> dict[str, float | None] | None:
        """{real, dream, hold}: each half of the seeds, of that kind, against the simulator's pictures of the
        other half; means of the two. `real` is what chance alone makes. None for a single seed."""
        real = self.seeds.get("real", [])
        if len(real) < 2:
            return None
        distances = {}
        for kind, seeds in self.seeds.items():
            halves = [frechet(torch.cat(seeds[half::2]), torch.cat(real[1 - half :: 2])) for half in (0, 1)]
            distances[kind] = rounded(mean(halves))
        return distances
