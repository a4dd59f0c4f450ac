"""World and decoder apart on two accelerators against both on one, unpaced: true frames a second.

    python -m engine.bench.split --game racing --device cuda --worlds 8 --json [--profile FILE]

One accelerator overlaps step and decode on streams; two send each step's latents from the world's to the
decoder's, double-buffered (engine/fast/device_link.py). What each alone takes tells which of them sets the
rate: apart pays when they are alike. With a profile, the planner's prediction stands beside both. Weights are
random: times do not depend on them. Ends with one JSON line."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from engine.bench.command import parser_for, say
from engine.bench.engine import built, lanes_for, shape_of, world_for
from engine.bench.presets import NAMES, label, preset
from engine.bench.ranks import run_ranks
from engine.bench.timing import hardware, timed, wait
from engine.fast.device_link import DeviceSender, SentWorld, packed
from engine.fast.pipeline import Pipeline
from engine.layout import Split, predict
from engine.profiles import Profile, read_profile

_DECODER, _WORLD = 0, 1  # run_ranks gives what rank 0 found
_WARM_UP = 8


def main() -> None:
    parser = parser_for(__doc__, runs=200)
    parser.add_argument("--worlds", type=int, default=1)
    parser.add_argument("--profile", type=Path, help="predict from this one")
    options = parser.parse_args()
    result = measure(options.game, options.device, options.worlds, options.runs)
    if options.profile:
        add_predictions(result, read_profile(options.profile))
    say(result, table, options.json)


def measure(game: str, device: str, worlds: int, ticks: int) -> dict[str, Any]:
    """ticks: timed steps of all worlds."""
    assert game in NAMES
    job = (game, device, worlds, ticks)
    one = run_ranks(1, together, *job, device=device, timeout_s=240)
    two = run_ranks(2, apart, *job, device=device, timeout_s=240)
    return {
        "bench": "split",
        "game": label(game),
        "device": hardware(device),
        "worlds": worlds,
        "ticks": ticks,
        "one": one,
        "two": two,
        "gain": round(two["frames_per_s"] / one["frames_per_s"], 3),
    }


def add_predictions(result: dict[str, Any], profile: Profile) -> None:
    """Where the profile has so many worlds and so large a batch."""
    worlds = result["worlds"]
    if profile.step_time(1, worlds) is None or profile.decode_time(worlds, 1) is None:
        return
    for way, split in (("one", Split(1, 0, 1, worlds)), ("two", Split(1, 1, 1, worlds))):
        predicted = predict(profile, split, worlds).frames_per_s
        result[way]["predicted_frames_per_s"] = round(predicted, 1)
        result[way]["predicted_off"] = round(predicted / result[way]["frames_per_s"] - 1, 4)


def together(rank: int, game: str, device: str, worlds: int, ticks: int) -> dict[str, float]:
    pipeline, controls = built(game, device, worlds)
    decode = pipeline.lanes[0].decoder.replay
    alone = timed({"step": partial(pipeline.world.step, controls), "decode": decode}, device, 20)
    figures = ticked(pipeline, controls, device, worlds, ticks)
    return figures | {f"{name}_ms": round(one.median_ms, 4) for name, one in alone.items()}


def apart(rank: int, game: str, device: str, worlds: int, ticks: int) -> dict[str, float] | None:
    config = preset(game)
    if rank == _DECODER:
        shape, telemetry = shape_of(config), config.world.telemetry
        lanes = lanes_for(config, device, worlds)
        dist.barrier()
        world = SentWorld(shape, telemetry, worlds, device, _WORLD)
        figures = ticked(Pipeline(world, lanes), np.zeros(0, np.float32), device, worlds, ticks)
        world.close()
        return figures
    own = world_for(config, device, worlds)
    controls = np.ones(own.controls.shape, np.float32)
    dist.barrier()
    link = DeviceSender(packed(own.latent, own.told), _DECODER)
    for _ in range(_WARM_UP + ticks):
        own.step(controls)
        link.send(packed(own.latent, own.told))
    link.close()
    wait(device)
    return None


def ticked(
    pipeline: Pipeline, controls: np.ndarray, device: str, worlds: int, ticks: int
) -> dict[str, float]:
    """The rate once the pipeline is full."""
    for _ in range(_WARM_UP):
        pipeline.push(controls)
    pipeline.flush()
    begun_s = time.perf_counter()
    for _ in range(ticks):
        pipeline.push(controls)
    pipeline.flush()
    tick_ms = (time.perf_counter() - begun_s) / ticks * 1e3
    return {"tick_ms": round(tick_ms, 4), "frames_per_s": round(worlds / tick_ms * 1e3, 1)}


def table(result: dict[str, Any]) -> str:
    one = result["one"]
    lines = [f"{result['game']} on {result['device']}, worlds at once {result['worlds']}"]
    lines.append(f"alone: step {one['step_ms']:.3f} ms, decode {one['decode_ms']:.3f} ms")
    for way in ("one", "two"):
        said = f"{way} accelerator{'s' * (way == 'two')}: {result[way]['frames_per_s']:.1f} true frames/s"
        predicted = result[way].get("predicted_frames_per_s")
        lines.append(said + (f", predicted {predicted:.1f}" if predicted else ""))
    return "\n".join([*lines, f"apart gains {result['gain']:.2f}x"])


if __name__ == "__main__":
    main()
