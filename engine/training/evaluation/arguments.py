"""The command line of `dreamcade evaluate`; see engine/training/evaluate.py."""

import argparse
from importlib.util import find_spec
from pathlib import Path

from engine.training.evaluation.pictures import SHEET_ROWS, SHEET_SECONDS, sheet_steps
from engine.training.evaluation.rollout import ROLLOUT_STEPS
from games import GAMES

REFERENCE_MINUTES = 2.0
"""The simulator's own long play is judged for so long at most: it is slower than the dream."""


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


def parse_reference(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes <= 600:
        raise argparse.ArgumentTypeError(f"reference minutes {text!r}: a number, 0 (none) to 600")
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
    doc = "Quality against the reference on seeds that training never saw."
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
        "--reference-minutes",
        type=parse_reference,
        default=REFERENCE_MINUTES,
        help="of long play in the simulator beside the dream, at most; 0: none, its figures are null "
        "(default %(default)g)",
    )
    made.add_argument(
        "--jobs",
        type=parse_jobs,
        help="so many processes play the seeds of long play, each one after the other (default on a CPU: 1); "
        "on a GPU one process plays all at once, unless this is given",
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
    if args.jobs and args.jobs > 1 and not (args.minutes or args.report):
        made.error("--jobs shares out long play: it needs --minutes or --report")
    for option in ("long_play_only", "sheet"):
        if getattr(args, option) and not args.minutes:
            made.error(f"--{option.replace('_', '-')} needs --minutes")
    if args.report and not args.reference_minutes:
        made.error("--report shows the simulator beside the dream: --reference-minutes must be above 0")
    if args.report and not find_spec("av"):
        made.error("--report makes films with PyAV, which is missing: pip install av")
    if args.sheet and not (find_spec("av") or find_spec("PIL")):
        made.error("--sheet needs PyAV or Pillow to write a JPEG: pip install av")
    if args.sheet and not sheet_steps(args.stride, round(args.minutes * 3600 / args.stride)):
        made.error(f"--sheet begins at {SHEET_SECONDS[0]} s: --minutes {args.minutes:g} is less")
    return args
