"""torch.where for numbers on either side, without a copy from the host.

torch.where carries a Python number to the GPU by a copy that it waits for; a CUDA graph cannot hold that.
Here the number is filled in on the device. Types come out as with torch.where."""

import torch
from torch import Tensor

Number = int | float


def either(condition: Tensor, yes: Tensor | Number, no: Tensor | Number) -> Tensor:
    """`yes` where the condition (bool) holds, `no` elsewhere; all broadcast."""
    return torch.where(condition, _on(condition, yes), _on(condition, no))


def _on(condition: Tensor, value: Tensor | Number) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.full((), value, device=condition.device)
