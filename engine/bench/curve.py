"""The curve of `bench engine --worlds 1,2,4,...`: true frames a second of so many worlds at once, each tick
one step of all and one decode of all, every picture's bytes on the host.

    python -m engine.bench.engine --game racing --device cuda --worlds 1,16,128 --decoders racing,racing-wide

One world, several decoders: `curve` in the JSON has a point a number of worlds,

    worlds, frames_wanted   how many at once; 60 true frames a second for each of them
    step, step_ms           the step that was taken, and what it takes alone
    steps_ms, failed        each step that was tried: alone; or why it could not be had
    decoders                by preset: decode_ms and copy_ms alone, tick_ms with all three overlapped,
                            latency_ms from buttons to pixels with nothing else under way,
                            true_frames_per_s = worlds / tick_ms, real_time_worlds = that / 60,
                            real_time: whether they are frames_wanted or more,
                            floor: what takes longest alone

and `skipped` what found no time or memory. `--step best` (default) times every step this machine has, at
every point: where ManyStep beats FusedStep is what LEAST_ROWS of engine/fast/many_step.py should say."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from engine.bench.command import dtype_name, dtype_on
from engine.bench.engine import TICKS, lanes_for, world_for
from engine.bench.points import Points, give_back
from engine.bench.presets import label, preset
from engine.bench.timing import hardware, timed
from engine.config import GameConfig
from engine.fast.cuda_graph import Body, GraphWorld, compiled_body, plain_body
from engine.fast.kernels_at_hand import has_kernels
from engine.fast.pipeline import Pipeline

_FPS = 60


@dataclass(frozen=True)
class Curve:
    """What to measure: worlds of `game`, each number with each of the presets' decoders. step: of STEPS, or
    "best"."""

    game: str
    decoders: tuple[str, ...]
    worlds: tuple[int, ...]
    device: str
    runs: int
    step: str = "best"
    seconds: float = 240.0


def measure_curve(wanted: Curve) -> dict[str, Any]:
    """See the module's text."""
    points = Points(time.monotonic() + wanted.seconds)
    curve = points.of("worlds", wanted.worlds, partial(point, wanted))
    return {
        "bench": "engine",
        "game": label(wanted.game),
        "device": hardware(wanted.device),
        "dtype": dtype_name(dtype_on(wanted.device)),
        "decoders": [label(name) for name in wanted.decoders],
        "curve": sorted(curve, key=lambda one: one["worlds"]),  # measured in the order that was asked for
        "skipped": points.skipped,
    }


def point(wanted: Curve, worlds: int) -> dict[str, Any]:
    config, failed = preset(wanted.game), dict[str, str]()
    name, world, steps_ms = quickest(config, wanted, worlds, failed)
    decoders = {}
    for decoder in wanted.decoders:
        own = replace(config, autoencoder=preset(decoder).autoencoder)
        decoders[decoder] = decoded(own, wanted, world)
        give_back()
    return {
        "frames_wanted": _FPS * worlds,
        "step": name,
        "step_ms": steps_ms[name],
        "steps_ms": steps_ms,
        "failed": failed,
        "decoders": decoders,
    }


def steps(device: Any) -> dict[str, Body]:
    """Every way of a step that this machine has, PyTorch's last."""
    bodies: dict[str, Body] = {}
    if has_kernels(device):
        from engine.fast.fused_world import FusedStep
        from engine.fast.many_step import ManyStep

        bodies |= {"fused": FusedStep, "many": ManyStep}
    return bodies | {"plain": plain_body}


def quickest(
    config: GameConfig, wanted: Curve, worlds: int, failed: dict[str, str]
) -> tuple[str, GraphWorld, dict[str, float]]:
    """Its name, it, and what each that was tried takes, ms. failed: filled with those that could not be
    had."""
    import torch

    device = torch.device(wanted.device)
    bodies = steps(device) | ({"compiled": compiled_body} if wanted.step == "compiled" else {})
    tried = list(bodies) if wanted.step == "best" else [wanted.step]
    if missing := set(tried) - set(bodies):
        raise SystemExit(f"no step {missing.pop()!r} here: it needs a GPU, Triton and a C compiler")
    best: tuple[str, GraphWorld] | None = None
    took: dict[str, float] = {}
    for name in tried:
        try:
            world = world_for(config, wanted.device, worlds, bodies[name])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # compilers and drivers fail in words of their own
            failed[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:120]}"
            continue
        controls = np.ones(world.controls.shape, np.float32)
        one = timed({"": partial(world.step, controls)}, wanted.device, wanted.runs)[""]
        took[name] = round(one.median_ms, 4)
        if best is None or took[name] < took[best[0]]:
            best = name, world
        del world
        give_back()
    if best is None:
        raise RuntimeError(f"no step of {worlds} worlds can be had: {failed}")
    return *best, took


def decoded(config: GameConfig, wanted: Curve, world: GraphWorld) -> dict[str, Any]:
    """Steps of `world` beside decodes by this config's decoder."""
    worlds, controls = world.slots, np.ones(world.controls.shape, np.float32)
    pipeline = Pipeline(world, lanes_for(config, wanted.device, worlds))
    lane = pipeline.lanes[0]

    def ticks(count: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(count):
                pipeline.push(controls)
            pipeline.flush()

        return run

    works: Mapping[str, Callable[[], object]] = {
        "latency": ticks(1),
        "ticks": ticks(TICKS),
        "step": partial(world.step, controls),
        "decode": lane.decoder.replay,
        "copy": lambda: lane.pictures_host.copy_(lane.decoder.pictures, non_blocking=True),
    }
    ms = {name: one.median_ms for name, one in timed(works, wanted.device, wanted.runs).items()}
    tick_ms = ms["ticks"] / TICKS
    rate = worlds / tick_ms * 1e3
    return {
        "decode_ms": round(ms["decode"], 4),
        "copy_ms": round(ms["copy"], 4),
        "tick_ms": round(tick_ms, 4),
        "latency_ms": round(ms["latency"], 4),
        "true_frames_per_s": round(rate, 1),
        "real_time_worlds": int(rate / _FPS),
        "real_time": rate >= _FPS * worlds,
        "floor": max(("step", "decode", "copy"), key=lambda name: ms[name]),
    }


def curve_table(result: dict[str, Any]) -> str:
    lines = [f"{result['game']} on {result['device']}, {result['dtype']}: true frames a second"]
    lines.append(f"{'worlds':>6} {'step':>8} {'step ms':>8} {'decoder':>14} {'decode ms':>9} {'copy ms':>8}")
    lines[-1] += f" {'tick ms':>8} {'latency':>8} {'frames/s':>9} {'60 each':>8}"
    for one in result["curve"]:
        for name, own in one["decoders"].items():
            world = f"{one['worlds']:6d} {one['step']:>8} {one['step_ms']:8.3f}"
            alone = f"{name:>14} {own['decode_ms']:9.3f} {own['copy_ms']:8.3f}"
            both = f"{own['tick_ms']:8.3f} {own['latency_ms']:8.3f} {own['true_frames_per_s']:9.1f}"
            lines.append(f"{world} {alone} {both} {'yes' if own['real_time'] else 'no':>8}")
        if len(one["steps_ms"]) > 1:
            lines.append("       steps: " + ", ".join(f"{k} {v:.3f} ms" for k, v in one["steps_ms"].items()))
        lines += [f"       {name} failed: {why}" for name, why in one["failed"].items()]
    return "\n".join(lines + [f"skipped: {why}" for why in result["skipped"]])
