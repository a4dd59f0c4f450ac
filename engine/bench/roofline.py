"""The ceilings of one device, measured in the run that they are compared with, and which one holds a piece of
work back."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from engine.bench.timing import timed

_FAR_BELOW = 0.3  # of either ceiling: then neither arithmetic nor memory is what it waits for
_LAUNCHES = 100


@dataclass(frozen=True)
class Ceilings:
    """Copy bandwidth counts bytes read and written; launch_us: one small kernel after another, uncaptured."""

    copy_gb_s: float
    matmul_tflop_s: float
    launch_us: float

    @classmethod
    def of(cls, device: str, dtype: torch.dtype) -> "Ceilings":
        size, n = (1 << 30, 8192) if device == "cuda" else (1 << 26, 512)
        source = torch.zeros(size, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        small = torch.zeros(64, device=device)

        def launches() -> None:
            for _ in range(_LAUNCHES):
                small.add_(1.0)

        works = {"copy": lambda: target.copy_(source), "matmul": lambda: a @ b, "launches": launches}
        times = {name: one.median_ms for name, one in timed(works, device, 10).items()}
        return cls(
            round(2 * size / times["copy"] / 1e6, 1),
            round(2 * n**3 / times["matmul"] / 1e9, 2),
            round(times["launches"] / _LAUNCHES * 1e3, 2),
        )

    def judge(self, ms: float, flop: float, moved: float) -> dict[str, Any]:
        """What binds work that took `ms` for so many operations and bytes: shares of both ceilings, and a
        word for it."""
        compute, memory = flop / self.matmul_tflop_s / 1e9 / ms, moved / self.copy_gb_s / 1e6 / ms
        bound = "compute" if compute > memory else "memory"
        if max(compute, memory) < _FAR_BELOW:
            bound = "launch"
        return {
            "bound": bound,
            "of_matmul": round(compute, 4),
            "of_copy": round(memory, 4),
            "flop_per_byte": round(flop / moved, 2),
        }

    def to_json(self) -> dict[str, float]:
        return asdict(self)
