"""How cost grows: with worlds at once, with the context that a step attends to, with ranks.

    python -m engine.bench.scaling --game racing --device cuda --worlds 1,2,4,8 --context 8,16,32 --ranks 1,2
    python -m engine.bench.scaling --from RESULT.json --plot OUT.png

One world is bound by launches: a step is hundreds of small kernels, and even in one graph each waits for the
one before. More worlds fill the device for almost nothing, until arithmetic or memory is full and cost grows
with them. So beside each time stands what binds it, from its operations and bytes over the ceilings measured
in the same run: compute, memory, or (far below both) launch. Context costs bytes of the ring alone; ranks
divide arithmetic and add exchanges. Weights are random. Ends with one JSON line; points that did not fit
into --seconds or into memory are named in it."""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from engine.bench.command import dtype_name, dtype_on, numbers, parser_for, say
from engine.bench.decoder import COLUMNS, ROWS, bytes_moved
from engine.bench.engine import built, world_for
from engine.bench.points import Points
from engine.bench.presets import label, preset
from engine.bench.profile import Wanted, measure_steps
from engine.bench.ranks import run_ranks
from engine.bench.roofline import Ceilings
from engine.bench.timing import hardware, timed
from engine.bench.world import bytes_read, step_macs, stepping
from engine.config import GameConfig
from engine.fast.bands import Rows, band_macs
from engine.models.autoencoder import Decoder

_TICKS = 4
_EVERY_WORLDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def main() -> None:
    parser = parser_for(__doc__, runs=10)
    parser.add_argument("--worlds", type=numbers, default=_EVERY_WORLDS)
    parser.add_argument("--context", type=numbers, default=(8, 16, 32, 64), help="steps a time layer sees")
    parser.add_argument("--ranks", type=numbers, default=(), help="sequence-parallel ranks, each a process")
    parser.add_argument("--seconds", type=float, default=120.0, help="begin nothing new after so long")
    parser.add_argument("--from", dest="source", type=Path, help="a result's JSON instead of measuring")
    parser.add_argument("--plot", type=Path, help="write a plot here")
    options = parser.parse_args()
    result = json.loads(options.source.read_text().splitlines()[-1]) if options.source else measure(options)
    if options.plot:
        plot(result, options.plot)
    say(result, table, options.json)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    device, config = options.device, preset(options.game)
    ceilings = Ceilings.of(device, dtype_on(device))
    points = Points(time.monotonic() + options.seconds)
    result: dict[str, Any] = {
        "bench": "scaling",
        "game": label(options.game),
        "device": hardware(device),
        "dtype": dtype_name(dtype_on(device)),
        "ceilings": ceilings.to_json(),
    }
    pairs = (("worlds", at_worlds), ("context", at_context), ("ranks", at_ranks))
    for name, measured in pairs:
        work = partial(measured, options.game, config, device, options.runs, ceilings)
        result[name] = points.of(name, getattr(options, name), work)
    return result | {"skipped": points.skipped}


def at_worlds(
    game: str, config: GameConfig, device: str, runs: int, ceilings: Ceilings, worlds: int
) -> dict[str, Any]:
    """Step, decode and both overlapped, of so many worlds at once."""
    dtype = dtype_on(device)
    pipeline, controls = built(preset(game), device, worlds)
    works: dict[str, Callable[[], object]] = {
        "step": partial(pipeline.world.step, controls),
        "decode": pipeline.lanes[0].decoder.replay,
    }
    alone = timed(works, device, runs)

    def tick() -> None:
        for _ in range(_TICKS):
            pipeline.push(controls)
        pipeline.flush()

    tick_ms = timed({"": tick}, device, runs)[""].median_ms / _TICKS
    step_ms, decode_ms = alone["step"].median_ms, alone["decode"].median_ms
    with torch.device("meta"):
        decoder = Decoder(config.autoencoder)
    decode_flop = 2 * worlds * band_macs(decoder, Rows(0, ROWS, ROWS), COLUMNS)
    eager, fused = bytes_moved(decoder, worlds, dtype.itemsize)
    decode_bytes = fused if device == "cuda" else eager
    step_flop = 2 * worlds * step_macs(config.world)
    return {
        "step_ms": round(step_ms, 4),
        "step": ceilings.judge(step_ms, step_flop, bytes_read(config.world, worlds, dtype)),
        "decode_ms": round(decode_ms, 4),
        "decode": ceilings.judge(decode_ms, decode_flop, decode_bytes),
        "tick_ms": round(tick_ms, 4),
        "true_frames_per_s": round(worlds / tick_ms * 1e3, 1),
        "ms_per_world": round(tick_ms / worlds, 4),
    }


def at_context(
    game: str, config: GameConfig, device: str, runs: int, ceilings: Ceilings, context: int
) -> dict[str, Any]:
    """A step of one world whose time layers see so many steps."""
    longer = replace(config, world=replace(config.world, context=context))
    ms = timed({"": stepping(world_for(longer, device, 1))}, device, runs)[""].median_ms
    read = bytes_read(longer.world, 1, dtype_on(device))
    return {"step_ms": round(ms, 4), "mib_read": round(read / 2**20, 2)} | ceilings.judge(
        ms, 2 * step_macs(longer.world), read
    )


def at_ranks(
    game: str, config: GameConfig, device: str, runs: int, ceilings: Ceilings, ranks: int
) -> dict[str, Any]:
    """A step shared by so many ranks, of one world and of four."""
    wanted = Wanted(game, device, worlds=(1, 4), batches=(1,), bands=(1,), runs=runs)
    one, four = run_ranks(ranks, measure_steps, wanted, device=device, timeout_s=180)
    return {"step_ms": round(one.ms, 4), "step_ms_4_worlds": round(four.ms, 4)}


def table(result: dict[str, Any]) -> str:
    lines = [f"{result['game']} on {result['device']}, {result['dtype']}"]
    lines.append(
        f"{'worlds':>6} {'step ms':>9} {'bound':>8} {'decode ms':>9} {'bound':>8} {'true frames/s':>13}"
    )
    for one in result["worlds"]:
        step = f"{one['step_ms']:9.3f} {one['step']['bound']:>8}"
        decode = f"{one['decode_ms']:9.3f} {one['decode']['bound']:>8}"
        lines.append(f"{one['worlds']:6d} {step} {decode} {one['true_frames_per_s']:13.1f}")
    for one in result["context"]:
        lines.append(f"context {one['context']:3d}: step {one['step_ms']:.3f} ms, {one['mib_read']} MiB read")
    for one in result["ranks"]:
        four = f"{one['step_ms_4_worlds']:.3f} ms of 4 worlds"
        lines.append(f"{one['ranks']} ranks: step {one['step_ms']:.3f} ms, {four}")
    return "\n".join(lines + [f"skipped: {why}" for why in result["skipped"]])


def plot(result: dict[str, Any], path: Path) -> None:
    """True frames a second and milliseconds over worlds at once. Needs matplotlib (the extra `train`)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = result["worlds"]
    worlds = [one["worlds"] for one in points]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    left.plot(worlds, [one["true_frames_per_s"] for one in points], marker="o")
    left.set_ylabel("true frames a second, all worlds")
    for name in ("step", "decode", "tick"):
        label_of = {"tick": "both, overlapped"}.get(name, name)
        right.plot(worlds, [one[f"{name}_ms"] for one in points], marker="o", label=label_of)
    right.set_ylabel("milliseconds")
    right.legend()
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(worlds, [str(count) for count in worlds])
        axes.set_xlabel("worlds at once")
        axes.grid(alpha=0.3)
    figure.suptitle(f"{result['game']} on {result['device']}, {result['dtype']}")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
