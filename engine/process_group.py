"""A rank among the others: the process group of all, and the groups of each crew that shares its work.

Ranks read RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as `engine.launch` and torchrun set them. Latents
and orders are host arrays, so gloo carries them on every device; a crew of world ranks on GPUs exchanges
tokens over NCCL."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from engine.errors import UsageError
from engine.team import Seat, Team

_FOR_EVER = timedelta(days=365)  # a paused game sends nothing; the supervisor watches, not gloo


@dataclass(frozen=True)
class Crew:
    """The ranks that share this one's work. orders: the leader's broadcasts of host tensors; exchange: what
    the work itself needs. Groups of their own, so that neither waits for the other's turn."""

    seat: Seat
    orders: Any
    exchange: Any


def own_seat(team: Team) -> Seat:
    """This process's place, from its environment. Raises UsageError."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if size != team.size:
        raise UsageError(
            f"{size} processes for {team.size} ranks: start as many as --world-ranks and --decoder-ranks say"
        )
    return team.seat(rank)


def join(team: Team, seat: Seat, device: str) -> Crew | None:
    """Enter the process group over a store on MASTER_ADDR, and those of the crews. None for a rank that
    shares its work with nobody."""
    if team.size == 1:
        return None
    import torch.distributed as dist

    if device == "cuda":
        import torch

        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # torchrun's; else one GPU is visible
    dist.init_process_group("gloo", store=_store(team, seat), rank=seat.rank, world_size=team.size,
                            timeout=_FOR_EVER)  # fmt: skip
    own = None
    for one in team.seats():  # every rank makes every group, in the same order
        if len(one.crew) == 1 or not one.leads:
            continue
        over_nccl = device == "cuda" and "world" in one.roles
        ranks = list(one.crew)
        orders = dist.new_group(ranks, backend="gloo", timeout=_FOR_EVER)
        exchange = dist.new_group(ranks, backend="nccl" if over_nccl else "gloo", timeout=_FOR_EVER)
        if seat.rank in one.crew:
            own = Crew(seat, orders, exchange)
    return own


def _store(team: Team, seat: Seat) -> Any:
    import torch.distributed as dist

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # torchrun's agent holds it
        store = dist.TCPStore(*_master(), team.size, is_master=False, timeout=timedelta(seconds=60))
        return dist.PrefixStore(f"dreamcade/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    listening = os.environ.get("MASTER_LISTEN_FD") if seat.rank == 0 else None
    return dist.TCPStore(
        *_master(),
        team.size,
        is_master=seat.rank == 0,
        wait_for_workers=False,
        timeout=timedelta(seconds=60),
        master_listen_fd=int(listening) if listening else None,  # bound to loopback by the supervisor
    )


def _master() -> tuple[str, int]:
    return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
