"""What this machine has, what the engine would use of it, what is missing and how to fix it. No torch needed.

python -m engine.doctor [--json]        exit code 0: can play; 1: something is missing
"""

import argparse
import hashlib
import json
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine import machine
from engine.errors import EngineError
from engine.fast.int8_ranges import INT8_PARTS, int8_or_why_not
from engine.models.stored import SHIPPED, file_name
from engine.supervision.placement import sharing, together_or_apart
from engine.without import VARIABLE, without
from games import GAMES

PACKAGES = ("dreamcade", "torch", "openvino", "safetensors", "numpy", "pyzmq", "msgspec", "pygame-ce", "av")
_ENGINE_PACKAGES = ("torch", "openvino", "safetensors")
_PARTS = ("encoder", "decoder", "world")
_MIN_MEMORY_MIB = 3000
_BF16 = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class Problem:
    """severe: without a fix the engine cannot dream here."""

    what: str
    fix: str
    severe: bool


@dataclass(frozen=True)
class Weights:
    """One game's weights; state is "ok" or says what is wrong; id as in a session's Welcome."""

    game: str
    directory: str
    state: str
    id: str


@dataclass(frozen=True)
class Report:
    ok: bool
    system: str
    python: str
    cpu: str
    cores: int
    isa: tuple[str, ...]
    memory_mib: int
    gpus: tuple[str, ...]
    packages: dict[str, str]
    """Name -> version, empty when it is not installed."""
    device: str
    backend: str
    together: bool
    """World and decoder would share one process."""
    sharing: str
    """How the cores are shared, and why."""
    int8: dict[str, str]
    """Game and part -> "yes", or why it runs in floating point."""
    switched_off: tuple[str, ...]
    """By DREAMCADE_WITHOUT."""
    weights: tuple[Weights, ...]
    problems: tuple[Problem, ...]


def examine(weights_root: Path = SHIPPED) -> Report:
    packages = {name: installed(name) for name in PACKAGES}
    gpus = machine.gpus()
    weights = tuple(check_weights(game, weights_root / game) for game in GAMES)
    backend = expected_backend(packages, machine.isa_flags())
    together = together_or_apart("auto", "cpu", machine.useful_cores(), len(gpus))
    problems = find_problems(packages, weights)
    return Report(
        ok=not any(problem.severe for problem in problems),
        system=platform.platform(),
        python=platform.python_version(),
        cpu=machine.cpu_name(),
        cores=machine.cores(),
        isa=machine.isa_flags(),
        memory_mib=machine.memory_mib(),
        gpus=gpus,
        packages=packages,
        device="cpu" if not gpus else "cpu (or --device cuda)",
        backend=backend,
        together=together,
        sharing=sharing(together, machine.useful_cores(), machine.parallel_gain()),
        int8=int8_use(backend, weights, machine.isa_flags()),
        switched_off=tuple(sorted(without())),
        weights=weights,
        problems=problems,
    )


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def expected_backend(packages: dict[str, str], isa: tuple[str, ...]) -> str:
    """What `engine.fast.choose` would take on the CPU; empty without the engine's packages."""
    if not packages["torch"]:
        return ""
    if packages["openvino"] and "openvino" not in without():
        return "openvino-bf16" if _BF16 & set(isa) else "openvino-f32"
    return "torch-cpu"


def int8_use(backend: str, weights: tuple[Weights, ...], isa: tuple[str, ...]) -> dict[str, str]:
    """Per game and part whether it runs in int8."""
    told = {}
    for one in weights:
        for part in INT8_PARTS if one.state == "ok" else ():
            found = int8_or_why_not(Path(one.directory), part, isa)
            why_not = f"no: {found}" if isinstance(found, str) else "yes"
            told[f"{one.game} {part}"] = why_not if backend.startswith("openvino") else "no: needs openvino"
    return told


def check_weights(game: str, directory: Path) -> Weights:
    """Everything there, and every file as config.json has its sha256."""
    try:
        config = (directory / "config.json").read_bytes()
        files = json.loads(config)["files"]
        names = dict.fromkeys([*map(file_name, _PARTS), *files])  # and the optional parts that are listed
        wrong = [name for name in names if not _is_intact(directory / name, files.get(name))]
    except FileNotFoundError:
        return Weights(game, str(directory), "missing", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Weights(game, str(directory), f"config.json cannot be read: {error}", "")
    state = f"missing, truncated or altered: {', '.join(wrong)}" if wrong else "ok"
    return Weights(game, str(directory), state, hashlib.sha256(config).hexdigest()[:12])


def _is_intact(path: Path, checksum: str | None) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == checksum


def find_problems(packages: dict[str, str], weights: tuple[Weights, ...]) -> tuple[Problem, ...]:
    problems = []
    for name in _ENGINE_PACKAGES:
        if not packages[name]:
            slow = " (without it the CPU is several times slower)" if name == "openvino" else ""
            fix = "pip install '.[engine]' in the clone"
            problems.append(Problem(f"{name} is not installed{slow}", fix, severe=name != "openvino"))
    for one in weights:
        if one.state != "ok":
            what = f"weights for {one.game}: {one.state} ({one.directory})"
            fix = "reinstall dreamcade, or name a good directory with --weights; --reference needs none"
            problems.append(Problem(what, fix, severe=True))
    if 0 < machine.memory_mib() < _MIN_MEMORY_MIB:
        what = f"{machine.memory_mib()} MiB of memory; the engine wants {_MIN_MEMORY_MIB}"
        problems.append(
            Problem(what, "close other programs, or attach to a remote engine with --engine", severe=False)
        )
    if machine.useful_cores() < 2:
        several = f"{machine.cores()} cores that do {machine.parallel_gain():g} times the work of one"
        what = f"{several if machine.cores() > 1 else 'one core'}: pictures may be few"
        problems.append(Problem(what, "attach to a remote engine with --engine", severe=False))
    return tuple(problems)


def as_text(report: Report) -> str:
    lines = [
        f"system    {report.system}, Python {report.python}",
        f"processor {report.cpu}: {report.cores} cores, {' '.join(report.isa) or 'no known extensions'}",
        f"memory    {report.memory_mib} MiB",
        f"GPUs      {', '.join(report.gpus) or 'none'}",
        "packages  " + ", ".join(f"{name} {number or 'missing'}" for name, number in report.packages.items()),
        f"uses      {report.backend or 'nothing'} on {report.device}",
        f"cores     {report.sharing}",
    ]
    lines += [f"int8      {name}: {said}" for name, said in report.int8.items()]
    if report.switched_off:
        lines.append(f"off       {', '.join(report.switched_off)} (by {VARIABLE})")
    lines += [f"weights   {one.game}: {one.state} {one.id}".rstrip() for one in report.weights]
    lines += [
        f"{'problem ' if one.severe else 'note    '}  {one.what}\n          {one.fix}"
        for one in report.problems
    ]
    return "\n".join([*lines, "ready to play" if report.ok else "not ready: see the problems above"])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m engine.doctor", description="Examines this machine.")
    parser.add_argument("--json", action="store_true", help="one JSON line instead")
    options = parser.parse_args(argv)
    try:
        report = examine()
    except EngineError as error:
        print(f"dreamcade: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(json.dumps(asdict(report)) if options.json else as_text(report))
    sys.exit(0 if report.ok else 1)


if __name__ == "__main__":
    main()
