"""Stage `average`: world models of several runs that began from the same weights -> their weighted mean.

    python -m engine.training.average racing --of RUN1=0.3 RUN2=0.7 --out OUT

Runs from one start lie in one valley of the loss, and their mean is often better than each of them (model
soups, 2203.05482). RUN: a directory as stage `world` writes it; OUT gets the same files' names."""

import argparse
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from games import GAMES


def averaged(game: str, runs: dict[Path, float]) -> dict[str, Tensor]:
    """The mean of the runs' weights, float32, by share. Raises SystemExit where they do not fit together."""
    total, made = sum(runs.values()), dict[str, Tensor]()
    if not runs or min(runs.values()) <= 0:
        raise SystemExit("dreamcade: error: --of wants RUN=SHARE, each share above 0")
    for run, share in runs.items():
        files = sorted(run.glob(f"{game}-world-*.safetensors"))
        if not files:
            raise SystemExit(f"dreamcade: error: {run} holds no {game}-world-*.safetensors: name a run")
        state = {name: value.float() for path in files for name, value in load_file(path).items()}
        if made and {n: v.shape for n, v in made.items()} != {n: v.shape for n, v in state.items()}:
            raise SystemExit(f"dreamcade: error: {run} is a model of other sizes than the runs before it")
        for name, value in state.items():
            part = value * (share / total)
            made[name] = made[name] + part if name in made else part
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
    made = averaged(args.game, dict(args.of))
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{args.game}-world-0.safetensors"
    save_file(made, path)
    print(f"{args.game}: wrote {path}")


if __name__ == "__main__":
    main()
