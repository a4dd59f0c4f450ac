"""The command line of engine.launch, checked."""

import argparse
from typing import NoReturn

from engine import machine
from engine.errors import UsageError
from engine.lobby.address import checked_address
from engine.supervision.placement import players_of, shapes_at, team_of
from engine.without import without
from games import GAMES


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see python -m engine.launch --help")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The checked command line. Raises UsageError."""
    parser = _Parser(prog="python -m engine.launch", description="Runs an engine until it is stopped.")
    parser.add_argument("--game", default="", help=f"play only this one of {', '.join(GAMES)}")
    parser.add_argument(
        "--listen", default="tcp://127.0.0.1:7878", help="ipc:///PATH or tcp://127.0.0.1:PORT"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--players", type=int, default=1, help="how many may play at once, 1 to 64; 0: 1 on a CPU, 4 on a GPU"
    )
    parser.add_argument(
        "--world-ranks", type=int, default=1, help="processes that share the world model, by tokens"
    )
    parser.add_argument("--decoder-ranks", type=int, default=1, help="processes that decode, frames in turn")
    parser.add_argument("--bands", type=int, default=1, help="decoder ranks that share one picture, by rows")
    parser.add_argument(
        "--layout", default="", choices=("auto",), help="let the planner share out this machine's GPUs"
    )
    parser.add_argument(
        "--together", default="auto", choices=("auto", "yes", "no"), help="world and decoder in one process"
    )
    parser.add_argument("--weights", default="", help="a directory instead of the shipped weights")
    parser.add_argument(
        "--stride", type=int, default=0, help="frames per true step, 1 to 8; 0 chooses while playing"
    )
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="stop when standard input is closed"
    )
    parser.add_argument(
        "--fake", action="store_true", help=argparse.SUPPRESS
    )  # for tests: no weights, fake pictures
    options = parser.parse_args(argv)
    check(options)
    options.game = options.game or game_of(options.weights)
    options.listen = checked_address(options.listen)
    return options


def check(options: argparse.Namespace) -> None:
    if options.game and options.game not in GAMES:
        raise UsageError(f"unknown game {options.game!r}: choose one of {', '.join(GAMES)}")
    theirs = game_of(options.weights)
    if options.game and theirs and options.game != theirs:
        raise UsageError(
            f"the weights in {options.weights} are for {theirs}, not {options.game}: "
            "name others with --weights, or another --game"
        )
    if not 0 <= options.stride <= 8:
        raise UsageError(f"stride {options.stride}: choose 1 to 8, or 0 for the engine's choice")
    if options.device == "cuda" and not machine.gpus():
        raise UsageError(
            "no CUDA device here: use --device cpu, or run dreamcade doctor to see what is missing"
        )
    asked = (options.world_ranks, options.decoder_ranks, options.bands, options.together)
    if options.layout and asked != (1, 1, 1, "auto"):
        raise UsageError("--layout auto chooses the ranks: leave --world-ranks and the like out")
    without()  # raises UsageError for a name it does not know
    players_of(options.players, options.device, team_of(options))


def game_of(weights: str) -> str:
    """The only game that these weights play; empty where none are named, or where they are not good, which
    the rank that loads them explains."""
    shapes = shapes_at("", weights) if weights else None
    return shapes.game if shapes is not None and shapes.game in GAMES else ""
