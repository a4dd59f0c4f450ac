"""Unpaced true frames a second of one device: world steps beside decodes, bytes on the host.

    python -m engine.bench.engine --game racing --device cuda --worlds 1 --json

With several numbers of worlds, a curve instead: see engine/bench/curve.py.

In one run: step, decode and copy one after the other; the same overlapped on streams; and each of the three
alone, the longest of which is the overlapped one's floor. Latency is one step, decode and copy with nothing
else under way: from buttons to pixels on the host. Weights are random: times do not depend on them. Ends with
one JSON line.

A filled frame is extrapolated and decoded as in play, host to host, one after the other; with three of them
behind each true frame that is what stride 4 shows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from engine.backend import Draft
from engine.bench.command import dtype_on, figures, numbers, parser_for, say
from engine.bench.presets import label, preset
from engine.bench.timing import hardware, timed, wait
from engine.config import GameConfig
from engine.fast.cuda_graph import (
    Body,
    EagerPaint,
    GraphDecoder,
    GraphWorld,
    Paint,
    compiled_body,
    make_paint,
    plain_body,
)
from engine.fast.extrapolators import LearnedExtrapolator, TorchNet
from engine.fast.graphed_extrapolator import GraphedExtrapolator
from engine.fast.pipeline import Pipeline
from engine.models.autoencoder import Decoder
from engine.models.extrapolator_net import ExtrapolatorNet
from engine.models.weights import build
from engine.models.world_model import WorldModel

TICKS = 8  # per timed run, so that filling the pipeline weighs little
_ALONE = ("step alone", "decode alone", "copy alone")
STEPS = ("best", "fused", "many", "plain", "compiled")
"""Of a curve: the quickest that this machine has, or one of engine/fast's own."""
_FILLED = 3  # frames between two true ones


def main() -> None:
    parser = parser_for(__doc__, runs=20)
    parser.add_argument("--worlds", type=numbers, default=(1,), help="at once; several make a curve")
    parser.add_argument("--decoders", help="presets whose decoders the curve has; the game's own otherwise")
    parser.add_argument("--step", choices=STEPS, default="best", help="of the curve")
    parser.add_argument(
        "--seconds", type=float, default=240.0, help="of a curve: begin no point after so long"
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--unfused", action="store_true", help="step and decode without our own kernels")
    ways.add_argument("--compiled", action="store_true", help="torch.compile the step before its capture")
    parser.add_argument("--tuned", action="store_true", help="try all tiles of the fused decoder first")
    options = parser.parse_args()
    if len(options.worlds) > 1:
        from engine.bench.curve import Curve, curve_table, measure_curve

        decoders = tuple(options.decoders.split(",")) if options.decoders else (options.game,)
        curve = Curve(
            options.game,
            decoders,
            options.worlds,
            options.device,
            options.runs,
            options.step,
            options.seconds,
        )
        say(measure_curve(curve), curve_table, options.json)
        return
    how = {name: getattr(options, name) for name in ("unfused", "compiled", "tuned")}
    body = compiled_body if options.compiled else plain_body if options.unfused else None
    config, fused = preset(options.game), not options.unfused
    made = built(config, options.device, options.worlds[0], body, fused, options.tuned)
    result = measure(options.game, options.device, options.runs, *made)
    say(result | how, table, options.json)


def measure(game: str, device: str, runs: int, pipeline: Pipeline, controls: np.ndarray) -> dict[str, Any]:
    worlds, lane = len(controls), pipeline.lanes[0]

    def overlapped() -> None:
        for _ in range(TICKS):
            pipeline.push(controls)
        pipeline.flush()

    def in_turn() -> None:
        pipeline.push(controls)
        pipeline.flush()

    works: dict[str, Callable[[], object]] = {
        "overlapped": overlapped,
        "step alone": lambda: pipeline.world.step(controls),
        "decode alone": lane.decoder.replay,
        "copy alone": lambda: lane.pictures_host.copy_(lane.decoder.pictures, non_blocking=True),
    }
    if worlds == 1:
        fills = filling(preset(game), device)
        works |= fills
        works["filled frame"] = lambda: lane.decoder.decode(fills["extrapolate"]())
        works["drafted frame"] = lambda: lane.decoder.decode(fills["interpolate"]())
    timings = timed({"in turn": in_turn}, device, runs) | timed(works, device, runs)
    wait(device)
    tick_ms = timings["overlapped"].median_ms / TICKS
    fill_ms = timings["filled frame"].median_ms if worlds == 1 else 0.0
    shown = (1 + _FILLED) / (tick_ms + _FILLED * fill_ms) * 1e3
    floor = max(_ALONE, key=lambda name: timings[name].median_ms)
    return {
        "bench": "engine",
        "game": label(game),
        "device": hardware(device),
        "worlds": worlds,
        "latency_ms": round(timings["in turn"].median_ms, 4),
        "true_frames_per_s": round(worlds / tick_ms * 1e3, 1),
        "shown_frames_per_s": round(shown, 1) if fill_ms else None,
        "overlap_gain": round(timings["in turn"].median_ms / tick_ms, 3),
        "floor": floor.removesuffix(" alone"),
        "times_floor": round(tick_ms / timings[floor].median_ms, 3),
        "ways": {
            name: figures(timing)
            | {
                "frames_per_s": round(
                    worlds * (TICKS if name == "overlapped" else 1) / timing.median_ms * 1e3, 1
                )
            }
            for name, timing in timings.items()
        },
    }


def built(
    config: GameConfig,
    device: str,
    worlds: int,
    body: Body | None = None,
    fused: bool = True,
    tuned: bool = False,
) -> tuple[Pipeline, np.ndarray]:
    """A pipeline of two lanes, and controls for its steps. body: what makes the step, what play uses unless
    given; fused: decoders by our own kernels where they can be had."""
    world = world_for(config, device, worlds, body)
    pipeline = Pipeline(world, lanes_for(config, device, worlds, fused, tuned))
    return pipeline, np.ones(world.controls.shape, np.float32)


def world_for(config: GameConfig, device: str, worlds: int, body: Body | None = None) -> GraphWorld:
    torch.manual_seed(0)
    model = WorldModel(config.world).to(device).eval().requires_grad_(False)
    return GraphWorld(model, worlds, dtype_on(device), capture=device == "cuda", body=body)


def lanes_for(
    config: GameConfig, device: str, worlds: int, fused: bool = True, tuned: bool = False
) -> list[GraphDecoder]:
    """Two decoders, for the lanes of a pipeline."""
    assert shape_of(config)[1:] == (10, 15), "this preset's world has no decoder"
    torch.manual_seed(0)
    decoder = Decoder(config.autoencoder).to(device).eval().requires_grad_(False)
    dtype = dtype_on(device)
    paint: Paint = make_paint(decoder, dtype, tuned=tuned) if fused else EagerPaint(decoder, dtype)
    return [GraphDecoder(decoder, shape_of(config), worlds, dtype, device == "cuda", paint) for _ in range(2)]


def extrapolator_for(config: GameConfig, device: str) -> LearnedExtrapolator:
    """As engine.fast.torch_backend has it."""
    torch.manual_seed(0)
    net = build(config, "extrapolator").to(device).eval().requires_grad_(False)
    assert isinstance(net, ExtrapolatorNet)
    if device == "cuda":
        return GraphedExtrapolator(net, shape_of(config), config.world.buttons)
    return LearnedExtrapolator(TorchNet(net, dtype_on(device)), takes_drafts=net.takes_drafts)


def filling(config: GameConfig, device: str) -> dict[str, Callable[[], np.ndarray]]:
    """An extrapolation, and an interpolation to a draft, as the decoder rank calls them: latents on the host
    to a latent on the host."""
    extrapolator = extrapolator_for(config, device)
    latents = np.random.default_rng(0).standard_normal((3, *shape_of(config)), np.float32)
    latents /= np.sqrt(np.square(latents).mean(1, keepdims=True))
    known, draft = latents[:2], Draft(latents[2], 8.0)
    times, buttons = np.array([0, 4], np.float32), np.ones(config.world.buttons, np.float32)
    return {
        "extrapolate": lambda: extrapolator.extrapolate(known, times, buttons, 6.0),
        "interpolate": lambda: extrapolator.interpolate(known, times, buttons, 6.0, draft),
    }


def shape_of(config: GameConfig) -> tuple[int, int, int]:
    """A latent's."""
    return (config.world.channels, config.world.rows, config.world.columns)


def table(result: dict[str, Any]) -> str:
    lines = [f"{result['game']} on {result['device']}, worlds at once {result['worlds']}"]
    lines.append(f"{'way':14} {'median ms':>9} {'p99 ms':>9} {'frames/s':>9}")
    for name, one in result["ways"].items():
        lines.append(f"{name:14} {one['median_ms']:9.3f} {one['p99_ms']:9.3f} {one['frames_per_s']:9.1f}")
    lines.append(f"(overlapped: {TICKS} ticks a run)")
    lines.append(f"latency {result['latency_ms']:.3f} ms; overlap gains {result['overlap_gain']:.2f}x; ")
    lines[-1] += f"{result['times_floor']:.2f}x the {result['floor']} alone"
    if (shown := result["shown_frames_per_s"]) is not None:
        lines.append(f"shown frames/s at stride 4, filled ones one after the other: {shown:.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
