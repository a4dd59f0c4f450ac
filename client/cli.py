"""The command line. Everything heavier than parsing is imported by the command that needs it.

Expected failures end as one line on standard error, with exit code 2 for a wrong call and 1 for the rest.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from client.errors import UserError
from engine.protocol import MAX_SEED
from games import GAMES

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_STAGES = ("whole", "autoencoder", "world", "decoder", "extrapolator", "probes", "pack", "quantise")
_NAMES = ", ".join(GAMES)

app = typer.Typer(
    help="An arcade of dreamed games: you hold the keys, a neural world model imagines what happens next.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

GameArgument = Annotated[str, typer.Argument(metavar="GAME", help=f"One of: {_NAMES}.")]


def main() -> None:
    """The `dreamcade` command."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # one JSON line on stdout means one line
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        _fail(str(error), error.exit_code)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        # The parser's own errors (an unknown option, a bad value) know how to say themselves in one line.
        if not hasattr(error, "format_message"):
            raise
        _fail(f"{error.format_message().rstrip('.')}; try `dreamcade --help`", 2)
    sys.exit(code if isinstance(code, int) else 0)


@app.command()
def play(
    game: GameArgument,
    engine: Annotated[
        str | None, typer.Option(help="Attach to a remote engine, e.g. tcp://192.168.1.5:7878.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which world, 0 to 2147483647. Default: any.")] = None,
    record: Annotated[Path | None, typer.Option(metavar="DIR", help="Record to a new directory.")] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Play the game's simulator, not the dream.")
    ] = False,
    autopilot: Annotated[
        bool, typer.Option("--autopilot", help="A scripted player presses the keys.")
    ] = False,
    headless: Annotated[bool, typer.Option("--headless", help="Play without a window.")] = False,
    seconds: Annotated[float | None, typer.Option(help="Stop this long after the first picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line of measurements.")] = False,
    stride: Annotated[int, typer.Option(help="Frames per true step, 1 to 8; 0 lets the engine choose.")] = 0,
    fullscreen: Annotated[bool, typer.Option("--fullscreen", help="Start in full screen.")] = False,
    device: Annotated[str | None, typer.Option(help="Of the local engine: cpu or cuda.")] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Other weights for the local engine.")
    ] = None,
) -> int:
    """Play a game: starts a local engine and opens the window.

    Keys: arrows or WASD, space. P or Esc pauses and shows the rest.
    """
    _require_game(game)
    if engine is not None and (device is not None or weights is not None):
        raise UserError("--device and --weights are for a local engine: leave them out with --engine", 2)
    _require_device(device)
    _require_range("--seed", seed, 0, MAX_SEED)
    _require_range("--stride", stride, 0, 8)
    _require_range("--seconds", seconds, 0.1, 86400)
    if weights is not None and not weights.is_dir():
        raise UserError(f"--weights {weights}: no such directory", 2)

    from client import app as client_app
    from client.options import PlayOptions

    outcome = client_app.play(
        PlayOptions(
            game=game,
            engine=engine,
            seed=random.randint(0, MAX_SEED) if seed is None else seed,
            record=record,
            reference=reference,
            autopilot=autopilot,
            headless=headless,
            seconds=seconds,
            stride=stride,
            fullscreen=fullscreen,
            device=device,
            weights=weights.resolve() if weights is not None else None,
        )
    )
    _say_end(outcome.result, as_json)
    if outcome.error is not None:
        print(f"dreamcade: error: {outcome.error}", file=sys.stderr)
    return outcome.exit_code


@app.command()
def replay(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A recording made by play --record.")],
    headless: Annotated[bool, typer.Option("--headless", help="Decode everything without a window.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
) -> int:
    """Show a recording. Space pauses, the arrows seek, Q quits."""
    from client import replay as client_replay

    summary = client_replay.replay(directory, headless=headless)
    if as_json:
        print(json.dumps(summary))
    elif headless:
        for name, value in summary.items():
            print(f"{name}: {value}")
    return 0


@app.command(context_settings={**_PASS_ON, "help_option_names": ["--help"]})
def serve(
    context: typer.Context,
    listen: Annotated[str, typer.Option(help="Where clients attach.")] = "tcp://127.0.0.1:7878",
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    world_ranks: Annotated[int | None, typer.Option(help="Processes that run the world model.")] = None,
    decoder_ranks: Annotated[int | None, typer.Option(help="Processes that decode.")] = None,
) -> int:
    """Run an engine for others to attach to."""
    _require_device(device)
    arguments = ["--listen", listen]
    for flag, value in (
        ("--device", device),
        ("--world-ranks", world_ranks),
        ("--decoder-ranks", decoder_ranks),
    ):
        if value is not None:
            arguments += [flag, str(value)]
    return _run_engine("engine.launch", [*arguments, "--until-stdin-closes", *context.args])


@app.command(context_settings=_PASS_ON)
def evaluate(context: typer.Context) -> int:
    """Measure the dream's quality against the reference: evaluate GAME [options]."""
    if not context.args or not context.args[0].startswith("-"):
        _first(context.args, "game", tuple(GAMES))
    return _run_engine("engine.training.evaluate", context.args)


@app.command(context_settings=_PASS_ON)
def bench(context: typer.Context) -> int:
    """Run a benchmark: bench NAME [options]."""
    if context.args[:1] == ["--help"]:
        return _say_usage(context, "NAME", _modules("bench"))
    name = _first(context.args, "benchmark", _modules("bench"))
    return _run_engine(f"engine.bench.{name}", context.args[1:])


@app.command(context_settings=_PASS_ON)
def plan(context: typer.Context) -> int:
    """Share out accelerators between world and decoder: plan --gpus N [options]. Needs no GPU."""
    return _run_engine("engine.plan", context.args, needs_engine=False)


@app.command(context_settings=_PASS_ON)
def train(context: typer.Context) -> int:
    """Train a part of the model: train GAME STAGE [options]."""
    stages = tuple(s for s in _STAGES if s in _modules("training"))
    if context.args[:1] == ["--help"]:
        return _say_usage(context, "STAGE", stages)
    game = _first(context.args, "game", tuple(GAMES))
    stage = _first(context.args[1:], "stage", stages)
    return _run_engine(f"engine.training.{stage}", [game, *context.args[2:]])


@app.command(context_settings=_PASS_ON)
def doctor(context: typer.Context) -> int:
    """What this machine has, what will be used, what is missing and how to fix it."""
    return _run_engine("engine.doctor", context.args, needs_engine=False)


def _fail(text: str, code: int) -> NoReturn:
    print(f"dreamcade: error: {text}", file=sys.stderr)
    sys.exit(code)


def _require_game(game: str) -> None:
    if game not in GAMES:
        raise UserError(f"there is no game called {game!r}: choose one of {_NAMES}", 2)


def _require_device(device: str | None) -> None:
    if device not in (None, "cpu", "cuda"):
        raise UserError(f"--device {device}: choose cpu or cuda", 2)


def _require_range(flag: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise UserError(f"{flag} {value} is out of range: choose {low} to {high}", 2)


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


def _run_engine(module: str, arguments: list[str], needs_engine: bool = True) -> int:
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


def _say_end(result: dict[str, Any] | None, as_json: bool) -> None:
    if result is None:
        return
    if as_json:
        print(json.dumps(result), flush=True)
        return
    late = result["input_to_present_ms"]["p50"]
    key = "no key was pressed" if late is None else f"key to picture {late:.0f} ms"
    print(
        f"{result['seconds']:.0f} s at {result['shown_fps']:.1f} FPS,"
        f" {result['true_steps_per_s']:.1f} true steps/s,"
        f" {result['filled_fraction'] * 100:.0f} % filled, {key}"
    )
    if "recording" in result:
        recording = result["recording"]
        print(f"saved {recording['directory']}" if recording["completed"] else recording["failure"])


if __name__ == "__main__":
    main()
