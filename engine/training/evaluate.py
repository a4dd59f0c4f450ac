"""Quality against the reference on seeds that training never saw: `dreamcade evaluate GAME`.

    python -m engine.training.evaluate racing --seeds 1000000:1000008 --stride 4 --json [--report OUT]
    [--minutes M [--reference-minutes R] [--jobs N] [--sheet FILE.jpg] [--long-play-only]]

Each seed is played by a scripted driver; the simulator's pictures are the truth. The models are those that
`play` would use (same backend, decoder, weights), with one random vector stream of a fixed seed.
EVALUATION.md defines every figure. The way of a figure: evaluation/arguments.py is the command line, truth.py
plays, rollout.py and actions.py measure, long_play.py and judge.py do so over minutes, jobs.py for many seeds
by processes, batch.py on a GPU at once, results.py makes the JSON, report.py the page."""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from engine.backend import Backend
from engine.errors import EngineError
from engine.models.weights import SHIPPED, WeightsError
from engine.training.evaluation.arguments import arguments
from engine.training.evaluation.batch import BatchPlayer
from engine.training.evaluation.jobs import LongPlayer, Models, Played, Task, play_by_processes
from engine.training.evaluation.pictures import SHEET_ROWS, grid, save_jpeg, sheet_steps
from engine.training.evaluation.report import Report, kept_steps
from engine.training.evaluation.results import as_json, heading, long_play_json, no_reader
from engine.training.evaluation.rollout import Evaluation
from engine.training.filled import measure_filled
from engine.training.reader import Reader

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


def tasks_of(args: argparse.Namespace, seeds: range, minutes: float) -> list[Task]:
    """Autopilot play of `minutes` on every seed; pictures come back of the first REPORT_SEEDS of them for a
    report, of the first SHEET_ROWS for a sheet."""
    stride, steps = args.stride, round(minutes * 3600 / args.stride)
    reference_steps = min(steps, math.ceil(args.reference_minutes * 3600 / stride))
    tasks = []
    for number, seed in enumerate(seeds):
        reported = kept_steps(stride, steps) if args.report and number < REPORT_SEEDS else ()
        shown = sheet_steps(stride, steps) if args.sheet and number < SHEET_ROWS else ()
        keep, keep_real = frozenset((*reported, *shown)), frozenset(reported)
        tasks.append(Task(seed, stride, steps, reference_steps, keep, keep_real))
    return tasks


def play_long(
    args: argparse.Namespace, models: Models, backend: Backend, reader: Reader | None, report: Report | None
) -> dict[str, Any] | None:
    """Autopilot play of --minutes on every seed; without them of what a report shows, and no figures."""
    minutes, seeds = args.minutes or REPORT_SECONDS / 60, args.seeds
    if not args.minutes:
        seeds = seeds[:REPORT_SEEDS]
    tasks = tasks_of(args, seeds, minutes)
    played = play_tasks(args, models, backend, reader, tasks)
    if report:
        for play in played[:REPORT_SEEDS]:
            report.add(play.seed, play.pictures, play.pictures_real)
    if args.sheet:
        save_sheet(args.sheet, played, args.stride, tasks[0].steps)
    return long_play_json(minutes, played) if args.minutes else None


def play_tasks(
    args: argparse.Namespace, models: Models, backend: Backend, reader: Reader | None, tasks: list[Task]
) -> list[Played]:
    """All at once on a GPU, unless --jobs says by how many processes; on a CPU by one."""
    if args.jobs is None and args.device == "cuda":
        return BatchPlayer(args.game, backend, reader, len(tasks)).play(tasks)
    if (args.jobs or 1) > 1:
        return play_by_processes(models, tasks, args.jobs)
    player = LongPlayer(args.game, backend, reader)
    return [player.play(task) for task in tasks]


def save_sheet(path: Path, played: list[Played], stride: int, steps: int) -> None:
    """A JPEG of dreamed pictures: a row a seed, SHEET_SECONDS from left to right."""
    columns = sheet_steps(stride, steps)
    save_jpeg(path, grid([[play.pictures[n] for n in columns] for play in played[:SHEET_ROWS]]))


def print_table(result: dict[str, Any]) -> None:
    """One line per figure, on stderr: stdout ends with the JSON."""
    for name, value in result.items():
        if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()):
            print_table({f"{name} {key}": inner for key, inner in value.items()})
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            print_table({f"{name} {number}": row for number, row in enumerate(value)})
        elif value is not None and value != []:
            text = "  ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            print(f"{name:34} {text}", file=sys.stderr)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what the arguments ask for; raises WeightsError, and EngineError where a process is killed."""
    game, stride = args.game, args.stride
    models = Models(game, args.device, args.threads, args.weights, args.decoder)
    backend, reader = models.backend(), models.reader()
    if args.long_play_only:
        notes = [] if reader else [no_reader(game)]
        result = {**heading(game, args.seeds, stride, backend), "long_play": None, "notes": notes}
    else:
        result = evaluate(game, backend, args.seeds, stride, args.steps, reader)
        result["filled"] = measure_filled(game, backend, args.weights or SHIPPED / game, args.seeds, stride)
    report = Report(args.report, game, stride) if args.report else None
    if args.minutes or report:
        result["long_play"] = play_long(args, models, backend, reader, report)
    if report:
        result["notes"] += report.finish(result)
    return result


def main() -> None:
    args = arguments()
    try:
        result = run(args)
    except (EngineError, WeightsError) as error:
        raise SystemExit(f"dreamcade: error: {error}") from None
    print_table(result)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
