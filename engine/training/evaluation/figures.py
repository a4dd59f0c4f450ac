"""Sums of what was measured, by name; rounding happens last, when the JSON is made."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Figures:
    """Measured values by name, over all seeds; nan marks a value that was not to be had."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, new: Tensor | float) -> None:
        values = new.flatten().tolist() if isinstance(new, Tensor) else [float(new)]
        self.values.setdefault(name, []).extend(values)

    def mean(self, name: str) -> float | None:
        """Unrounded; None where nothing was measured."""
        return mean(self.values.get(name, []))

    def ratio(self, above: str, below: str) -> float | None:
        """Of two means, unrounded."""
        a, b = self.mean(above), self.mean(below)
        return a / b if a is not None and b else None


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are numbers; None where there are none."""
    kept = [v for v in values if v is not None and v == v]
    return sum(kept) / len(kept) if kept else None


def rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
