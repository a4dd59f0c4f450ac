"""How wide a model's activations are: what int8 needs to know beside the weights. No torch, no OpenVINO.

`int8.json` lies beside a game's weights and is written by `engine.training.quantise`, so a player's machine
calibrates nothing. Each part names the sha256 of the weights it was measured on; for other weights it is not
used. Its `facts` are for the reader."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.models.stored import file_name
from engine.without import VARIABLE, without

FILE = "int8.json"
INT8_PARTS = ("decoder", "world")
"""Parts that can run in int8."""
OVERFLOWING = "-avx2"
"""Ends the name of what was measured for CPUs with AVX2 alone. They add pairs of products in 16 bits, which
overflow, so ranges are other ones there; a decoder is quicker in int8 even so, a world is not."""
_INSTRUCTIONS = frozenset(("avx512_vnni", "avx_vnni", "amx_int8"))
"""Any of these makes int8 exact and quicker than floating point."""


@dataclass(frozen=True)
class Calibration:
    """Of one part. weights: sha256 of its file; ranges: lowest and highest input, by layer."""

    weights: str
    ranges: dict[str, tuple[float, float]]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Changes when the ranges do."""
        return hashlib.sha256(json.dumps(self.ranges, sort_keys=True).encode()).hexdigest()[:10]


def calibration(directory: Path, part: str) -> Calibration | str:
    """What belongs to the weights of `part` in `directory`, or in a few words why there is nothing."""
    try:
        told = json.loads((directory / FILE).read_text(encoding="utf-8"))[part]
        ranges = {str(name): (float(low), float(high)) for name, (low, high) in told["ranges"].items()}
        found = Calibration(str(told["weights"]), ranges, dict(told.get("facts", {})))
        if found.weights != measured_weights(directory, part):
            return "calibrated for other weights"
    except (FileNotFoundError, KeyError):
        return "not calibrated"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{FILE} cannot be read: {error}"
    if not ranges or not all(low < high for low, high in ranges.values()):
        return f"{FILE} has impossible ranges"
    return found


def int8_or_why_not(directory: Path, part: str, isa: tuple[str, ...]) -> Calibration | str:
    """What `part` runs on in int8 on a CPU with these instructions; else why it does not."""
    if "int8" in without():
        return f"switched off by {VARIABLE}"
    if has_instructions(isa):
        return calibration(directory, part)
    if part != "decoder" or "avx2" not in isa:
        return "this CPU has no VNNI"
    found = calibration(directory, part + OVERFLOWING)
    return f"this CPU has no VNNI, and for AVX2 it is {found}" if isinstance(found, str) else found


def has_instructions(isa: tuple[str, ...]) -> bool:
    """Whether a CPU with these computes int8 exactly and quicker than floating point."""
    return bool(_INSTRUCTIONS & set(isa))


def store(directory: Path, part: str, made: Calibration) -> None:
    """Write `part`, keep the others."""
    ranges = {name: [round(low, 4), round(high, 4)] for name, (low, high) in made.ranges.items()}
    _write(directory, {**_told(directory), part: {**asdict(made), "ranges": ranges}})


def forget(directory: Path, part: str) -> None:
    """Remove `part`, if it is there."""
    if part in (told := _told(directory)):
        _write(directory, {name: one for name, one in told.items() if name != part})


def _told(directory: Path) -> dict[str, Any]:
    try:
        told = json.loads((directory / FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _write(directory: Path, told: dict[str, Any]) -> None:
    text = json.dumps(told, indent=1)
    text = re.sub(r"\[\s+([-\d.e]+),\s+([-\d.e]+)\s+\]", r"[\1, \2]", text)  # one range, one line
    (directory / FILE).write_text(text + "\n", encoding="utf-8")


def measured_weights(directory: Path, part: str) -> str:
    """sha256 of the weights that a calibration of `part`, also one for AVX2, is of."""
    return sha256(directory / file_name(part.removesuffix(OVERFLOWING)))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
