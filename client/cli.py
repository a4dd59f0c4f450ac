"""The command line. Everything heavier than parsing is imported by the command that needs it.

Expected failures end as one line on standard error, with exit code 2 for a wrong call and 1 for the rest.
"""

import json
import os
import random
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from client.engine_commands import PASS_ON, add_to, run_engine
from client.errors import UserError
from client.pairing import app as pair_app
from engine.protocol import MAX_SEED
from games import GAMES

_NAMES = ", ".join(GAMES)

app = typer.Typer(
    help="An arcade of dreamed games: you hold the keys, a neural world model imagines what happens next.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.add_typer(pair_app, name="pair")
add_to(app)

GameArgument = Annotated[
    str | None, typer.Argument(metavar="[GAME]", help=f"One of: {_NAMES}. Default: a menu of them.")
]
WorldRanks = Annotated[int | None, typer.Option(help="Processes that share the world model.")]
DecoderRanks = Annotated[int | None, typer.Option(help="Processes that decode, frames in turn.")]
Layout = Annotated[str | None, typer.Option(help="auto: the planner shares out this machine's GPUs.")]


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


@app.callback()
def menu(context: typer.Context) -> int:
    """An arcade of dreamed games: you hold the keys, a neural world model imagines what happens next."""
    if context.invoked_subcommand is not None:
        return 0
    from client.screen import display_available

    if not display_available(dict(os.environ), sys.platform):
        print(context.get_help())
        return 2
    return play()


@app.command()
def play(
    game: GameArgument = None,
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
    world_ranks: WorldRanks = None,
    decoder_ranks: DecoderRanks = None,
    layout: Layout = None,
    mute: Annotated[bool, typer.Option("--mute", help="Begin without sound; M brings it.")] = False,
    beside: Annotated[
        bool, typer.Option("--beside", help="Begin with the simulator beside the dream, like the key V.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the last picture shown, as PNG.")
    ] = None,
) -> int:
    """Play a game: starts a local engine and opens the window.

    Keys: arrows or WASD, space. P or Esc pauses and shows the rest.
    """
    if game is not None or headless:
        _require_game(game)
    ranks = _ranks(world_ranks, decoder_ranks, layout)
    if engine is not None and (device is not None or weights is not None or ranks):
        raise UserError(
            "--device, --weights and ranks are for a local engine: leave them out with --engine", 2
        )
    _require_device(device)
    _require_range("--seed", seed, 0, MAX_SEED)
    _require_range("--stride", stride, 0, 8)
    _require_range("--seconds", seconds, 0.1, 86400)
    if beside and reference:
        raise UserError("--beside shows the simulator beside the dream: leave out --reference", 2)
    if weights is not None and not weights.is_dir():
        raise UserError(f"--weights {weights}: no such directory", 2)

    from client import app as client_app
    from client.options import PlayOptions

    if game is None:
        game = client_app.choose_game(fullscreen)
    if game is None:
        return 0
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
            ranks=ranks,
            beside=beside,
            mute=mute,
            picture=picture,
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
    verify: Annotated[
        bool, typer.Option("--verify", help="Dream it again and compare; exit code 3 where it differs.")
    ] = False,
    export: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="mp4, gif or parquet, to OUT; shows nothing.")
    ] = None,
    out: Annotated[Path | None, typer.Argument(metavar="[OUT]", help="Of --export: a new file.")] = None,
) -> int:
    """Show a recording, verify or export it. Space pauses, the arrows seek, Q quits."""
    if out is not None and export is None:
        raise UserError("replay takes one recording; to export one: replay DIR --export FORMAT OUT", 2)
    if verify:
        from client.recording import load

        load(directory)  # says plainly what is wrong with it
        return run_engine("engine.verify", [str(directory), *["--json"] * as_json])
    if export is not None:
        from client.export import export as export_recording

        summary = export_recording(directory, export, out)
        print(json.dumps(summary) if as_json else f"wrote {summary['out']}: {summary['frames']} frames")
        return 0
    from client import replay as client_replay

    summary = client_replay.replay(directory, headless=headless)
    if as_json:
        print(json.dumps(summary))
    elif headless:
        for name, value in summary.items():
            print(f"{name}: {value}")
    return 0


@app.command(context_settings={**PASS_ON, "help_option_names": ["--help"]})
def serve(
    context: typer.Context,
    listen: Annotated[str, typer.Option(help="Where clients attach.")] = "tcp://127.0.0.1:7878",
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    players: Annotated[
        int | None,
        typer.Option(help="How many may play at once, 1 to 64. Default: 1 on a CPU, 4 on a GPU."),
    ] = None,
    world_ranks: WorldRanks = None,
    decoder_ranks: DecoderRanks = None,
    layout: Layout = None,
) -> int:
    """Run an engine for others to attach to."""
    _require_device(device)
    _require_range("--players", players, 1, 64)
    arguments = ["--listen", listen, *(["--device", device] if device is not None else [])]
    arguments += ["--players", str(players or 0)]
    arguments += _ranks(world_ranks, decoder_ranks, layout)
    return run_engine("engine.launch", [*arguments, "--until-stdin-closes", *context.args])


def _ranks(world_ranks: int | None, decoder_ranks: int | None, layout: str | None) -> tuple[str, ...]:
    """The engine's arguments for those that were given; it checks them."""
    given = {"--world-ranks": world_ranks, "--decoder-ranks": decoder_ranks, "--layout": layout}
    return tuple(word for flag, value in given.items() if value is not None for word in (flag, str(value)))


def _fail(text: str, code: int) -> NoReturn:
    print(f"dreamcade: error: {text}", file=sys.stderr)
    sys.exit(code)


def _require_game(game: str | None) -> None:
    if game is None:
        raise UserError(f"without a window there is no menu: name a GAME, one of {_NAMES}", 2)
    if game not in GAMES:
        raise UserError(f"there is no game called {game!r}: choose one of {_NAMES}", 2)


def _require_device(device: str | None) -> None:
    if device not in (None, "cpu", "cuda"):
        raise UserError(f"--device {device}: choose cpu or cuda", 2)


def _require_range(flag: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise UserError(f"{flag} {value} is out of range: choose {low} to {high}", 2)


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
