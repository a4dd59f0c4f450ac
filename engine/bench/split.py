"""World and decoder apart on two accelerators against both on one, unpaced: true frames a second.

    python -m engine.bench.split --game racing --device cuda --worlds 8 --json [--profile FILE]
    python -m engine.bench.split --game balanced --device cuda --worlds 16 --balance

One accelerator overlaps step and decode on streams; two send each step's latents from the world's to the
decoder's, double-buffered (engine/fast/device_link.py). What each alone takes tells which of them sets the
rate: apart pays when they are alike. --balance makes them so: it gives the decoder's last stage as many
blocks as make a decode take as long as a step, measured first. With a profile, the planner's prediction
stands beside both. Weights are random: times do not depend on them. Ends with one JSON line."""

import time
from collections.abc import Callable
from dataclasses import replace
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
from engine.config import GameConfig
from engine.fast.device_link import DeviceSender, SentWorld, link_group, packed
from engine.fast.pipeline import Pipeline
from engine.layout import Split, predict
from engine.profiles import Profile, read_profile

_DECODER, _WORLD = 0, 1  # run_ranks gives what rank 0 found
_WARM_UP = 8
_FEW, _MANY, _MOST = 1, 5, 32  # blocks of a decoder's last stage


def main() -> None:
    parser = parser_for(__doc__, runs=1000)
    parser.add_argument("--worlds", type=int, default=1)
    parser.add_argument("--profile", type=Path, help="predict from this one")
    parser.add_argument("--balance", action="store_true", help="a decoder that takes as long as a step")
    parser.add_argument("--seconds", type=float, default=90.0, help="for each of the parts at most")
    options = parser.parse_args()
    sizes = (options.game, options.device, options.worlds, options.runs)
    result = measure(*sizes, options.balance, options.seconds)
    if options.profile:
        add_predictions(result, read_profile(options.profile))
    say(result, table, options.json)


def measure(
    game: str, device: str, worlds: int, ticks: int, balance: bool = False, seconds: float = 90.0
) -> dict[str, Any]:
    """ticks: timed steps of all worlds."""
    assert game in NAMES
    config, ranked = preset(game), partial(run_ranks, device=device, timeout_s=seconds)
    if balance:
        config = with_blocks(config, ranked(1, balancing_blocks, config, device, worlds))
    one = ranked(1, together, config, device, worlds, ticks)
    two = ranked(2, apart, config, device, worlds, ticks)
    return {
        "bench": "split",
        "game": label(game),
        "device": hardware(device),
        "worlds": worlds,
        "ticks": ticks,
        "balanced": balance,
        "decoder_blocks": list(config.autoencoder.decoder_blocks),
        "one": one,
        "two": two,
        "gain": round(two["frames_per_s"] / one["frames_per_s"], 3),
    }


def with_blocks(config: GameConfig, blocks: int) -> GameConfig:
    """Of the decoder's last stage."""
    before = config.autoencoder.decoder_blocks[:-1]
    return replace(config, autoencoder=replace(config.autoencoder, decoder_blocks=(*before, blocks)))


def balancing_blocks(rank: int, config: GameConfig, device: str, worlds: int) -> int:
    """With how many blocks in its last stage a decode takes as long as a step: each costs alike."""
    world = world_for(config, device, worlds)
    works: dict[str, Callable[[], object]] = {
        "step": partial(world.step, np.ones(world.controls.shape, np.float32))
    }
    for name, blocks in (("few", _FEW), ("many", _MANY)):
        works[name] = lanes_for(with_blocks(config, blocks), device, worlds)[0].replay
    ms = {name: one.median_ms for name, one in timed(works, device, 10).items()}
    each_ms = max((ms["many"] - ms["few"]) / (_MANY - _FEW), 1e-3)
    return min(max(round(_FEW + (ms["step"] - ms["few"]) / each_ms), 1), _MOST)


def add_predictions(result: dict[str, Any], profile: Profile) -> None:
    """Where the profile has so many worlds and so large a batch."""
    worlds = result["worlds"]
    if profile.step_time(1, worlds) is None or profile.decode_time(worlds, 1) is None:
        return
    for way, split in (("one", Split(1, 0, 1, worlds)), ("two", Split(1, 1, 1, worlds))):
        predicted = predict(profile, split, worlds).frames_per_s
        result[way]["predicted_frames_per_s"] = round(predicted, 1)
        result[way]["predicted_off"] = round(predicted / result[way]["frames_per_s"] - 1, 4)


def together(rank: int, config: GameConfig, device: str, worlds: int, ticks: int) -> dict[str, float]:
    pipeline, controls = built(config, device, worlds)
    decode = pipeline.lanes[0].decoder.replay
    alone = timed({"step": partial(pipeline.world.step, controls), "decode": decode}, device, 20)
    figures = ticked(pipeline, controls, device, worlds, ticks)
    return figures | {f"{name}_ms": round(one.median_ms, 4) for name, one in alone.items()}


def apart(rank: int, config: GameConfig, device: str, worlds: int, ticks: int) -> dict[str, float] | None:
    if rank == _DECODER:
        shape, telemetry = shape_of(config), config.world.telemetry
        lanes, group = lanes_for(config, device, worlds), link_group(device)
        dist.barrier()
        world = SentWorld(shape, telemetry, worlds, device, _WORLD, group)
        figures = ticked(Pipeline(world, lanes), np.zeros(0, np.float32), device, worlds, ticks)
        world.close()
        return figures
    own = world_for(config, device, worlds)
    controls, group = np.ones(own.controls.shape, np.float32), link_group(device)
    dist.barrier()
    link = DeviceSender(packed(own.latent, own.told), _DECODER, group)
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
    alone = f"alone: step {one['step_ms']:.3f} ms, decode {one['decode_ms']:.3f} ms"
    lines.append(alone + (f", by {result['decoder_blocks']} blocks" if result["balanced"] else ""))
    for way in ("one", "two"):
        said = f"{way} accelerator{'s' * (way == 'two')}: {result[way]['frames_per_s']:.1f} true frames/s"
        predicted = result[way].get("predicted_frames_per_s")
        lines.append(said + (f", predicted {predicted:.1f}" if predicted else ""))
    return "\n".join([*lines, f"apart gains {result['gain']:.2f}x"])


if __name__ == "__main__":
    main()
