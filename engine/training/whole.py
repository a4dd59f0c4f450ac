"""Stage `whole`: every stage of one game after another, from nothing to files that `pack` takes.

    CUDA_VISIBLE_DEVICES=0,1 python -m engine.training.whole racing --minutes 20 --out OUT

Each stage runs as its own process; what it prints goes to OUT/<game>-<stage>.log as well. The autoencoder and
the world model train on all visible GPUs under torchrun, the rest side by side on one each. With --resume DIR
the stages go on from the weights there."""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from games import GAMES

SHARES = {"autoencoder": 0.29, "world": 0.55, "decoder": 0.16, "extrapolator": 0.16, "probes": 0.16}
"""Of the minutes; starting and checking come out of each stage's share by `OVERHEAD_S`."""
LAST = ("decoder", "extrapolator", "probes")
"""These need one another's results no more: they run side by side."""
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
    if gpus > 1 and stage not in LAST:
        port = 29_500 + os.getpid() % 1_000  # two games may train side by side
        launcher += ["torch.distributed.run", f"--nproc-per-node={gpus}", f"--master-port={port}", "-m"]
    target = out / game if stage == "probes" else out
    command = [*launcher, f"engine.training.{stage}", game, "--minutes", f"{minutes:.2f}"]
    command += ["--out", str(target)]
    if stage not in ("autoencoder", "probes"):
        command += ["--autoencoder", str(out / autoencoder)]
    if stage == "decoder":
        command += ["--world", *(str(out / name) for name in worlds)]
    elif resume and (found := earlier(game, stage, resume)):
        command += ["--resume", *map(str, found)]
    return command


def earlier(game: str, stage: str, resume: Path) -> list[Path]:
    """The stage's own files in `resume`, as a run before or `unpack` wrote them."""
    names = {"autoencoder": "autoencoder", "world": "world-?", "extrapolator": "extrapolator"}
    return sorted(resume.glob(f"{game}-{names[stage]}.safetensors")) if stage in names else []


def run_stage(command: list[str], log: Path, gpu: str | None = None) -> None:
    """Run (on one GPU, where one is named), copy what is printed to `log`; SystemExit with the stage's code
    if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    with log.open("w") as file, subprocess.Popen(command, **pipe) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            file.write(line)
            file.flush()
    if process.returncode:
        raise SystemExit(process.returncode)


def gpu_names() -> list[str]:
    """What CUDA_VISIBLE_DEVICES would call the visible GPUs."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


class Whole:
    """One game's run over its stages."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.gpus = args, gpu_names() if torch.cuda.is_available() else []
        first = [stage for stage in args.stages if stage not in LAST]
        last = [stage for stage in args.stages if stage in LAST]
        self.groups = [[stage] for stage in first] + ([last] if last else [])
        self.total = sum(max(SHARES[stage] for stage in group) for group in self.groups)

    def run(self) -> None:
        for group in self.groups:
            began = time.monotonic()
            with ThreadPoolExecutor(len(group)) as pool:
                for done in [pool.submit(self._stage, stage, i) for i, stage in enumerate(group)]:
                    done.result()
            print(
                f"{self.args.game}: {', '.join(group)}: {(time.monotonic() - began) / 60:.1f} min", flush=True
            )

    def _stage(self, stage: str, place: int) -> None:
        args = self.args
        minutes = max(0.1, args.minutes * SHARES[stage] / self.total - OVERHEAD_S / 60)
        command = stage_command(args.game, stage, minutes, args.out, args.resume, len(self.gpus))
        one = self.gpus[place % len(self.gpus)] if self.gpus and stage in LAST else None
        run_stage(command, args.out / f"{args.game}-{stage}.log", one)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument("--minutes", type=float, default=20.0, help="for all stages together")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--resume", type=Path, help="a directory with the files of an earlier run")
    parser.add_argument("--stages", nargs="+", choices=tuple(SHARES), default=tuple(SHARES))
    Whole(parser.parse_args()).run()


if __name__ == "__main__":
    main()
