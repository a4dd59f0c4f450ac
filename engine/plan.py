"""Which of N accelerators run the world model and which decode, from a measured profile. Needs no GPU.

    python -m engine.plan --gpus 4 [--preset racing] [--worlds 1] [--objective throughput]
                          [--profile FILE] [--json]

Prints the table of legal splits, best first, and the choice in words; with --json one line instead."""

import argparse
import json
import sys
from pathlib import Path

from engine.errors import EngineError, UsageError
from engine.layout import OBJECTIVES, Plan, make_plan
from engine.profiles import gpu_profile, read_profile

_MOST_GPUS = 1024
_SHOWN = 15


def main(argv: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="dreamcade plan", description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, required=True, help="accelerators to share out")
    parser.add_argument("--worlds", type=int, default=1, help="worlds dreamt at once")
    parser.add_argument("--objective", choices=OBJECTIVES, default=OBJECTIVES[0])
    parser.add_argument(
        "--preset", default="racing", help="sizes that were profiled, as benchmarks name them"
    )
    parser.add_argument("--profile", type=Path, help="a profile instead of a shipped GPU's")
    parser.add_argument("--json", action="store_true", help="one JSON line instead of the table")
    options = parser.parse_args(argv)
    try:
        if not 1 <= options.gpus <= _MOST_GPUS:
            raise UsageError(f"--gpus {options.gpus}: choose 1 to {_MOST_GPUS}")
        profile = read_profile(options.profile) if options.profile else gpu_profile(options.preset)
        plan = make_plan(profile, options.gpus, options.worlds, options.objective)
    except EngineError as error:
        print(f"dreamcade: error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(plan.to_json()) if options.json else report(plan))
    return 0


def report(plan: Plan) -> str:
    """Head, table, choice."""
    profile = plan.profile
    lines = [f"{profile.name}: {profile.hardware}, {profile.model.preset}, {profile.made}"]
    if not profile.measured:
        lines.append("Not measured: an example profile.")
    if plan.gpus > profile.accelerators:
        lines.append(f"Measured on {profile.accelerators}: for {plan.gpus} this table is a prediction.")
    lines.append(f"{'world':>5} {'decoder':>7} {'bands':>5} {'batch':>5} {'frames/s':>9} {'ms':>8}  set by")
    for one in plan.table[:_SHOWN]:
        split, mark = one.split, " (extrapolated)" if one.extrapolated else ""
        ranks = f"{split.world_ranks:5d} {split.decoder_ranks or 'same':>7} {split.bands:5d} {split.batch:5d}"
        lines.append(f"{ranks} {one.frames_per_s:9.1f} {one.latency_ms:8.2f}  {one.bottleneck}{mark}")
    if (more := len(plan.table) - _SHOWN) > 0:
        lines.append(f"and {more} more (--json has all)")
    return "\n".join([*lines, "", plan.explanation()])


if __name__ == "__main__":
    sys.exit(main())
