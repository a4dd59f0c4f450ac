"""All benchmarks of a GPU machine, one after another within a time: JSON files in a folder.

    python -m engine.bench.everything --device cuda --out DIR [--seconds 300] [--only one,many]
        [--profiles assets/profiles]

    one      one world, unpaced: steps, decodes and both, of both games and of the wide decoder; the same
             without our own kernels (--unfused)
    many     worlds at once, 1 to 256, with both decoders: bytes on the host; what binds them, and context
    decoder  the best tiles (to DIR/tiles.json, which what follows uses); the fused decoder against eager
             PyTorch, and the bytes that both move
    profile  the profiles that the planner reads, of worlds on one rank and on two, to --profiles
    two      world and decoder on two GPUs where both cost alike; one wide world model shared by two GPUs; the
             games on two, beside what the planner predicts from those profiles
    paced    play in real time: from a key to its picture, alone and with others (needs pyzmq and msgspec)
    slow     what takes minutes to compile: torch.compile, every tile of the fused decoder

Each group's results go to DIR/<group>.json as they come; what ran, and what it printed when it failed, to
DIR/everything.log. Each benchmark is a process of its own with a time of its own: one that fails or hangs
takes no other along, and says where it stood. A benchmark that has no time left, or that this machine cannot
run, is named there; what failed and what was left out is said again at the end."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine import machine

GROUPS = ("one", "many", "decoder", "profile", "two", "paced", "slow")
TILES = "tiles.json"
_GPU_ONLY = ("hbm", "tiles")  # they take no --device
_ABORT_S = 3.0  # to write tracebacks
_LAST = 150  # lines of one that failed
_LEAST_S = 5.0  # not worth beginning with less


@dataclass(frozen=True)
class Job:
    """One benchmark: engine.bench.`bench` with `arguments`, for at most `seconds`, on `gpus`."""

    group: str
    bench: str
    arguments: str
    seconds: float = 60.0
    gpus: int = 1

    @property
    def name(self) -> str:
        return f"{self.bench} {self.arguments}"


def jobs(out: Path, profiles: Path, small: bool, ranks: str) -> Iterator[Job]:
    """In order of what is wanted most. small: tiny sizes instead, to see that everything runs; ranks: numbers
    of world ranks to profile, "1" or "1,2"."""
    racing, platformer, wide = ("small",) * 3 if small else ("racing", "platformer", "racing-wide")
    wider = "small" if small else "wide-decoder"
    big, many, batch = ("small", "1,2", 2) if small else ("wide-world", "1,2,4,8,16,32,64,128,256", 64)
    few = "--runs 2" if small else ""
    for game in (racing, wide, platformer):
        yield Job("one", "engine", f"--game {game} {few}")
    if not small:
        for game, size in ((wider, batch), (wide, batch), (racing, 2 * batch)):
            yield Job("decoder", "tiles", f"--game {game} --batch {size} --keep {out / TILES}", 120)
    for game in dict.fromkeys((wider, wide)):
        yield Job("decoder", "decoder", f"--game {game} --batch {batch} {few}", 90)
        yield Job("decoder", "decoder", f"--game {game} --batch 1 {few}")
    yield Job("decoder", "decoder", f"--game {racing} --batch 1 {few}")
    counted = "eager,fused" + (",tiled" if has_tiles(out) else "")
    yield Job("decoder", "hbm", f"--game {wider} --batch {batch} --ways {counted}", 90)
    both = ",".join(dict.fromkeys((racing, wide)))
    first = "1,2" if small else "128,1,40,16,64,256,32,8,4,2"  # in the order of what is wanted most
    curve = f"--game {racing} --worlds {first} --decoders {both} --seconds 130 {few}"
    yield Job("many", "engine", curve, 180)
    for game in (racing, wide, platformer):
        yield Job("one", "engine", f"--game {game} --unfused {few}")
    yield Job("one", "world", f"--game {racing} {few}")
    yield Job("one", "world", f"--game {racing} --worlds 16 {few}")
    yield Job("many", "scaling", f"--game {racing} --worlds {many} --seconds 40 {few}")
    yield Job("many", "scaling", f"--game {wide} --worlds {many} --seconds 40 --context 16 {few}", 75)
    yield from _two_alone(small, few)
    yield from _profiles(profiles, (racing, wide, platformer), big, ranks, few)
    yield from _two_predicted(profiles, (racing, wide), few)
    if not small:
        for game in (racing, platformer):
            yield Job("paced", "roundtrip", f"--game {game} --seconds 8")
        for players in (4, 8, 16):
            yield Job("paced", "players", f"--game {racing} --players {players} --seconds 8", 75)
    yield Job("slow", "world", f"--game {racing} --compiled {few}", 150)
    yield Job("slow", "world", f"--game {racing} --tuned {few}", 150)
    yield Job("slow", "engine", f"--game {racing} --tuned {few}", 120)
    yield Job("slow", "engine", f"--game {racing} --compiled {few}", 120)
    for game, size in ((racing, 1), (wider, batch), (wide, batch)):
        for way in ("tuned", "compiled"):
            yield Job("slow", "decoder", f"--game {game} --batch {size} --{way} {few}", 150)


def _profiles(folder: Path, games: tuple[str, ...], big: str, ranks: str, few: str) -> Iterator[Job]:
    """Before what is compared with the planner's predictions."""
    sizes = dict.fromkeys(games, "--worlds 1,8 --batches 1,8 --bands 1,2")
    sizes.setdefault(big, "--worlds 1,4 --batches 1,4")
    gpus = max(map(int, ranks.split(",")))
    for game, size in sizes.items():
        arguments = f"--preset {game} --ranks {ranks} {size} --out {profile_path(folder, game)} {few}"
        yield Job("profile", "profile", arguments, 120, gpus)


def _two_alone(small: bool, few: str) -> Iterator[Job]:
    """What needs no profile."""
    if small:
        yield Job("two", "split", f"--game small --worlds 2 --balance {few}", 90, 2)
        yield Job("two", "sequence", f"--game small --widths 32 --worlds 1,4 {few}", 90, 2)
        return
    for worlds in (16, 48):
        yield Job("two", "split", f"--game balanced --worlds {worlds} --balance", 170, 2)
    sizes = "--widths 512,1024,2048,3072,4096 --wide-worlds 1,4 --worlds 1,2,4,8"
    yield Job("two", "sequence", f"--game wide-world {sizes}", 150, 2)


def _two_predicted(folder: Path, games: tuple[str, ...], few: str) -> Iterator[Job]:
    for game in dict.fromkeys(games):
        path = profile_path(folder, game)
        predicted = f"--profile {path}" if path.exists() else ""  # of a profile job before, or of another day
        for worlds in (8, 1):
            yield Job("two", "split", f"--game {game} --worlds {worlds} {predicted} {few}", 90, 2)


def profile_path(folder: Path, game: str) -> Path:
    return folder / f"{game}.json"


def main() -> int:
    """The exit code: 1 when a benchmark failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300.0, help="for all of them")
    parser.add_argument("--only", default=",".join(GROUPS), help="groups, of those above")
    parser.add_argument("--profiles", type=Path, help="a folder for the profiles; DIR/profiles otherwise")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that everything runs")
    options = parser.parse_args()
    profiles = options.profiles or options.out / "profiles"
    for folder in (options.out, profiles):
        folder.mkdir(parents=True, exist_ok=True)
    wanted, until_s = options.only.split(","), time.monotonic() + options.seconds
    if unknown := set(wanted) - set(GROUPS):
        parser.error(f"unknown groups {', '.join(sorted(unknown))}: choose from {', '.join(GROUPS)}")
    log = Log(options.out)
    no_cores()
    ranks = "1" if options.device == "cuda" and len(machine.gpus()) < 2 else "1,2"
    for job in jobs(options.out, profiles, options.small, ranks):
        if job.group in wanted:
            why = why_not(job, options.device, until_s - time.monotonic())
            log.skipped(job, why) if why else run(job, options.device, until_s, log)
    log.summed_up()
    return 1 if log.failed else 0


def why_not(job: Job, device: str, left_s: float) -> str:
    if left_s < _LEAST_S:
        return "no time left"
    if device == "cuda" and len(machine.gpus()) < job.gpus:
        return f"needs {job.gpus} GPUs"
    if job.bench in _GPU_ONLY and device != "cuda":
        return "needs a GPU"
    if job.group == "paced" and not (find_spec("zmq") and find_spec("msgspec")):
        return "needs pyzmq and msgspec"
    return ""


def run(job: Job, device: str, until_s: float, log: "Log") -> None:
    command = [sys.executable, "-m", f"engine.bench.{job.bench}", *job.arguments.split()]
    command += [] if job.bench in _GPU_ONLY else ["--device", device]
    begun_s = time.monotonic()
    seconds = min(job.seconds, until_s - begun_s)
    log.began(job, seconds)
    # A file, not a pipe: a grandchild that outlives the benchmark would keep a pipe open.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=environment(log.out)
        )
        late = False
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            end(process)
        if late:
            output.seek(0, os.SEEK_END)
            output.write("\nstopped: its time was up\n")
        output.seek(0)
        said = output.read()
    log.ended(job, process.returncode, said, time.monotonic() - begun_s)


def no_cores() -> None:
    """Nobody wants a file of what an aborted benchmark held."""
    with contextlib.suppress(ImportError):  # Windows
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def has_tiles(out: Path) -> bool:
    path = out / TILES
    return path.exists() and path.read_text(encoding="utf-8").strip() != "{}"


def environment(out: Path) -> dict[str, str]:
    """A benchmark that is aborted says where it stood; tiles that were found are used."""
    tiles = {"DREAMCADE_TILES": str(out / TILES)} if has_tiles(out) else {}
    return os.environ | {"PYTHONFAULTHANDLER": "1"} | tiles


def end(process: "subprocess.Popen[bytes]") -> None:
    """It and its children (a benchmark of ranks has some): asked to say where they are, then killed."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ABORT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Log:
    """What came out, on disk after every benchmark."""

    def __init__(self, out: Path) -> None:
        self.out, self.failed, self.left_out = out, list[str](), list[str]()
        self._results: dict[str, list[Any]] = {}
        (out / "everything.log").write_text("")

    def began(self, job: Job, seconds: float) -> None:
        print(f".. {job.group}: {job.name}, {seconds:.0f} s at most", flush=True)

    def ended(self, job: Job, code: int, said: str, took_s: float) -> None:
        self._say(f"== {job.group}: {job.name} ({took_s:.0f} s, exit code {code})")
        lines = said.rstrip().splitlines()
        last, result = result_in(lines)
        if code or result is None:
            self.failed.append(job.name)
            self._say("\n".join(lines[-_LAST:]))
            return
        self._say("\n".join(line for line in lines if line != last))
        results = self._results.setdefault(job.group, [])
        results.append({"arguments": job.name, "seconds": round(took_s, 1), "result": result})
        (self.out / f"{job.group}.json").write_text(json.dumps(results, indent=1) + "\n")

    def skipped(self, job: Job, why: str) -> None:
        self.left_out.append(f"{job.name}: {why}")
        self._say(f"== {job.group}: {job.name} left out: {why}")

    def summed_up(self) -> None:
        self._say(f"{len(self.failed)} failed, {len(self.left_out)} left out")
        for name in self.failed:
            self._say(f"failed: {name}")
        for name in self.left_out:
            self._say(f"left out: {name}")

    def _say(self, text: str) -> None:
        print(text, flush=True)
        with (self.out / "everything.log").open("a") as log:
            log.write(text + "\n")


def result_in(lines: list[str]) -> tuple[str, dict[str, Any] | None]:
    """The last line that is a JSON object, and that: libraries may warn behind it."""
    for line in reversed(lines):
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                return line, json.loads(line)
    return "", None


if __name__ == "__main__":
    sys.exit(main())
