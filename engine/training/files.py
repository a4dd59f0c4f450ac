"""Files that a stage leaves for the next ones: safetensors in bfloat16, read as float32."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.models.weights import WIDE


def write_part(state: Mapping[str, Tensor], out: Path, game: str, part: str = WIDE) -> Path:
    """The file that `pack` takes, in bfloat16; written beside it and moved there: it is always whole."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{game}-{part}.safetensors"
    unfinished = path.with_suffix(".part")
    made = {f"{part}.{name}": value.to(torch.bfloat16).contiguous() for name, value in state.items()}
    save_file(made, unfinished)
    unfinished.replace(path)
    return path


def read_part(path: Path, part: str = WIDE) -> dict[str, Tensor]:
    """What write_part wrote, float32."""
    return {name.removeprefix(f"{part}."): value.float() for name, value in load_file(path).items()}


def write_world(state: dict[str, Tensor], out: Path, game: str) -> None:
    """Two files, in bfloat16 each below 16 MiB."""
    out.mkdir(parents=True, exist_ok=True)
    names = sorted(state, key=lambda name: -state[name].numel())
    for half in (0, 1):
        path = out / f"{game}-world-{half}.safetensors"
        save_file({name: state[name].contiguous() for name in names[half::2]}, path)
