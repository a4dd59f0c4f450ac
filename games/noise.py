"""Counter-based random numbers: a hash of integers, the same on every device, batch and process.

A world never owns a generator: what is random about it is a pure function of its seed and of named
counters (the track's control point 7, the driver's decision at frame 300), so nothing depends on the
order of calls.
"""

from functools import cache

import torch
from torch import Tensor

_M1, _M2, _MASK = 0x7FEB352D, 0x846CA68B, 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """Chris Wellons' lowbias32 on int64 tensors that hold 32-bit words."""
    x = x ^ (x >> 16)
    x = (x * _M1) & _MASK
    x = x ^ (x >> 15)
    x = (x * _M2) & _MASK
    return x ^ (x >> 16)


def hash_bits(seed: Tensor, *counters: Tensor | int) -> Tensor:
    """32 uniform bits (int64) for each element; seed and counters broadcast."""
    h = _mix((seed ^ (seed >> 32)) & _MASK)
    for counter in counters:
        # Filled in on the device: a GPU would have to wait for a copy.
        c = counter if isinstance(counter, Tensor) else torch.full((), counter, device=seed.device)
        h = _mix((h * 0x9E3779B1 + (c.to(torch.int64) & _MASK) + 0x7F4A7C15) & _MASK)
    return h


def uniform(seed: Tensor, *counters: Tensor | int) -> Tensor:
    """float32 in [0, 1) for each element; seed and counters broadcast."""
    return (hash_bits(seed, *counters) >> 8).to(torch.float32) * (1.0 / (1 << 24))


@cache
def constants(values: tuple[float, ...], device: str) -> Tensor:
    """A float32 row, copied to the device once per process."""
    return torch.tensor(values, device=device)
