"""How many frames per second a game's own renderer makes: the truth that training is fed with.

    python -m engine.bench.render racing --batch 128 --device cuda --json

One frame = physics step, scripted driver and picture of one world. Also printed: the picture alone. Ends with
one JSON line.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from engine.bench.timing import timed, wait
from games import GAMES, simulator


@dataclass(frozen=True)
class Result:
    """Medians over `runs`; frames per second count every world of the batch."""

    game: str
    device: str
    batch: int
    runs: int
    build_s: float
    first_frame_s: float
    frames_per_s: float
    render_frames_per_s: float
    render_ms: float
    simulate_ms: float
    restart_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=sorted(GAMES))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--frames", type=int, default=20, help="frames per run")
    parser.add_argument("--classes", action="store_true", help="render class maps as well")
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    args = parser.parse_args()
    result = measure(args.game, args.batch, args.device, args.runs, args.frames, args.classes)
    if not args.json:
        for name, value in asdict(result).items():
            print(f"{name:>22}  {value:.2f}" if isinstance(value, float) else f"{name:>22}  {value}")
    print(json.dumps(asdict(result)))


def measure(game: str, batch: int, device: str, runs: int, frames: int, classes: bool) -> Result:
    """Warm up (compile), then time `runs` runs of `frames` frames."""
    module = simulator(game)
    seeds = torch.arange(batch)
    start = time.perf_counter()
    world, drivers = module.World(seeds, device), module.Drivers(seeds, device)
    wait(device)
    build_s = time.perf_counter() - start
    draw = world.render_classes if classes else world.render

    def simulate() -> None:
        world.step(drivers.act(world))

    start = time.perf_counter()
    draw()
    wait(device)
    first_s = time.perf_counter() - start
    for _ in range(90):  # drive away from the start, so that the pictures are typical
        simulate()
    draw()
    simulate_s = _median_s(simulate, device, runs, frames)
    render_s = _median_s(draw, device, runs, frames)

    def both() -> None:
        simulate()
        draw()

    both_s = _median_s(both, device, runs, frames)
    where = torch.arange(batch) % 8 == 0
    restart_s = _median_s(lambda: world.restart(where, seeds + 1000), device, 3, 1)
    return Result(
        game,
        torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        batch,
        runs,
        build_s,
        first_s,
        batch / both_s,
        batch / render_s,
        render_s * 1e3,
        simulate_s * 1e3,
        restart_s * 1e3,
    )


def _median_s(work: Callable[[], object], device: str, runs: int, frames: int) -> float:
    """Seconds per call, median over runs."""
    return timed({"": work}, device, runs, frames, warm_up=0)[""].median_ms / 1e3


if __name__ == "__main__":
    main()
