"""What runs where: which roles share a process, and what each process is started with."""

import argparse
import json
import os
import socket
import sys
from pathlib import Path

from engine import machine
from engine.config import GameConfig
from engine.errors import UsageError
from engine.models.stored import SHIPPED
from engine.team import Team, check_players, check_tokens
from games import GAMES

_PLAYERS_ON_A_GPU = 4  # every step computes all their worlds, whoever plays


def together_or_apart(option: str, device: str, cores: int, gpus: int) -> bool:
    """Whether one process hosts world and decoder. auto: where they share one core or one GPU anyway, a loop
    that gives true steps priority beats two processes that compete. cores: machine.useful_cores, measured.

    On two cores a thread each was measured better than both threads for one after the other: a decode never
    waits for a step, and no thread waits for another that the system has put aside. Beside other work 59.5
    and 59.9 frames a second were shown, 48.7 and 41.9 in one process; alone both show 60."""
    if option != "auto":
        return option == "yes"
    return gpus < 2 if device == "cuda" else cores < 2


def threads_each(processes: int, cores: int) -> int:
    """Threads of each process's models: the cores that this process may run on, shared out."""
    return max(1, cores // processes)


def sharing(together: bool, cores: int, gain: float) -> str:
    """How the cores are shared and why, for a human. cores: useful ones; gain: machine.parallel_gain."""
    threads = threads_each(1 if together else 2, cores)
    each = f"{threads} thread" + ("s" if threads > 1 else "")
    measured = (
        f" (two threads do {gain:g} times the work of one, measured now)" if machine.cores() > 1 else ""
    )
    if together:
        return f"world and decoder in one process, {each}: they would share the core anyway{measured}"
    return f"world and decoder in two processes, {each} each: no picture waits for a true step{measured}"


def team_of(options: argparse.Namespace) -> Team:
    """Who will run where. Raises UsageError for ranks that cannot share the work, or not on these GPUs."""
    world, decoder = options.world_ranks, options.decoder_ranks
    gpus = len(machine.gpus()) if options.device == "cuda" else 0
    alone = world == decoder == options.bands == 1
    together = alone and together_or_apart(options.together, options.device, machine.useful_cores(), gpus)
    team = Team(world, decoder, options.bands, together or options.together == "yes")
    if options.device == "cuda" and not alone and team.size > gpus:
        raise UsageError(
            f"{team.size} ranks on {gpus} GPUs: several ranks of a role need one each; "
            "choose fewer with --world-ranks and --decoder-ranks"
        )
    if not options.fake:
        check_shapes(team, options.game, options.weights)
    return team


def players_of(asked: int, device: str, team: Team) -> int:
    """How many may play at once; asked 0: the engine's choice. Raises UsageError."""
    if asked == 0:
        return _PLAYERS_ON_A_GPU if device == "cuda" and team.world_ranks == 1 else 1
    check_players(team, asked)
    return asked


def check_shapes(team: Team, game: str, weights: str) -> None:
    """Raises UsageError where the models of `game`, or any if it is empty, do not go over so many ranks."""
    if team.world_ranks > 1:
        for name in [game] if game else GAMES:
            if (config := shapes_at(name, weights)) is not None:
                check_tokens(config.world, team.world_ranks)


def shapes_at(game: str, weights: str) -> GameConfig | None:
    """The shapes of the weights that `game` will use, without loading them; None where those are not good,
    which the rank that loads them explains."""
    path = (Path(weights) if weights else SHIPPED / game) / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return GameConfig.from_json({name: value for name, value in data.items() if name != "files"})
    except (OSError, AttributeError, ValueError):  # ConfigError and JSON errors are ValueErrors
        return None


def rank_arguments(options: argparse.Namespace, team: Team, inner: str, players: int) -> list[str]:
    """The same for every rank: RANK tells them apart."""
    threads = threads_each(team.size, machine.useful_cores())
    arguments = ["engine.rank", *team.arguments(), "--inner", inner, "--device", options.device]
    arguments += ["--threads", str(threads), "--weights", options.weights, "--players", str(players)]
    return [*arguments, "--fake"] if options.fake else arguments


def gateway_arguments(
    listen: str, inner: str, team: Team, players: int, game: str, stride: int, fake: bool = False
) -> list[str]:
    arguments = ["engine.gateway", "--listen", listen, "--inner", inner, "--ranks", str(team.leaders)]
    arguments += ["--players", str(players), "--game", game, "--stride", str(stride)]
    return [*arguments, *["--fake"] * fake]


def child_environment() -> dict[str, str]:
    """Children find this same installation, wherever they run, and numpy's few small products there stay on
    one thread: OpenBLAS's others would spin between them and take the cores from the models."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH", "")
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "1")
    return {
        "PYTHONPATH": os.pathsep.join([root, path] if path else [root]),
        "OPENBLAS_NUM_THREADS": threads,
    }


def rank_environment(options: argparse.Namespace, rank: int, world_size: int, port: int) -> dict[str, str]:
    environment = child_environment() | {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    if sys.platform != "win32":
        environment["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
    if options.device == "cuda" and world_size > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        devices = [one for one in visible if one] or [str(i) for i in range(len(machine.gpus()))]
        environment["CUDA_VISIBLE_DEVICES"] = devices[rank % len(devices)]
    return environment


def loopback_listener() -> socket.socket:
    """A socket for the ranks' store: bound here, to loopback only, so its port cannot be taken meanwhile."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
