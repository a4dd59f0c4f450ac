"""Whether our own kernels can be built here: a GPU, Triton, the C compiler that Triton's launchers need."""

import os
import shutil
from importlib.util import find_spec

import torch

from engine.without import without

_COMPILERS = ("gcc", "clang")  # those that Triton looks for


def has_kernels(device: torch.device) -> bool:
    """On `device`, unless DREAMCADE_WITHOUT=fused switches them off."""
    if device.type != "cuda" or find_spec("triton") is None or "fused" in without():
        return False
    return "CC" in os.environ or any(shutil.which(name) for name in _COMPILERS)
