"""A true step of the world model by every way this machine has, in one run.

    python -m engine.bench.world --game racing --device cuda --worlds 1 --json

At one world a step is hundreds of small kernels: launches decide, and a graph removes them. With more worlds
arithmetic takes over. Beside the times: parameters, multiply-adds, and the bytes of weights and ring that a
step must read. Ends with one JSON line."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from engine.bench.command import dtype_name, dtype_on, figures, parser_for, say
from engine.bench.presets import label, preset
from engine.bench.roofline import Ceilings
from engine.bench.slow import build_slow
from engine.bench.timing import hardware, timed
from engine.config import WorldConfig
from engine.fast.cuda_graph import Body, GraphWorld, compiled_body, plain_body
from engine.fast.kernels_at_hand import has_kernels
from engine.fast.static_world import StaticWorld
from engine.models.world_model import Inputs, WorldModel


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--worlds", type=int, default=1)
    parser.add_argument("--compiled", action="store_true", help="torch.compile too: minutes")
    parser.add_argument("--tuned", action="store_true", help="every tile of our own kernels too: minutes")
    parser.add_argument("--compile-seconds", type=float, default=100.0, help="for each of these at most")
    options = parser.parse_args()
    slow = frozenset(name for name in ("tuned", "compiled") if getattr(options, name))
    seconds = options.compile_seconds
    result = measure(options.game, options.device, options.worlds, options.runs, slow, seconds)
    say(result, table, options.json)


def measure(
    game: str,
    device: str,
    worlds: int,
    runs: int,
    slow: frozenset[str] = frozenset(),
    compile_seconds: float = 100.0,
) -> dict[str, Any]:
    """slow: with what takes minutes to build, "tuned" by our own kernels' best tiles, "compiled" by
    torch.compile."""
    config = preset(game).world
    torch.manual_seed(0)
    model = WorldModel(config).to(device).eval().requires_grad_(False)
    dtype = dtype_on(device)
    ceilings = Ceilings.of(device, dtype)
    works = ways(model, worlds, dtype)
    left_out = build_slow(works, slow_ways(model, worlds, dtype, slow), compile_seconds)
    timings = timed(works, device, runs)
    macs, read = step_macs(config), bytes_read(config, worlds, dtype)
    first = next(iter(timings.values())).median_ms
    return {
        "bench": "world",
        "game": label(game),
        "device": hardware(device),
        "dtype": dtype_name(dtype),
        "ceilings": ceilings.to_json(),
        "worlds": worlds,
        "tokens": config.tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
        "gflop_per_step": round(2 * macs / 1e9, 3),
        "mib_read": round(read / 2**20, 2),
        "left_out": left_out,
        "tiles": tiles() if "tuned" in slow and device == "cuda" else {},
        "ways": {
            name: figures(timing)
            | ceilings.judge(timing.median_ms, 2 * macs * worlds, read)
            | {
                "steps_per_s": round(worlds / timing.median_ms * 1e3, 1),
                "times_first": round(first / timing.median_ms, 3),
                "tflop_per_s": round(2e-9 * macs * worlds / timing.median_ms, 3),
            }
            for name, timing in timings.items()
        },
    }


def ways(model: WorldModel, worlds: int, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """The readable model's one step (of one world, so only there), the static one, captured."""
    device = model.position.device.type
    works: dict[str, Callable[[], object]] = {}
    if worlds == 1:
        works["readable"] = readable(model, dtype)
    works["static"] = stepping(StaticWorld(model, worlds, dtype))
    if device == "cuda":
        works["static + graph"] = stepping(GraphWorld(model, worlds, dtype, body=plain_body))
    return works


def slow_ways(
    model: WorldModel, worlds: int, dtype: torch.dtype, slow: frozenset[str]
) -> dict[str, Callable[[], Callable[[], object]]]:
    """By name, what builds them; only on a GPU."""
    device = model.position.device
    bodies: dict[str, Body] = {}
    if has_kernels(device):
        from engine.fast.fused_world import FusedStep
        from engine.fast.many_step import ManyStep

        bodies["fused"] = FusedStep
        bodies["fused, large products"] = ManyStep
        if "tuned" in slow:
            bodies["fused, tuned"] = functools.partial(FusedStep, tuned=True)
    if device.type == "cuda" and "compiled" in slow:
        bodies["torch.compile"] = compiled_body

    def builder(body: Body) -> Callable[[], Callable[[], object]]:
        return lambda: stepping(GraphWorld(model, worlds, dtype, body=body))

    return {f"{name} + graph": builder(body) for name, body in bodies.items()}


def tiles() -> dict[str, str]:
    from engine.fast.fused_world import tuned_tiles

    return tuned_tiles()


def readable(model: WorldModel, dtype: torch.dtype) -> Callable[[], None]:
    """WorldModel.step under autocast, its ring full."""
    config, device = model.config, model.position.device
    slots, half = config.context - 1, config.head_width // 2
    zeros = functools.partial(torch.zeros, device=device)
    latent = zeros(1, config.channels, config.rows, config.columns)
    widths = (config.buttons, config.telemetry, config.noise)
    buttons, telemetry, noise = (zeros(1, 1, width) for width in widths)
    inputs = Inputs(buttons, zeros(1, 1) + 4, telemetry, zeros(1, 1), noise)
    ring = zeros(len(config.time_layers), 2, slots, config.tokens, config.heads, config.head_width)

    @torch.inference_mode()
    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            model.step(latent, latent, inputs, zeros(half) + 1, zeros(half), ring, zeros(slots))

    return step


def stepping(world: StaticWorld) -> Callable[[], None]:
    controls = np.ones(world.controls.shape, np.float32)
    return lambda: world.step(controls)


def bytes_read(config: WorldConfig, worlds: int, dtype: torch.dtype) -> int:
    """By one step at least: the weights once, each world's ring."""
    with torch.device("meta"):
        weights = sum(p.numel() for p in WorldModel(config).parameters())
    ring = 2 * len(config.time_layers) * config.context * config.tokens * config.width
    return (weights + worlds * ring) * dtype.itemsize


def step_macs(config: WorldConfig) -> int:
    """Multiply-adds of one world's step; norms and softmaxes not counted."""
    tokens, width = config.tokens, config.width
    projections = (4 + 2 * config.mlp_ratio) * width * width * tokens
    space = config.layers * (projections + 2 * tokens * tokens * width)
    over_time = len(config.time_layers) * (4 * width * width * tokens + 2 * tokens * config.context * width)
    embed = config.latent_tokens * 9 * 2 * config.channels * width
    return space + over_time + embed + 7 * width * width + tokens * width * config.channels


def table(result: dict[str, Any]) -> str:
    head = f"{result['game']} on {result['device']}, {result['dtype']}, worlds at once {result['worlds']}: "
    head += f"{result['parameters'] / 1e6:.1f}M parameters, {result['gflop_per_step']} GFLOP a step, "
    head += f"{result['mib_read']} MiB of weights and ring"
    columns = f"{'median ms':>9} {'p99 ms':>9} {'steps/s':>9} {'x first':>8} {'TFLOP/s':>8} bound"
    lines = [head, f"{'way':28} {columns}"]
    for name, one in result["ways"].items():
        times = f"{one['median_ms']:9.3f} {one['p99_ms']:9.3f} {one['steps_per_s']:9.1f}"
        lines.append(f"{name:28} {times} {one['times_first']:8.2f} {one['tflop_per_s']:8.2f} {one['bound']}")
    lines += [f"{name}: {why}" for name, why in result["left_out"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
