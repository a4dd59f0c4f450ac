"""Telemetry between the games' units and the world model's terms, about [-1, 1]."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Field(Protocol):
    """What is needed of a game's telemetry field (games.spec.TelemetryField)."""

    @property
    def kind(self) -> str: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


MOST = {"value": 1.0, "flag": 1.0, "count": 1.5, "event": 2.0}
"""Telemetry's largest in the model's terms, by kind."""


class TelemetryScale:
    """values by their range; flags to -1 or 1; counts as their change per frame, events as their change over
    the step, both by the larger end of their range."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.low = torch.tensor([f.low for f in fields])
        self.high = torch.tensor([f.high for f in fields])
        self.bound = torch.maximum(self.low.abs(), self.high.abs())
        self.count, self.event, self.flag = (
            torch.tensor([f.kind == k for f in fields]) for k in ("count", "event", "flag")
        )

    def scaled(self, now: Tensor, before: Tensor, strides: Tensor) -> Tensor:
        """now, before [..., F] in units, before and after a step of `strides` [...] frames -> [..., F] in
        about [-1, 1]."""
        self._to(now.device)
        change = (now - before) / self.bound
        rate = change / strides.clamp(min=1)[..., None]
        level = ((now - self.low) / (self.high - self.low) * 2 - 1).clamp(-1, 1)
        return torch.where(
            self.event,
            change.clamp(-MOST["event"], MOST["event"]),
            torch.where(self.count, rate.clamp(-MOST["count"], MOST["count"]), level),
        )

    def in_units(self, scaled: Tensor, before: Tensor, stride: int) -> Tensor:
        """The other way: [F] as the model reads it, and the totals before the step [F] -> [F] in units. Flags
        become 0 or 1; an event counts when it is more likely than not."""
        level = (scaled.clamp(-1, 1) + 1) / 2 * (self.high - self.low) + self.low
        level = torch.where(self.flag, (scaled > 0).float(), level)
        total = before + torch.where(self.event, (scaled * self.bound).round(), scaled * self.bound * stride)
        return torch.where(self.event | self.count, total, level)

    def _to(self, device: torch.device) -> None:
        if self.low.device != device:
            for name, value in vars(self).items():
                setattr(self, name, value.to(device))
