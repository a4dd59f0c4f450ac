"""Unpaced true frames a second of one device: world steps beside decodes, bytes on the host.

    python -m engine.bench.engine --game racing --device cuda --worlds 1 --json

Three ways in one run: step, decode and copy one after the other; the same overlapped on streams; and the step
alone, the floor of the overlapped one. Latency is one step, decode and copy with nothing else under way: from
buttons to pixels on the host. Weights are random: times do not depend on them. Ends with one JSON line."""

import argparse
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from engine.bench.presets import NAMES, label, preset
from engine.bench.timing import hardware, timed, wait
from engine.fast.cuda_graph import GraphDecoder, GraphWorld
from engine.fast.pipeline import Pipeline
from engine.models.autoencoder import Decoder
from engine.models.world_model import WorldModel

_TICKS = 8  # per timed run, so that filling the pipeline weighs little


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--game", choices=NAMES, default="racing")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--worlds", type=int, default=1)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--compiled", action="store_true", help="torch.compile the step before its capture")
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    options = parser.parse_args()
    result = measure(options.game, options.device, options.worlds, options.runs, options.compiled)
    if not options.json:
        print(table(result))
    print(json.dumps(result))


def measure(game: str, device: str, worlds: int, runs: int, compiled: bool) -> dict[str, Any]:
    pipeline, controls = built(game, device, worlds, compiled)
    lane = pipeline.lanes[0]

    def overlapped() -> None:
        for _ in range(_TICKS):
            pipeline.push(controls)
        pipeline.flush()

    def in_turn() -> None:
        pipeline.push(controls)
        pipeline.flush()

    def step_only() -> None:
        pipeline.world.step(controls)

    timings = timed({"in turn": in_turn}, device, runs) | timed(
        {"overlapped": overlapped, "step alone": step_only, "decode alone": lane.decoder.replay}, device, runs
    )
    wait(device)
    ticks = {"overlapped": _TICKS}
    return {
        "bench": "engine",
        "game": label(game),
        "device": hardware(device),
        "worlds": worlds,
        "compiled": compiled,
        "latency_ms": round(timings["in turn"].median_ms, 4),
        "true_frames_per_s": round(worlds * _TICKS / timings["overlapped"].median_ms * 1e3, 1),
        "overlap_gain": round(timings["in turn"].median_ms * _TICKS / timings["overlapped"].median_ms, 3),
        "ways": {
            name: {key: round(value, 4) for key, value in asdict(timing).items()}
            | {"frames_per_s": round(worlds * ticks.get(name, 1) / timing.median_ms * 1e3, 1)}
            for name, timing in timings.items()
        },
    }


def built(game: str, device: str, worlds: int, compiled: bool) -> tuple[Pipeline, np.ndarray]:
    """A pipeline of two lanes, and controls for its steps."""
    config, capture = preset(game), device == "cuda"
    assert (config.world.rows, config.world.columns) == (10, 15), "this preset's world has no decoder"
    torch.manual_seed(0)
    model = WorldModel(config.world).to(device).eval().requires_grad_(False)
    decoder = Decoder(config.autoencoder).to(device).eval().requires_grad_(False)
    dtype = torch.bfloat16 if capture else torch.float32
    world = GraphWorld(model, worlds, dtype, capture=capture, compiled=compiled)
    shape = (config.world.channels, config.world.rows, config.world.columns)
    decoders = [GraphDecoder(decoder, shape, worlds, dtype, capture) for _ in range(2)]
    return Pipeline(world, decoders), np.ones(world.controls.shape, np.float32)


def table(result: dict[str, Any]) -> str:
    lines = [f"{result['game']} on {result['device']}, worlds at once {result['worlds']}"]
    lines.append(f"{'way':14} {'median ms':>9} {'p99 ms':>9} {'frames/s':>9}")
    for name, one in result["ways"].items():
        lines.append(f"{name:14} {one['median_ms']:9.3f} {one['p99_ms']:9.3f} {one['frames_per_s']:9.1f}")
    lines.append(f"(overlapped: {_TICKS} ticks a run)")
    lines.append(f"latency {result['latency_ms']:.3f} ms; overlap gains {result['overlap_gain']:.2f}x")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
