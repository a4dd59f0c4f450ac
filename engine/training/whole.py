"""Stage `whole`: every stage of one game after another, from nothing to a packed directory.

    CUDA_VISIBLE_DEVICES=0,1,2,3 python -m engine.training.whole racing --minutes 60 --out OUT

    autoencoder -> world -> calm -> bold -> average -> decoder, extrapolator -> (racing) sharpen
      -> wide_decoder, probes -> steady -> (platformer) sight -> tail, of both decoders -> OUT/packed
Each stage is a process of its own; what it prints goes to OUT/<game>-<stage>.log as well. Minutes are those
of one GPU, all stages together: four GPUs are through in about a quarter of the time. Stages on one line need
nothing of one another and run side by side; those of `SEVERAL` learn under torchrun on all GPUs that are
theirs, the others on one each. calm and bold are stage `world` again, calm from its weights on, bold from
calm's; each of the three leaves its own in OUT/world, OUT/calm, OUT/bold, and OUT gets the mean of the last
two. `play --weights OUT/packed` plays the result; `quantise --weights OUT/packed` adds int8. With --resume
DIR stages that know how go on from what is there."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import torch

from engine.models.weights import WIDE
from games import GAMES

SHARES = {
    "autoencoder": 0.235,
    "world": 0.285,
    "calm": 0.13,
    "bold": 0.085,
    "decoder": 0.085,
    "extrapolator": 0.055,
    "wide_decoder": 0.07,
    "probes": 0.055,
}
"""Of the GPU minutes; starting and checking come out of each process's share by `OVERHEAD_S`."""
GROUPS = (
    ("autoencoder",),
    ("world",),
    ("calm",),
    ("bold",),
    ("decoder", "extrapolator"),
    ("wide_decoder", "probes"),
)
"""Stages that need nothing of one another run side by side."""
SEVERAL = {"autoencoder", "world", "calm", "bold"}
"""Stages that learn on several GPUs."""
OVERHEAD_S = 50.0
MASKS = {"racing": "--mask 8 40 20 12", "platformer": "--mask 30 80 20 30"}
"""What small things weigh wherever pictures are learned: the more, the less of a picture they are."""
AUTOENCODER = {"racing": "--wide --edge 1.3", "platformer": "--wide --edge 1.5"}
DECODER = {"racing": "--edge 1.75", "platformer": "--edge 2.5"}
MOST_ROWS = 48
"""Clips in a batch of the world's, on all GPUs together; 12 on each of up to four."""
WORLD = "--refresh 60 --two-from 1 --own-from 1 --faded 0.3 --cooldown 0.02 --lr 7e-4 --muon-lr 2.4e-3"
ENDING = "--refresh 60 --faded 0.4 --adrift 0.2"
ENDINGS = {
    "calm": "--cooldown 0.85 --own-from 0.1 --two-from 1 --seed 1",
    "bold": "--cooldown 0.9 --own-from 0.02 --two-from 0.02 --adversarial 0.35 --seed 2",
}
"""Two runs in which the rate falls: one sample (calm), then two and a discriminator (bold)."""
MEAN = {"calm": 0.5, "bold": 0.5}
"""The world that is packed is the mean of these runs' weights."""
SHARPEN = {"racing": "--minutes 17 --edge 1.3 --muon-lr 5e-4"}
"""Of one CPU core."""
TAIL = {
    ("racing", "decoder"): "--truth 0.7 --detail 0.25 --mask 3 12 20 6",
    ("racing", WIDE): "--truth 0.5 --detail 0.1 --mask 3 12 20 6",
    ("platformer", "decoder"): "--truth 0.5 --detail 0.2 --mask 20 60 80 60",
    ("platformer", WIDE): "--truth 0.5 --detail 0.1 --mask 15 300 10 40",
}
"""Of one CPU core, by game and decoder: as much detail as gives its pictures the truth's gradient energy."""
SIGHT = "--pictures 36000 --minutes 1"
"""Of one GPU; a CPU core plays so many pictures in an hour."""
assert set(MASKS) == set(AUTOENCODER) == set(DECODER) == set(GAMES) >= set(SHARPEN)
assert sorted(SHARES) == sorted(stage for group in GROUPS for stage in group)


class Stages:
    """The commands of one game's run, and where they leave what they make."""

    def __init__(self, game: str, out: Path, resume: Path | None) -> None:
        self.game, self.out, self.resume = game, out, resume
        self.packed = out / "packed"

    def command(self, stage: str, minutes: float, gpus: int = 1) -> list[str]:
        """Of a stage that learns on so many GPUs, for so many minutes of the clock."""
        # Two runs side by side find ports of their own.
        ranks = ["torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}", "-m"]
        module = "world" if stage in ENDINGS else stage
        command = [sys.executable, "-m", *(ranks if gpus > 1 else []), f"engine.training.{module}", self.game]
        command += ["--minutes", f"{minutes:.2f}", "--out", str(self._place(stage))]
        if stage == "wide_decoder":
            command += ["--weights", str(self.packed)]
        elif stage not in ("autoencoder", "probes"):
            command += ["--autoencoder", self._encoder()]
        command += self._options(stage, gpus)
        found = self.earlier(stage)
        return command + (["--resume", *map(str, found)] if found else [])

    def _place(self, stage: str) -> Path:
        """Where it leaves what it makes."""
        own = {"probes": self.packed, **{name: self.out / name for name in ("world", *ENDINGS)}}
        return own.get(stage, self.out)

    def _encoder(self) -> str:
        return str(self.out / f"{self.game}-autoencoder.safetensors")

    def _options(self, stage: str, gpus: int) -> list[str]:
        # The endings have the world's rows, and so find what it has compiled.
        rows = f"--rows {min(12, MOST_ROWS // gpus)}"
        made = {
            "autoencoder": f"{AUTOENCODER[self.game]} {MASKS[self.game]}",
            "wide_decoder": MASKS[self.game],
            "world": f"{WORLD} {rows}",
            "decoder": f"--muon-lr 1e-3 {DECODER[self.game]} {MASKS[self.game]}",
            **{name: f"{ENDING} {how} {rows}" for name, how in ENDINGS.items()},
        }
        return made.get(stage, "").split()

    def earlier(self, stage: str) -> list[Path]:
        """What a stage goes on from: calm from the world, bold from calm, the wide decoder from what it was
        beside the autoencoder, others from their own files in `resume`, as a run before or `unpack` wrote
        them."""
        known = {
            "autoencoder": (self.resume, "autoencoder"),
            "world": (self.resume, "world-?"),
            "extrapolator": (self.resume, "extrapolator"),
            "wide_decoder": (self.out, WIDE),
            "calm": (self._place("world"), "world-?"),
            "bold": (self._place("calm"), "world-?"),
        }
        where, name = known.get(stage, (None, ""))
        return sorted(where.glob(f"{self.game}-{name}.safetensors")) if where else []

    def afterwards(self, group: Sequence[str]) -> dict[str, list[str]]:
        """What needs no GPU and follows a group, by name."""
        out, pack = (
            str(self.out),
            self._plain("pack", "--source", str(self.out), "--target", str(self.packed)),
        )
        for last, shares in (("world", {"world": 1.0}), ("bold", MEAN)):
            if last in group:  # OUT has the world as far as it has come; each run keeps what it made
                runs = [f"{self._place(run)}={share}" for run, share in shares.items()]
                return {"average": self._plain("average", "--of", *runs, "--out", out)}
        if "decoder" in group:
            how = f"{SHARPEN.get(self.game, '')} {MASKS[self.game]}".split()
            sharpen = self._plain("sharpen", "--weights", str(self.packed), *how, "--out", out)
            return {"pack": pack} | ({"sharpen": sharpen} if self.game in SHARPEN else {})
        if "wide_decoder" in group:
            wide = str(self.out / f"{self.game}-decoder-wide.safetensors")
            steady = self._plain("steady", "--weights", str(self.packed), "--wide", wide, "--out", out)
            sight = self._plain("sight", "--weights", str(self.packed), *SIGHT.split(), "--out", out)
            tails = {f"{part}-tail": self._tail(part) for part in ("decoder", WIDE)}
            made = {"steady": steady} | ({"sight": sight} if GAMES[self.game].shown else {})
            return made | {"pack-untailed": pack} | tails | {"pack": pack}
        return {}

    def _tail(self, part: str) -> list[str]:
        how = ("--part", part, *TAIL[self.game, part].split())
        return self._plain("tail", "--weights", str(self.packed), *how, "--out", str(self.out))

    def _plain(self, stage: str, *options: str) -> list[str]:
        return [sys.executable, "-m", f"engine.training.{stage}", self.game, *options]


Running = list[subprocess.Popen[str]]
"""Stages that have begun, in order."""


def run_stage(command: list[str], log: Path, gpus: str | None = None, running: Running | None = None) -> None:
    """Run (on GPUs, where some are named, as CUDA_VISIBLE_DEVICES has them), copy what is printed to `log`;
    SystemExit with the stage's code if it fails. running: its process is added to these."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": gpus} if gpus else {})
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    with log.open("w") as file, subprocess.Popen(command, **pipe) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        if running is not None:
            running.append(process)
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
        self.stages = Stages(args.game, args.out, args.resume)
        self.total = sum(SHARES[stage] for stage in args.stages)
        self.failed = Event()

    def run(self) -> None:
        for group in GROUPS:
            wanted = [stage for stage in group if stage in self.args.stages]
            if not wanted:
                continue
            began = time.monotonic()
            self._side_by_side(wanted)
            for name, command in self.stages.afterwards(wanted).items():
                run_stage(command, self._log(name))
            print(
                f"{self.args.game}: {', '.join(wanted)}: {(time.monotonic() - began) / 60:.1f} min",
                flush=True,
            )

    def _side_by_side(self, stages: Sequence[str]) -> None:
        """All of `stages`, each as soon as GPUs are free: its share of them if it learns on several, or
        one."""
        each = max(1, len(self.gpus) // len(stages)) if set(stages) <= SEVERAL else 1
        free: SimpleQueue[list[str]] = SimpleQueue()
        for first in range(0, max(1, len(self.gpus) - each + 1), each):
            free.put(self.gpus[first : first + each])
        running: Running = []
        with ThreadPoolExecutor(len(stages)) as pool:
            futures = [pool.submit(self._stage, stage, free, running) for stage in stages]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            errors = [error for future in done if (error := future.exception()) is not None]
            if errors:  # what goes on beside it, or waits for its GPUs, would be for nothing
                for process in running:
                    process.terminate()
                raise errors[0]

    def _stage(self, stage: str, free: SimpleQueue[list[str]], running: Running) -> None:
        gpus = free.get()
        try:
            if self.failed.is_set():
                return
            count = max(1, len(gpus))
            minutes = self.args.minutes * SHARES[stage] / self.total / count - OVERHEAD_S / 60
            command = self.stages.command(stage, max(0.1, minutes), count)
            run_stage(command, self._log(stage), ",".join(gpus) or None, running)
        except BaseException:
            self.failed.set()  # before whoever waits for these GPUs has them
            raise
        finally:
            free.put(gpus)

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
