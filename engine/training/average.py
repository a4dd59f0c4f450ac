"""Stage `average`: world models of several runs, all resumed from the same weights -> their weighted mean.

    python -m engine.training.average racing --of RUN1=0.3 RUN2=0.7 --out OUT

Such runs lie in one valley of the loss, and their mean is often better than each of them (model soups,
2203.05482). RUN: a directory as stage `world` writes it, with this game's world alone; OUT gets the same
files, in float32."""

import argparse
from math import inf
from pathlib import Path

from torch import Tensor

from engine.training.files import write_world
from engine.training.pack import read_parts
from games import GAMES


def averaged(game: str, runs: list[tuple[Path, float]]) -> dict[str, Tensor]:
    """The mean of the runs' weights, float32, by share. Raises SystemExit where they do not fit together."""
    if not all(0 < share < inf for _, share in runs):
        raise SystemExit("dreamcade: error: --of wants RUN=SHARE, each share above 0")
    total, made = sum(share for _, share in runs), dict[str, Tensor]()
    for run, share in runs:
        state = read_parts(game, run).get("world")
        if state is None:
            raise SystemExit(f"dreamcade: error: {run} holds no {game}-world-*.safetensors: name a run")
        if made and {n: v.shape for n, v in made.items()} != {n: v.shape for n, v in state.items()}:
            raise SystemExit(
                f"dreamcade: error: {run} is a model of other sizes than the runs before it: name runs that "
                "were resumed from the same weights"
            )
        parts = {name: value * (share / total) for name, value in state.items()}
        made = {name: made[name] + part for name, part in parts.items()} if made else parts
    return made


def run_and_share(text: str) -> tuple[Path, float]:
    path, _, share = text.rpartition("=")
    try:
        return Path(path), float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write RUN=SHARE, e.g. out/a=0.5") from None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument("--of", type=run_and_share, nargs="+", required=True, metavar="RUN=SHARE")
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()
    write_world(averaged(args.game, args.of), args.out, args.game)
    print(f"{args.game}: wrote {args.out}")


if __name__ == "__main__":
    main()
