"""Quality against the reference on seeds that training never saw: `dreamcade evaluate GAME`.

    python -m engine.training.evaluate racing --seeds 1000000:1000008 --stride 4 --json [--minutes M]
    [--report OUT]

Each seed is played by a scripted driver; the simulator's pictures are the truth. The models are those that
`play` would use (same backend, decoder, weights), with one random vector stream of a fixed seed.
EVALUATION.md defines every figure. The way of a figure: evaluation/truth.py plays, rollout.py and actions.py
measure, long_play.py and judge.py do so over minutes, results.py makes the JSON, report.py the page."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from engine.backend import Backend, load_backend
from engine.models.weights import SHIPPED, WeightsError
from engine.training.evaluation.judge import Verdict, judge
from engine.training.evaluation.long_play import begin, dream, reference
from engine.training.evaluation.report import Report, kept_steps
from engine.training.evaluation.results import as_json, long_play_json
from engine.training.evaluation.rollout import ROLLOUT_STEPS, Evaluation
from engine.training.filled import measure_filled
from engine.training.reader import Reader, load_reader
from games import GAMES

REFERENCE_MINUTES = 2.0
"""The simulator's own long play is judged for so long at most: it is slower than the dream."""
REPORT_SECONDS, REPORT_SEEDS = 60, 2


def evaluate(
    game: str, backend: Backend, seeds: range, stride: int, steps: int, reader: Reader | None
) -> dict[str, Any]:
    """Everything but long play and pictures."""
    evaluation = Evaluation(game, backend, stride, steps, reader)
    for seed in seeds:
        began = time.monotonic()
        evaluation.run(seed)
        print(f"seed {seed}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return as_json(game, seeds, stride, backend, evaluation)


def play_long(
    game: str,
    backend: Backend,
    seeds: range,
    stride: int,
    minutes: float,
    reader: Reader | None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Autopilot play of `minutes` on every seed; the first REPORT_SEEDS of them go into the report."""
    world, decoder, encoder = backend.world(), backend.decoder(), backend.encoder()
    steps = round(minutes * 3600 / stride)
    reference_steps = min(steps, round(REFERENCE_MINUTES * 3600 / stride))
    dreamed: list[Verdict] = []
    real: list[Verdict] = []
    for number, seed in enumerate(seeds):
        began = time.monotonic()
        shown = report is not None and number < REPORT_SEEDS
        keep = kept_steps(stride, steps) if shown else set()
        start = begin(game, seed, stride, encoder)
        play = dream(game, start, stride, steps, world, encoder, decoder, keep)
        true = reference(game, start, stride, reference_steps, keep)
        dreamed.append(judge(play, reader))
        real.append(judge(true, reader))
        if report and shown:
            report.add(seed, play, true)
        print(f"seed {seed}: long play, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return long_play_json(minutes, dreamed, real)


def print_table(result: dict[str, Any]) -> None:
    """One line per figure, on stderr: stdout ends with the JSON."""
    for name, value in result.items():
        if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()):
            print_table({f"{name} {key}": inner for key, inner in value.items()})
        elif value is not None and value != []:
            text = "  ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            print(f"{name:34} {text}", file=sys.stderr)


def parse_seeds(text: str) -> range:
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last) < 2**31):
        raise argparse.ArgumentTypeError(f"seeds {text!r}: write A:B with A < B, for example 1000000:1000008")
    return range(int(first), int(last))


def parse_minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= 600:
        raise argparse.ArgumentTypeError(f"minutes {text!r}: a number above 0, 600 at most")
    return minutes


def parser() -> argparse.ArgumentParser:
    doc = (__doc__ or "").splitlines()[0]
    made = argparse.ArgumentParser(prog="dreamcade evaluate", description=doc)
    made.add_argument("game", choices=tuple(GAMES))
    made.add_argument(
        "--seeds", type=parse_seeds, default=range(1_000_000, 1_000_008), help="A:B, B not included"
    )
    made.add_argument("--stride", type=int, default=4, choices=range(1, 9))
    made.add_argument(
        "--steps", type=int, default=75, choices=(*ROLLOUT_STEPS, 900), help="length of the rollout"
    )
    made.add_argument("--minutes", type=parse_minutes, help="also minutes of autopilot play on every seed")
    made.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    made.add_argument("--decoder", choices=("cpu", "wide"), help="instead of what fits the device")
    made.add_argument("--threads", type=int, default=2, help="on a CPU")
    made.add_argument("--weights", type=Path, help="a directory instead of the shipped weights")
    made.add_argument("--report", type=Path, help="write strips, films, curves and a page there")
    made.add_argument("--json", action="store_true", help="end with one JSON line")
    return made


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what the arguments ask for; raises WeightsError."""
    game, stride = args.game, args.stride
    weights = str(args.weights) if args.weights else None
    roles = ("world", "decoder", "encoder")
    how = {"device": args.device, "weights": weights, "decoder": args.decoder}
    backend = load_backend(game, roles=roles, threads=args.threads, **how)
    reader = load_reader(game, args.weights)
    result = evaluate(game, backend, args.seeds, stride, args.steps, reader)
    result["filled"] = measure_filled(game, backend, args.weights or SHIPPED / game, args.seeds, stride)
    report = Report(args.report, game, stride) if args.report else None
    if args.minutes:
        result["long_play"] = play_long(game, backend, args.seeds, stride, args.minutes, reader, report)
    elif report:
        play_long(game, backend, args.seeds[:REPORT_SEEDS], stride, REPORT_SECONDS / 60, reader, report)
    if report:
        result["notes"] += report.finish(result)
    return result


def main() -> None:
    args = parser().parse_args()
    try:
        result = run(args)
    except WeightsError as error:
        raise SystemExit(f"dreamcade: error: {error}") from None
    print_table(result)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
