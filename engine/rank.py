"""One rank: a process that hosts one role or several. `engine.launch` starts it; so can torchrun.

    python -m engine.rank --roles world,decoder --inner ipc://DIR     (world size 1: both in one process)
    RANK=0 WORLD_SIZE=2 MASTER_ADDR=.. MASTER_PORT=.. python -m engine.rank --roles world --inner ..

Its set-up, in order: lifeline, line to the gateway, process group, roles. Then it loops: take messages, do
the one thing that is due, sleep until the next.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from engine.errors import EngineError
from engine.host import Host, Reporter, Role
from engine.inner import Addresses, RankLine
from engine.lifeline import LOADING_S, Failed, Lifeline
from engine.links import DistributedReceiver, DistributedSender, LatentReceiver, LatentSender, MemoryLink

WORLD_RANK, DECODER_RANK = 0, 1


@dataclass(frozen=True)
class Place:
    """This rank among the others, from torchrun's environment variables."""

    rank: int
    world_size: int

    @classmethod
    def from_environment(cls) -> "Place":
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    def join(self, device: str) -> None:
        """Enter the process group over a store on MASTER_ADDR; alone there is none. Latents are host arrays,
        so gloo carries them on every device; NCCL comes with it for ranks that share one world model."""
        if self.world_size == 1:
            return
        import torch.distributed as dist

        listening = os.environ.get("MASTER_LISTEN_FD") if self.rank == 0 else None
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            self.world_size,
            is_master=self.rank == 0,
            wait_for_workers=False,
            timeout=timedelta(seconds=60),
            master_listen_fd=int(listening) if listening else None,  # bound to loopback by the supervisor
        )
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" and dist.is_nccl_available() else "gloo"
        dist.init_process_group(
            backend,
            store=store,
            rank=self.rank,
            world_size=self.world_size,
            timeout=timedelta(days=365),  # a paused game sends no latents; the supervisor watches, not gloo
        )


def make_roles(
    names: list[str], place: Place, options: argparse.Namespace, line: RankLine, tell: Reporter
) -> list[Role]:
    """The roles of this process. The simulator is hosted beside the world: it never runs while that
    dreams."""
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
        roles.append(WorldRole(models, sender, decode_s, tell.progress, tell.log))
    if "simulator" in names:
        roles.append(SimulatorRole(models, tell.frame, tell.progress))
    return roles


def run_rank(options: argparse.Namespace, lifeline: Lifeline) -> None:
    """Set up, host the roles until stopped, release. Raises EngineError and WeightsError."""
    names, place = options.roles.split(","), Place.from_environment()
    line = RankLine(Addresses(options.inner), options.roles)
    lifeline.beat(LOADING_S)
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
