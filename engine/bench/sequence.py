"""A world model's step on one accelerator and shared by several, sequence-parallel: from which size on does
it pay?

    python -m engine.bench.sequence --game wide-world --device cuda --widths 512,1024,2048,3072 --worlds 1,4
        [--wide-worlds 1,4]

Two curves: one world (or --wide-worlds) at several widths of the model (heads as wide as the preset's), and
several worlds at the preset's own width. `points` in the JSON: width, worlds, parameters, step_ms by ranks,
gain = ms of the first number of ranks over ms of the last. PyTorch's kernels on all, in graphs: ours are of
one rank. Weights are random. Ends with one JSON line."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from engine.bench.command import dtype_name, dtype_on, numbers, parser_for, say
from engine.bench.points import give_back
from engine.bench.presets import label, preset
from engine.bench.ranks import run_ranks
from engine.bench.timing import hardware, timed
from engine.config import WorldConfig
from engine.fast.cuda_graph import GraphWorld, plain_body
from engine.fast.sequence_parallel import make_split
from engine.models.world_model import WorldModel


@dataclass(frozen=True)
class Size:
    """So many worlds at once of a model of `config`."""

    config: WorldConfig
    worlds: int


def main() -> None:
    parser = parser_for(__doc__, runs=20)
    parser.add_argument("--ranks", type=numbers, default=(1, 2), help="each a process, on CUDA each a GPU")
    parser.add_argument("--widths", type=numbers, default=(), help="of the model, at each of --wide-worlds")
    parser.add_argument("--wide-worlds", type=numbers, default=(1,), help="at each of --widths")
    parser.add_argument("--worlds", type=numbers, default=(1, 4), help="at the preset's own width")
    parser.add_argument("--seconds", type=float, default=90.0, help="for each number of ranks at most")
    options = parser.parse_args()
    sizes = sizes_of(preset(options.game).world, options.widths, options.wide_worlds, options.worlds)
    measured = partial(steps_ms, sizes, options.device, options.runs, options.seconds)
    times = {ranks: measured(ranks) for ranks in options.ranks}
    result = {
        "bench": "sequence",
        "game": label(options.game),
        "device": hardware(options.device),
        "dtype": dtype_name(dtype_on(options.device)),
        "ranks": list(options.ranks),
        "points": [
            point(size, {ranks: own[i] for ranks, own in times.items()}) for i, size in enumerate(sizes)
        ],
    }
    say(result, table, options.json)


def sizes_of(
    config: WorldConfig, widths: tuple[int, ...], wide_worlds: tuple[int, ...], worlds: tuple[int, ...]
) -> list[Size]:
    head = config.head_width
    wide = [
        Size(replace(config, width=width, heads=width // head), count)
        for count in wide_worlds
        for width in widths
    ]
    return list(dict.fromkeys([*wide, *(Size(config, count) for count in worlds)]))


def steps_ms(sizes: list[Size], device: str, runs: int, seconds: float, ranks: int) -> list[float]:
    made: list[float] = run_ranks(
        ranks, steps_on_rank, tuple(sizes), device, runs, device=device, timeout_s=seconds
    )
    return made


def steps_on_rank(rank: int, sizes: tuple[Size, ...], device: str, runs: int) -> list[float]:
    """Milliseconds of a step of each size."""
    out, capture = [], device == "cuda"
    for size in sizes:
        with torch.device(device):  # 600 million numbers take a CPU longer than all that follows
            model = WorldModel(size.config).eval().requires_grad_(False)
        split = make_split(size.config) if dist.get_world_size() > 1 else None
        world = GraphWorld(model, size.worlds, dtype_on(device), split, capture, plain_body)
        del model
        controls = np.ones(world.controls.shape, np.float32)
        work: dict[str, Callable[[], object]] = {"": partial(world.step, controls)}
        out.append(round(timed(work, device, runs)[""].median_ms, 4))
        del world, work
        give_back()
    return out


def point(size: Size, step_ms: dict[int, float]) -> dict[str, Any]:
    with torch.device("meta"):
        parameters = sum(p.numel() for p in WorldModel(size.config).parameters())
    first, *_, last = (*step_ms.values(), *step_ms.values())
    return {
        "width": size.config.width,
        "worlds": size.worlds,
        "parameters": parameters,
        "step_ms": {str(ranks): ms for ranks, ms in step_ms.items()},
        "steps_per_s": {str(ranks): round(size.worlds / ms * 1e3, 1) for ranks, ms in step_ms.items()},
        "gain": round(first / last, 3),
    }


def table(result: dict[str, Any]) -> str:
    lines = [f"{result['game']} on {result['device']}, {result['dtype']}: a step by ranks, ms"]
    columns = "".join(f"{ranks:>9}" for ranks in result["ranks"])
    lines.append(f"{'width':>6} {'worlds':>6} {'parameters':>11} {columns} {'gain':>6}")
    for one in result["points"]:
        times = "".join(f"{ms:9.3f}" for ms in one["step_ms"].values())
        size = f"{one['width']:6d} {one['worlds']:6d} {one['parameters'] / 1e6:10.1f}M"
        lines.append(f"{size} {times} {one['gain']:6.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
