"""One rank: a process that hosts one role or several. `engine.launch` starts it; so can torchrun.

    python -m engine.rank --roles world,decoder --inner ipc://DIR     (world size 1: both in one process)
    RANK=0 WORLD_SIZE=2 MASTER_ADDR=.. MASTER_PORT=.. python -m engine.rank --roles world --inner ..

Its set-up, in order: lifeline, line to the gateway, process group, roles. Then it loops: take messages, do the one
thing that is due, sleep until the next.
"""

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import numpy as np

from engine.errors import EngineError
from engine.inner import (
    Addresses,
    Begin,
    Control,
    Input,
    Joined,
    Opened,
    Picture,
    Progress,
    RankLine,
    Start,
    Stop,
    ToRank,
)
from engine.lifeline import BEAT_S, Failed, Lifeline
from engine.links import DistributedReceiver, DistributedSender, LatentReceiver, LatentSender, MemoryLink
from engine.protocol import Frame

WORLD_RANK, DECODER_RANK = 0, 1
ROLES = {"dream": ("decoder", "world"), "reference": ("simulator",)}
"""Which roles take part in a session, in the order they get ready (the world wants to know what a decode costs)."""


class Role(Protocol):
    name: str

    def open(self, start: Start) -> Opened: ...
    def begin(self, begin: Begin, now_s: float) -> None: ...
    def input(self, message: Input, now_s: float) -> None: ...
    def control(self, message: Control, now_s: float) -> None: ...
    def seconds_until_due(self, now_s: float) -> float: ...
    def step(self, now_s: float) -> None: ...
    def end(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Place:
    """This rank among the others, from torchrun's environment variables."""

    rank: int
    world_size: int

    @classmethod
    def from_environment(cls) -> "Place":
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    def join(self, device: str) -> None:
        """Enter the process group over a store on MASTER_ADDR; alone there is none. Latents are host arrays, so gloo
        carries them on every device; NCCL comes with it for ranks that share one world model."""
        if self.world_size == 1:
            return
        import torch.distributed as dist

        listening = {"master_listen_fd": int(fd)} if (fd := os.environ.get("MASTER_LISTEN_FD")) else {}
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            self.world_size,
            is_master=self.rank == 0,
            wait_for_workers=False,
            timeout=timedelta(seconds=60),
            **(listening if self.rank == 0 else {}),  # a socket that the supervisor bound to loopback
        )
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" and dist.is_nccl_available() else "gloo"
        dist.init_process_group(
            backend,
            store=store,
            rank=self.rank,
            world_size=self.world_size,
            timeout=timedelta(days=365),  # a paused game sends no latents; the supervisor watches, not gloo
        )


class Host:
    """Runs this rank's roles in one thread: a step that is due goes before a decode that is due."""

    def __init__(self, roles: list[Role], line: RankLine, lifeline: Lifeline, tell: "Reporter") -> None:
        self._roles, self._line, self._lifeline, self._tell = roles, line, lifeline, tell
        self._active: list[Role] = []
        self._playing = False
        self._stepped_world = False

    def run(self) -> None:
        self._line.send(Joined(roles=[role.name for role in self._roles]))
        while not self._lifeline.stopping:
            for message in self._line.wait(self._idle_s()):
                self._handle(message)
            self._lifeline.beat()
            self.step()

    def step(self) -> None:
        """The one thing that is due. Never two true steps in a row while a true frame waits to be shown: on a machine
        too slow for both, pictures would stop altogether."""
        now_s = time.monotonic()
        due = [role for role in self._playing_roles() if role.seconds_until_due(now_s) <= 0]
        if not due:
            return
        role = due[0]
        if self._stepped_world and role.name == "world" and getattr(due[-1], "owes_true_frame", False):
            role = due[-1]
        self._stepped_world = role.name == "world"
        role.step(now_s)

    def close(self) -> None:
        for role in self._roles:
            role.close()

    def _playing_roles(self) -> list[Role]:
        return self._active[::-1] if self._playing else []  # the world first

    def _idle_s(self) -> float:
        now_s = time.monotonic()
        return min([BEAT_S, *(role.seconds_until_due(now_s) for role in self._playing_roles())])

    def _handle(self, message: ToRank) -> None:
        now_s = time.monotonic()
        match message:
            case Start():
                self._open(message)
            case Begin():
                self._playing = True
                for role in self._playing_roles():
                    role.begin(message, now_s)
            case Input() if self._playing:
                for role in self._active:
                    role.input(message, now_s)
            case Control() if self._playing:
                for role in self._active:
                    role.control(message, now_s)
            case Stop():
                self._stop()

    def _open(self, start: Start) -> None:
        self._stop()
        self._tell.session = start.session
        self._active = [role for name in ROLES[start.mode] for role in self._roles if role.name == name]
        for role in self._active:
            self._line.send(role.open(start))

    def _stop(self) -> None:
        self._playing = False
        for role in self._active:
            role.end()
        self._active = []


class Reporter:
    """What roles tell the gateway: how far loading is, and frames."""

    def __init__(self, line: RankLine, lifeline: Lifeline) -> None:
        self._line, self._lifeline = line, lifeline
        self.session = 0

    def progress(self, stage: str, fraction: float) -> None:
        self._lifeline.beat(loading=True)
        self._line.send(Progress(session=self.session, stage=stage, fraction=fraction))

    def frame(self, frame: Frame, pixels: np.ndarray) -> bool:
        return self._line.send_picture(Picture(session=self.session, frame=frame), pixels)


def make_roles(
    names: list[str], place: Place, options: argparse.Namespace, line: RankLine, tell: Reporter
) -> list[Role]:
    """The roles of this process. The simulator is hosted beside the world: it never runs while that dreams."""
    from engine.decoder_worker import DecoderRole
    from engine.models_at_hand import ModelsAtHand
    from engine.simulator_worker import SimulatorRole
    from engine.world_worker import WorldRole

    hosted = tuple(name for name in names if name != "simulator")
    models = ModelsAtHand(hosted, options.device, options.threads, options.weights or None, options.fake)
    together = MemoryLink() if place.world_size == 1 else None
    roles: list[Role] = []
    decode_s: Callable[[], float] = lambda: 0.0  # noqa: E731
    if "decoder" in names:
        receiver: LatentReceiver = together or DistributedReceiver(WORLD_RANK)
        if isinstance(receiver, DistributedReceiver):
            line.wake_on(receiver.wake.fileno())
        decoder = DecoderRole(models, receiver, tell.frame, tell.progress)
        roles.append(decoder)
        decode_s = lambda: decoder.decode_s  # noqa: E731
    if "world" in names:
        sender: LatentSender = together or DistributedSender(DECODER_RANK)
        roles.append(WorldRole(models, sender, decode_s, tell.progress))
    if "simulator" in names:
        roles.append(SimulatorRole(models, tell.frame, tell.progress))
    return roles


def run_rank(options: argparse.Namespace, lifeline: Lifeline) -> None:
    """Set up, host the roles until stopped, release. Raises EngineError and WeightsError."""
    names, place = options.roles.split(","), Place.from_environment()
    line = RankLine(Addresses(options.inner), options.roles)
    lifeline.beat(loading=True)
    import torch

    torch.set_num_threads(options.threads)
    place.join(options.device)
    tell = Reporter(line, lifeline)
    host = Host(make_roles(names, place, options, line, tell), line, lifeline, tell)
    try:
        host.run()
    finally:
        host.close()
        line.close()


def user_errors() -> tuple[type[Exception], ...]:
    """What load_backend and the roles raise when the user has to change something."""
    from engine.models.weights import WeightsError

    return (EngineError, WeightsError)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engine.rank", description=__doc__)
    parser.add_argument("--roles", required=True)
    parser.add_argument("--inner", required=True)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", default="")
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--fake", action="store_true")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = parse(sys.argv[1:] if argv is None else argv)
    lifeline = Lifeline(options.parent, getattr(signal, "SIGKILL", signal.SIGTERM))
    code = 0
    try:
        run_rank(options, lifeline)
    except user_errors() as error:
        lifeline.tell(Failed(str(error), 1))
        code = 1
    except Exception:
        traceback.print_exc()
        code = 1
    # Threads may still wait inside gloo for a rank that is gone; unwinding them can hang or crash.
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
