"""What runs where: which roles share a process, and what each process is started with."""

import argparse
import os
import socket
import sys
from pathlib import Path

from engine import machine


def together_or_apart(option: str, device: str, cores: int, gpus: int) -> bool:
    """Whether one process hosts world and decoder. auto: where they share one core or one GPU anyway, a loop
    that gives true steps priority beats two processes that compete.

    On two cores a thread each was measured better than both threads for one after the other: a decode never
    waits for a step, and no thread waits for another that the system has put aside. Beside other work 59.5
    and 59.9 frames a second were shown, 48.7 and 41.9 in one process; alone both show 60."""
    if option != "auto":
        return option == "yes"
    return gpus < 2 if device == "cuda" else cores < 2


def threads_each(together: bool, cores: int) -> int:
    """Threads of each process's models: the cores that this process may run on, shared out."""
    return max(1, cores if together else cores // 2)


def sharing(together: bool, cores: int) -> str:
    """How the cores are shared and why, for a human."""
    threads = threads_each(together, cores)
    each = f"{threads} thread" + ("s" if threads > 1 else "")
    if together:
        return f"world and decoder in one process, {each}: they would share the core anyway"
    return f"world and decoder in two processes, {each} each: no picture waits for a true step"


def role_groups(options: argparse.Namespace) -> list[str]:
    """One entry per rank: the roles it hosts. The simulator is at the world's side."""
    gpus = len(machine.gpus()) if options.device == "cuda" else 0
    if together_or_apart(options.together, options.device, machine.cores(), gpus):
        return ["world,decoder,simulator"]
    return ["world,simulator", "decoder"]


def rank_arguments(options: argparse.Namespace, roles: str, inner: str) -> list[str]:
    threads = threads_each("world" in roles and "decoder" in roles, machine.cores())
    arguments = ["engine.rank", "--roles", roles, "--inner", inner, "--device", options.device]
    arguments += ["--threads", str(threads), "--weights", options.weights]
    return [*arguments, "--fake"] if options.fake else arguments


def child_environment() -> dict[str, str]:
    """Children find this same installation, wherever they run."""
    root = str(Path(__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join([root, path] if path else [root])}


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
