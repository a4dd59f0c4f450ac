"""The command line. Everything heavier than parsing is imported by the command that needs it.

Expected failures end as one line on standard error, with exit code 2 for a wrong call and 1 for the rest.
"""

import json
import os
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from client import arguments
from client.engine_commands import PASS_ON, add_to, run_engine
from client.errors import UserError
from client.options import PlayOptions
from client.pairing import app as pair_app
from engine.protocol import MAX_SEED
from games import GAMES

app = typer.Typer(
    help="An arcade of dreamed games: you hold the keys, a neural world model imagines what happens next.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.add_typer(pair_app, name="pair")
add_to(app)


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
    game: arguments.Game = None,
    engine: arguments.Engine = None,
    seed: arguments.Seed = None,
    record: arguments.Record = None,
    reference: arguments.Reference = False,
    autopilot: arguments.UseAutopilot = False,
    headless: arguments.Headless = False,
    seconds: arguments.Seconds = None,
    as_json: arguments.AsJson = False,
    stride: arguments.Stride = 0,
    fullscreen: arguments.Fullscreen = False,
    device: arguments.Device = None,
    weights: arguments.Weights = None,
    world_ranks: arguments.WorldRanks = None,
    decoder_ranks: arguments.DecoderRanks = None,
    layout: arguments.Layout = None,
    mute: arguments.Mute = False,
    beside: arguments.Beside = False,
    picture: arguments.Picture = None,
) -> int:
    """Play a game: starts a local engine and opens the window.

    Keys: arrows or WASD, space. P or Esc pauses and shows the rest.
    """
    if game is not None or headless:
        _require_game(game)
    options = PlayOptions(
        game=game or "",
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
        weights=weights,
        ranks=_ranks(world_ranks, decoder_ranks, layout),
        beside=beside,
        mute=mute,
        picture=picture,
    )
    _require_playable(options)
    return _play(options, as_json)


@app.command()
def replay(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A recording made by play --record.")],
    headless: Annotated[bool, typer.Option("--headless", help="Decode everything without a window.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Dream it again and compare; exit code 3 where it differs.")
    ] = False,
    weights: Annotated[
        str | None, typer.Option(metavar="DIR", help="Of --verify: instead of the shipped weights.")
    ] = None,
    export: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="mp4, gif or parquet, to OUT; shows nothing.")
    ] = None,
    out: Annotated[Path | None, typer.Argument(metavar="[OUT]", help="Of --export: a new file.")] = None,
) -> int:
    """Show a recording, verify or export it. Space pauses, the arrows seek, Q quits."""
    if verify and export is not None:
        raise UserError("--verify and --export are two commands: run one, then the other", 2)
    if out is not None and export is None:
        raise UserError("replay takes one recording; to export one: replay DIR --export FORMAT OUT", 2)
    if verify:
        from client.recording import load

        load(directory)  # says plainly what is wrong with it
        more = [*(["--weights", weights] if weights else []), *["--json"] * as_json]
        return run_engine("engine.verify", [str(directory), *more])
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
    game: Annotated[
        str | None, typer.Option(help=f"Only this one of {arguments.NAMES}. Default: who comes first says.")
    ] = None,
    stride: arguments.Stride = 0,
    weights: arguments.Weights = None,
    world_ranks: arguments.WorldRanks = None,
    decoder_ranks: arguments.DecoderRanks = None,
    bands: Annotated[int | None, typer.Option(help="Decoder ranks that share one picture, by rows.")] = None,
    layout: arguments.Layout = None,
) -> int:
    """Run an engine for others to attach to."""
    _require_device(device)
    _require_range("--players", players, 1, 64)
    chosen = {"--device": device, "--game": game, "--weights": weights, "--bands": bands}
    given = ["--listen", listen, "--players", str(players or 0), "--stride", str(stride)]
    given += [text for name, value in chosen.items() if value is not None for text in (name, str(value))]
    given += _ranks(world_ranks, decoder_ranks, layout)
    return run_engine("engine.launch", [*given, "--until-stdin-closes", *context.args])


def _play(options: PlayOptions, as_json: bool) -> int:
    """The exit code. A game that was not named is chosen in the menu."""
    from client import app as client_app

    game = options.game or client_app.choose_game(options.fullscreen)
    if game is None:
        return 0
    weights = options.weights.resolve() if options.weights is not None else None
    outcome = client_app.play(replace(options, game=game, weights=weights))
    _say_end(outcome.result, as_json)
    for trouble in ([outcome.error] if outcome.error is not None else []) + list(outcome.unsaved):
        print(f"dreamcade: error: {trouble}", file=sys.stderr)
    return outcome.exit_code


def _require_playable(options: PlayOptions) -> None:
    """Raises UserError for values out of range and options that do not go together."""
    if options.engine is not None and (options.device is not None or options.weights or options.ranks):
        raise UserError(
            "--device, --weights and ranks are for a local engine: leave them out with --engine", 2
        )
    _require_device(options.device)
    _require_range("--seed", options.seed, 0, MAX_SEED)
    _require_range("--stride", options.stride, 0, 8)
    _require_range("--seconds", options.seconds, 0.1, 86400)
    if options.beside and options.reference:
        raise UserError("--beside shows the simulator beside the dream: leave out --reference", 2)
    if options.weights is not None and not options.weights.is_dir():
        raise UserError(f"--weights {options.weights}: no such directory", 2)
    if options.picture is not None:
        _require_place_for(options.picture)


def _require_place_for(picture: Path) -> None:
    """Known before the play rather than behind it."""
    if picture.suffix.lower() != ".png":
        raise UserError(f"--picture {picture}: it is written as PNG, so end its name in .png", 2)
    if not os.path.isdir(picture.parent):  # unlike pathlib's it answers where a parent cannot be searched
        raise UserError(f"--picture {picture}: there is no directory {picture.parent}", 2)
    existing = picture if os.path.exists(picture) else picture.parent
    if os.path.isdir(picture) or not os.access(existing, os.W_OK):
        raise UserError(f"--picture {picture}: it cannot be written there, choose another place", 2)


def _ranks(world_ranks: int | None, decoder_ranks: int | None, layout: str | None) -> tuple[str, ...]:
    """The engine's arguments for those that were given; it checks them."""
    given = {"--world-ranks": world_ranks, "--decoder-ranks": decoder_ranks, "--layout": layout}
    return tuple(word for flag, value in given.items() if value is not None for word in (flag, str(value)))


def _fail(text: str, code: int) -> NoReturn:
    print(f"dreamcade: error: {text}", file=sys.stderr)
    sys.exit(code)


def _require_game(game: str | None) -> None:
    if game is None:
        raise UserError(f"without a window there is no menu: name a GAME, one of {arguments.NAMES}", 2)
    if game not in GAMES:
        raise UserError(f"there is no game called {game!r}: choose one of {arguments.NAMES}", 2)


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
    if "recording" in result and result["recording"]["completed"]:
        print(f"saved {result['recording']['directory']}")


if __name__ == "__main__":
    main()
