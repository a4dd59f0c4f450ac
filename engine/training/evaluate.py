"""Quality against the reference on seeds that training never saw: `dreamcade evaluate GAME`.

    python -m engine.training.evaluate racing --seeds 1000000:1000008 --stride 4 --json [--report OUT]
    [--minutes M [--jobs N] [--sheet FILE.jpg] [--long-play-only]]

Each seed is played by a scripted driver; the simulator's pictures are the truth. The models are those that
`play` would use (same backend, decoder, weights), with one random vector stream of a fixed seed.
EVALUATION.md defines every figure. The way of a figure: evaluation/truth.py plays, rollout.py and actions.py
measure, long_play.py and judge.py do so over minutes, jobs.py for many seeds at once, results.py makes the
JSON, report.py the page."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from engine.backend import Backend
from engine.errors import EngineError
from engine.models.weights import SHIPPED, WeightsError
from engine.training.evaluation.jobs import LongPlayer, Models, Played, Task, play_by_processes
from engine.training.evaluation.pictures import SHEET_ROWS, SHEET_SECONDS, grid, save_jpeg, sheet_steps
from engine.training.evaluation.report import Report, kept_steps
from engine.training.evaluation.results import as_json, heading, long_play_json, no_reader
from engine.training.evaluation.rollout import ROLLOUT_STEPS, Evaluation
from engine.training.filled import measure_filled
from engine.training.reader import Reader
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


def tasks_of(seeds: range, stride: int, minutes: float, report: bool, sheet: bool) -> list[Task]:
    """Autopilot play of `minutes` on every seed; pictures come back of the first REPORT_SEEDS of them for a
    report, of the first SHEET_ROWS for a sheet."""
    steps = round(minutes * 3600 / stride)
    reference_steps = min(steps, round(REFERENCE_MINUTES * 3600 / stride))
    tasks = []
    for number, seed in enumerate(seeds):
        reported = kept_steps(stride, steps) if report and number < REPORT_SEEDS else ()
        shown = sheet_steps(stride, steps) if sheet and number < SHEET_ROWS else ()
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
    tasks = tasks_of(seeds, args.stride, minutes, report is not None, args.sheet is not None)
    if args.jobs > 1:
        played = play_by_processes(models, tasks, args.jobs)
    else:
        player = LongPlayer(args.game, backend, reader)
        played = [player.play(task) for task in tasks]
    if report:
        for play in played[:REPORT_SEEDS]:
            report.add(play.seed, play.pictures, play.pictures_real)
    if args.sheet:
        save_sheet(args.sheet, played, args.stride, tasks[0].steps)
    return long_play_json(minutes, played) if args.minutes else None


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


def parse_jobs(text: str) -> int:
    if not (text.isdigit() and 0 < int(text) <= 256):
        raise argparse.ArgumentTypeError(f"jobs {text!r}: a whole number of processes, 1 to 256")
    return int(text)


def parse_sheet(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".jpg", ".jpeg") or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"sheet {text!r}: a .jpg file in a directory that is there")
    return path


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
    made.add_argument(
        "--long-play-only", action="store_true", help="with --minutes: no rollouts, no filled frames"
    )
    made.add_argument(
        "--jobs", type=parse_jobs, default=1, help="so many processes play the seeds of long play"
    )
    made.add_argument(
        "--sheet",
        type=parse_sheet,
        help=f"with --minutes: a JPEG of dreamed pictures, a row a seed ({SHEET_ROWS} at most), at "
        f"{', '.join(map(str, SHEET_SECONDS))} s",
    )
    made.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    made.add_argument("--decoder", choices=("cpu", "wide"), help="instead of what fits the device")
    made.add_argument(
        "--threads", type=int, default=2, help="on a CPU, of all --jobs together, at least one each"
    )
    made.add_argument("--weights", type=Path, help="a directory instead of the shipped weights")
    made.add_argument("--report", type=Path, help="write strips, films, curves and a page there")
    made.add_argument("--json", action="store_true", help="end with one JSON line")
    return made


def arguments() -> argparse.Namespace:
    """The command line's; what does not go together ends the command."""
    made = parser()
    args = made.parse_args()
    if args.jobs > 1 and not (args.minutes or args.report):
        made.error("--jobs shares out long play: it needs --minutes or --report")
    for option in ("long_play_only", "sheet"):
        if getattr(args, option) and not args.minutes:
            made.error(f"--{option.replace('_', '-')} needs --minutes")
    if args.sheet and not sheet_steps(args.stride, round(args.minutes * 3600 / args.stride)):
        made.error(f"--sheet begins at {SHEET_SECONDS[0]} s: --minutes {args.minutes:g} is less")
    return args


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
