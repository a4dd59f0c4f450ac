"""Stage `whole`: every stage of one game after another, from nothing to a packed directory.

    CUDA_VISIBLE_DEVICES=0,1 python -m engine.training.whole racing --minutes 60 --out OUT

    autoencoder -> world -> (racing) calm, bold -> average -> decoder, extrapolator -> (racing) sharpen
      -> wide_decoder, probes -> steady -> (platformer) sight -> OUT/packed
Each stage is a process of its own; what it prints goes to OUT/<game>-<stage>.log as well. Minutes are those
of one GPU, all stages together: two GPUs are through in about half the time. Autoencoder and world learn on
all of them under torchrun, the others on one each, side by side; calm and bold are stage `world` again, from
its weights on, and their mean takes its place in OUT. `play --weights OUT/packed` plays the result;
`quantise --weights OUT/packed` adds int8. With --resume DIR stages that know how go on from what is there."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import torch

from games import GAMES

SHARES = {
    "autoencoder": 0.17,
    "world": 0.55,
    "decoder": 0.085,
    "extrapolator": 0.06,
    "wide_decoder": 0.09,
    "probes": 0.045,
}
"""Of the GPU minutes; starting and checking come out of each process's share by `OVERHEAD_S`."""
GROUPS = (
    ("autoencoder",),
    ("world",),
    ("decoder", "extrapolator"),
    ("wide_decoder", "probes"),
)
"""Stages that need nothing of one another run side by side. One alone learns on all GPUs."""
OVERHEAD_S = 50.0
DECODER_SIZE = "--widths 224 160 64 48 --muon-lr 1e-3"
WORLD_ROWS = "--rows 12 --refresh 60"
WORLD = {
    "racing": "--two-from 1 --own-from 1 --faded 0.3 --cooldown 0.02 --lr 6.8e-4 --muon-lr 2.3e-3",
    "platformer": "--two-from 0.3 --own-from 0.4 --cooldown 0.5 --adversarial 0.5"
    " --lr 7.5e-4 --muon-lr 2.6e-3",
}
ENDINGS = {
    "racing": {
        "calm": "--two-from 1 --own-from 0.1 --seed 1",
        "bold": "--two-from 0.1 --own-from 0.1 --adversarial 0.3 --seed 2",
    }
}
"""Two runs from the world's weights on, in which the rate falls, each on one GPU for a quarter of the world's
minutes: one sample (calm), two and a discriminator (bold). The world is the mean of their weights."""
ENDING = "--faded 0.4 --adrift 0.2 --cooldown 0.85"
ENDING_SHARES = {"calm": 0.75, "bold": 0.25}
assert all(set(runs) == set(ENDING_SHARES) for runs in ENDINGS.values())
DECODER = {"racing": "--edge 1.75", "platformer": "--edge 2.5 --mask 30"}
"""Stage `decoder` weighs edges and small things as each game wants it: the platformer's are smaller."""
SHARPEN = {"racing": "--minutes 17 --edge 1.3 --muon-lr 5e-4"}
"""Of one CPU core."""
assert set(DECODER) == set(WORLD) == set(GAMES) and set(SHARPEN) | set(ENDINGS) <= set(GAMES)


class Stages:
    """The commands of one game's run, and where they leave what they make."""

    def __init__(self, game: str, out: Path, resume: Path | None, gpus: int) -> None:
        self.game, self.out, self.resume, self.gpus = game, out, resume, gpus
        self.packed = out / "packed"

    @property
    def endings(self) -> dict[str, str]:
        """Runs that the world goes on in, and their options."""
        return ENDINGS.get(self.game, {})

    def share(self, stage: str) -> float:
        """Of the GPU minutes: the world's endings have half of its together."""
        if stage in self.endings:
            return SHARES["world"] / 2 / len(self.endings)
        return SHARES[stage] / 2 if stage == "world" and self.endings else SHARES[stage]

    def command(self, stage: str, minutes: float) -> list[str]:
        """Of a stage that learns on GPUs, for so many minutes of the clock."""
        if stage in self.endings:
            world = [str(self.out / f"{self.game}-world-{half}.safetensors") for half in (0, 1)]
            command = self._plain("world", "--minutes", f"{minutes:.2f}", "--out", str(self.out / stage))
            return [*command, "--autoencoder", self._encoder(), *self._options(stage), "--resume", *world]
        several = self.gpus > 1 and (stage,) in GROUPS
        # Two games may train side by side.
        ranks = [f"--nproc-per-node={self.gpus}", f"--master-port={29_500 + os.getpid() % 1_000}"]
        command = [sys.executable, "-m", *(["torch.distributed.run", *ranks, "-m"] if several else [])]
        command += [
            f"engine.training.{stage}",
            self.game,
            "--minutes",
            f"{minutes:.2f}",
        ]
        command += ["--out", str(self.packed if stage == "probes" else self.out)]
        if stage == "wide_decoder":
            command += ["--weights", str(self.packed)]
        elif stage not in ("autoencoder", "probes"):
            command += ["--autoencoder", self._encoder()]
        command += self._options(stage)
        found = self.earlier(stage)
        return command + (["--resume", *map(str, found)] if found else [])

    def _encoder(self) -> str:
        return str(self.out / f"{self.game}-autoencoder.safetensors")

    def _options(self, stage: str) -> list[str]:
        made = {
            "world": f"{WORLD_ROWS} {WORLD[self.game]}",
            "decoder": f"{DECODER_SIZE} {DECODER[self.game]}",
            **{name: f"{WORLD_ROWS} {ENDING} {how}" for name, how in self.endings.items()},
        }
        return made.get(stage, "").split()

    def earlier(self, stage: str) -> list[Path]:
        """The stage's own files in `resume`, as a run before or `unpack` wrote them."""
        names = {"autoencoder": "autoencoder", "world": "world-?", "extrapolator": "extrapolator"}
        if not self.resume or stage not in names:
            return []
        return sorted(self.resume.glob(f"{self.game}-{names[stage]}.safetensors"))

    def afterwards(self, group: Sequence[str]) -> dict[str, list[str]]:
        """What needs no GPU and follows a group, by name."""
        out, pack = (
            str(self.out),
            self._plain("pack", "--source", str(self.out), "--target", str(self.packed)),
        )
        if "world" in group and self.endings:
            runs = [f"{self.out / name}={ENDING_SHARES[name]}" for name in self.endings]
            return {"average": self._plain("average", "--of", *runs, "--out", out)}
        if "decoder" in group:
            how = SHARPEN.get(self.game, "").split()
            sharpen = self._plain("sharpen", "--weights", str(self.packed), *how, "--out", out)
            return {"pack": pack} | ({"sharpen": sharpen} if how else {})
        if "wide_decoder" in group:
            wide = str(self.out / f"{self.game}-decoder-wide.safetensors")
            steady = self._plain("steady", "--weights", str(self.packed), "--wide", wide, "--out", out)
            sight = self._plain("sight", "--weights", str(self.packed), "--out", out)
            return {"steady": steady} | ({"sight": sight} if GAMES[self.game].shown else {}) | {"pack": pack}
        return {}

    def _plain(self, stage: str, *options: str) -> list[str]:
        return [sys.executable, "-m", f"engine.training.{stage}", self.game, *options]


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
        self.stages = Stages(args.game, args.out, args.resume, len(self.gpus))
        self.total = sum(SHARES[stage] for stage in args.stages)
        self.free: SimpleQueue[str | None] = SimpleQueue()  # GPUs that no stage learns on
        for place in range(max(1, len(self.gpus))):
            self.free.put(self.gpus[place] if self.gpus else None)

    def run(self) -> None:
        for group in GROUPS:
            wanted = [stage for stage in group if stage in self.args.stages]
            if not wanted:
                continue
            began = time.monotonic()
            if len(group) == 1:
                self._stage(group[0], None, max(1, len(self.gpus)))
                self._side_by_side(list(self.stages.endings) if "world" in wanted else [])
            else:
                self._side_by_side(wanted)
            for name, command in self.stages.afterwards(wanted).items():
                run_stage(command, self._log(name))
            print(
                f"{self.args.game}: {', '.join(wanted)}: {(time.monotonic() - began) / 60:.1f} min",
                flush=True,
            )

    def _side_by_side(self, stages: Sequence[str]) -> None:
        with ThreadPoolExecutor(max(1, len(stages))) as pool:
            for done in [pool.submit(self._on_one, stage) for stage in stages]:
                done.result()

    def _on_one(self, stage: str) -> None:
        """As soon as a GPU is free."""
        gpu = self.free.get()
        try:
            self._stage(stage, gpu, 1)
        finally:
            self.free.put(gpu)

    def _stage(self, stage: str, gpu: str | None, gpus: int) -> None:
        minutes = self.args.minutes * self.stages.share(stage) / self.total / gpus - OVERHEAD_S / 60
        run_stage(self.stages.command(stage, max(0.1, minutes)), self._log(stage), gpu)

    def _log(self, name: str) -> Path:
        return self.args.out / f"{self.args.game}-{name}.log"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument("--minutes", type=float, default=60.0, help="of one GPU, for all stages together")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--resume", type=Path, help="a directory with the files of an earlier run")
    parser.add_argument("--stages", nargs="+", choices=tuple(SHARES), default=tuple(SHARES))
    Whole(parser.parse_args()).run()


if __name__ == "__main__":
    main()
