"""What the benchmarks' command lines share: sizes, device, runs, a table or one JSON line."""

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch

from engine.bench.presets import NAMES
from engine.bench.timing import Timing


def numbers(text: str) -> tuple[int, ...]:
    """1,2,4"""
    return tuple(int(part) for part in text.split(","))


def parser_for(doc: str, runs: int = 30) -> argparse.ArgumentParser:
    """doc: the module's text; its first line is the description."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--game", choices=NAMES, default="racing", help="whose sizes, or a preset's")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    return parser


def say(result: dict[str, Any], table: Callable[[dict[str, Any]], str], json_only: bool) -> None:
    """The table, and one JSON line at the end."""
    if not json_only:
        print(table(result))
    print(json.dumps(result), flush=True)


def dtype_on(device: str) -> torch.dtype:
    """What the engine computes in there."""
    return torch.bfloat16 if device == "cuda" else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def figures(timing: Timing) -> dict[str, float]:
    """For JSON."""
    return {
        "median_ms": round(timing.median_ms, 4),
        "p99_ms": round(timing.p99_ms, 4),
        "runs": timing.runs,
    }
