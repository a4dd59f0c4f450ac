"""Stage `whole`: every stage of one game after another, from nothing to files that `pack` takes.

    CUDA_VISIBLE_DEVICES=0,1 python -m engine.training.whole racing --minutes 28 --out OUT

Each stage runs as its own process (under torchrun where several GPUs are visible) and gets its share of the
minutes; what a stage prints goes to OUT/<game>-<stage>.log as well. With --resume DIR the stages go on from
the weights there."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from games import GAMES

SHARES = {"autoencoder": 0.30, "world": 0.50, "decoder": 0.12, "extrapolator": 0.08}
"""Of the minutes; starting and checking come out of each stage's share by `OVERHEAD_S`."""
OVERHEAD_S = 50.0


def stage_command(
    game: str, stage: str, minutes: float, out: Path, resume: Path | None, gpus: int
) -> list[str]:
    """The command line of one stage."""
    autoencoder, worlds = (
        f"{game}-autoencoder.safetensors",
        [f"{game}-world-{half}.safetensors" for half in (0, 1)],
    )
    launcher = [sys.executable, "-m"]
    if gpus > 1:
        port = 29_500 + os.getpid() % 1_000  # two games may train side by side
        launcher += ["torch.distributed.run", f"--nproc-per-node={gpus}", f"--master-port={port}", "-m"]
    command = [*launcher, f"engine.training.{stage}", game, "--minutes", f"{minutes:.2f}", "--out", str(out)]
    if stage != "autoencoder":
        command += ["--autoencoder", str(out / autoencoder)]
    if stage == "decoder":
        command += ["--world", *(str(out / name) for name in worlds)]
    elif resume and stage != "extrapolator":
        command += [
            "--resume",
            *(str(resume / name) for name in ([autoencoder] if stage == "autoencoder" else worlds)),
        ]
    return command


def run_stage(command: list[str], log: Path) -> None:
    """Run, copy what is printed to `log`; SystemExit with the stage's code if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with log.open("w") as file, subprocess.Popen(command, **pipe) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            file.write(line)
            file.flush()
    if process.returncode:
        raise SystemExit(process.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument("--minutes", type=float, default=28.0, help="for all stages together")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--resume", type=Path, help="a directory with the files of an earlier run")
    parser.add_argument("--stages", nargs="+", choices=tuple(SHARES), default=tuple(SHARES))
    args = parser.parse_args()
    total = sum(SHARES[stage] for stage in args.stages)
    for stage in args.stages:
        minutes = max(0.1, args.minutes * SHARES[stage] / total - OVERHEAD_S / 60)
        command = stage_command(args.game, stage, minutes, args.out, args.resume, torch.cuda.device_count())
        began = time.monotonic()
        run_stage(command, args.out / f"{args.game}-{stage}.log")
        print(f"{args.game}: stage {stage} took {(time.monotonic() - began) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
