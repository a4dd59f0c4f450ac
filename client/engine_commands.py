"""Commands whose options belong to an engine module: everything behind the name is passed on to it."""

import subprocess
from pathlib import Path

import typer

from client.errors import UserError
from games import GAMES

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_STAGES = (
    "whole", "autoencoder", "world", "average", "decoder", "sharpen", "sight", "extrapolator", "probes",
    "wide_decoder", "steady", "tail", "pack", "quantise",
)  # fmt: skip


def add_to(app: typer.Typer) -> None:
    for command in (evaluate, bench, plan, train, doctor):
        app.command(context_settings=PASS_ON)(command)


def evaluate(context: typer.Context) -> int:
    """Measure the dream's quality against the reference: evaluate GAME [options]."""
    if not context.args or not context.args[0].startswith("-"):
        _first(context.args, "game", tuple(GAMES))
    return run_engine("engine.training.evaluate", context.args)


def bench(context: typer.Context) -> int:
    """Run a benchmark: bench NAME [options]."""
    if context.args[:1] == ["--help"]:
        return _say_usage(context, "NAME", _modules("bench"))
    name = _first(context.args, "benchmark", _modules("bench"))
    return run_engine(f"engine.bench.{name}", context.args[1:])


def plan(context: typer.Context) -> int:
    """Share out accelerators between world and decoder: plan --gpus N [options]. Needs no GPU."""
    return run_engine("engine.plan", context.args, needs_engine=False)


def train(context: typer.Context) -> int:
    """Train a part of the model: train GAME STAGE [options]."""
    stages = tuple(s for s in _STAGES if s in _modules("training"))
    if context.args[:1] == ["--help"]:
        return _say_usage(context, "STAGE", stages)
    game = _first(context.args, "game", tuple(GAMES))
    stage = _first(context.args[1:], "stage", stages)
    return run_engine(f"engine.training.{stage}", [game, *context.args[2:]])


def doctor(context: typer.Context) -> int:
    """What this machine has, what will be used, what is missing and how to fix it."""
    return run_engine("engine.doctor", context.args, needs_engine=False)


def _first(arguments: list[str], noun: str, choices: tuple[str, ...]) -> str:
    if not arguments or arguments[0] not in choices:
        given = f"there is no {noun} called {arguments[0]!r}" if arguments else f"which {noun}"
        raise UserError(f"{given}: choose one of {', '.join(choices)}", 2)
    return arguments[0]


def _modules(package: str) -> tuple[str, ...]:
    """Names of the runnable modules of an engine package, found without importing it."""
    folder = Path(__file__).resolve().parents[1] / "engine" / package
    return tuple(sorted(p.stem for p in folder.glob("*.py") if "__main__" in p.read_text(encoding="utf-8")))


def _say_usage(context: typer.Context, noun: str, names: tuple[str, ...]) -> int:
    """Help for a command whose options belong to the module that it runs."""
    print(context.command.help)
    print(f"{noun} is one of: {', '.join(names)}. Add --help after it for its options.")
    return 0


def run_engine(module: str, arguments: list[str], needs_engine: bool = True) -> int:
    """Run an engine module in the foreground; its exit code is ours."""
    from client.engine_process import PACKAGE_ROOT, require_engine_installed, run_in_foreground

    if needs_engine:
        require_engine_installed("this command")
    if not PACKAGE_ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file():
        raise UserError(f"this installation has no {module}: install dreamcade anew")
    try:
        return run_in_foreground(module, arguments)
    except subprocess.SubprocessError as error:
        raise UserError(f"cannot run {module}: {error}") from None
