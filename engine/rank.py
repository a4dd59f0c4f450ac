"""One rank: a process that hosts one role or several. `engine.launch` starts it; so can torchrun.

    python -m engine.rank --together --inner ipc://DIR                 (both roles in one process)
    torchrun --nnodes 2 --node-rank N --nproc-per-node 2 --master-addr A --master-port 29500 \\
        -m engine.rank --world-ranks 2 --decoder-ranks 2 --inner tcp://A:29501 --listen tcp://127.0.0.1:7878

Across hosts: the same command on each, with its own N. Rank 0, on A, starts the gateway; ranks, torch's
sockets and --inner trust whoever reaches them, so A is an address of a private network.

Its set-up, in order: lifeline, process group, line to the gateway, cast. Then it loops: take messages, do the
one thing that is due, sleep until the next. A rank that shares another's work only obeys
(hosting/follower.py).
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial

from engine.errors import EngineError
from engine.hosting.aside import Aside
from engine.hosting.host import Host
from engine.hosting.models_at_hand import ModelsAtHand
from engine.inner import Addresses, RankLine
from engine.process_group import Crew, join, own_seat
from engine.supervision.lifeline import CREW_PATIENCE_S, LOADING_S, Failed, Lifeline, die_with_parent
from engine.supervision.own_gateway import OwnGateway
from engine.supervision.placement import check_shapes
from engine.team import Seat, Team, check_players

_NAMED_FIRST_S = 1.0  # for the supervisor to name the rank that died, before those that needed it complain


def run_rank(options: argparse.Namespace, lifeline: Lifeline) -> int:
    """Set up, host the roles until stopped, release; the exit code. Raises EngineError and WeightsError."""
    team = Team(options.world_ranks, options.decoder_ranks, options.bands, options.together)
    seat = own_seat(team)
    if not options.listen or seat.rank:
        take_seat(options, team, seat, lifeline)
        return 0
    check_players(team, options.players)
    check_shapes(team, options.game, options.weights)
    gateway, reason = OwnGateway(options, team, lifeline), "the engine ended"
    try:
        take_seat(options, team, seat, lifeline)
        reason = "the engine was stopped"
    finally:
        gateway.close(reason)
    return int(gateway.failed)


def take_seat(options: argparse.Namespace, team: Team, seat: Seat, lifeline: Lifeline) -> None:
    lifeline.beat(LOADING_S)
    import torch

    torch.set_num_threads(options.threads)
    crew = join(team, seat, options.device)
    hosted = tuple(role for role in seat.roles if role != "simulator")
    weights = options.weights or None
    models = ModelsAtHand(
        hosted, options.device, options.threads, weights, options.fake, crew, options.players
    )
    if crew is not None and not seat.leads:
        obey(models, crew, lifeline)
        return
    from engine.hosting.cast import SeatsCast

    line = RankLine(Addresses(options.inner), seat.name, options.players)
    cast = SeatsCast(team, seat, models, line, options.players, CREW_PATIENCE_S if crew else 0.0)
    host = Host(cast, line, lifeline, Aside(same_device(options.device)), seat.rank)
    try:
        host.run()
    finally:
        host.close()
        line.close()


def same_device(device: str) -> Callable[[], None]:
    """For another thread of this process: CUDA has a current device for each."""
    if device != "cuda":
        return lambda: None
    import torch

    return partial(torch.cuda.set_device, torch.cuda.current_device())


def obey(models: ModelsAtHand, crew: Crew, lifeline: Lifeline) -> None:
    """Share the work of the crew's leader until stopped."""
    from engine.fast.leading import Follower
    from engine.fast.orders import OrderInbox
    from engine.hosting.follower import FollowingRank

    def make(game: str) -> Follower:
        return models.shared_backend(game).follower()

    FollowingRank(make, OrderInbox(crew.orders), lifeline).run()


def user_errors() -> tuple[type[Exception], ...]:
    """What load_backend and the roles raise when the user has to change something."""
    from engine.models.weights import WeightsError

    return (EngineError, WeightsError)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engine.rank", description=__doc__)
    parser.add_argument("--world-ranks", type=int, default=1)
    parser.add_argument("--decoder-ranks", type=int, default=1)
    parser.add_argument("--bands", type=int, default=1)
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--players", type=int, default=1, help="how many may play at once")
    parser.add_argument("--inner", required=True)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", default="")
    parser.add_argument("--listen", default="", help="under torchrun: where rank 0's gateway takes clients")
    parser.add_argument("--game", default="", help="with --listen: play only this one")
    parser.add_argument("--stride", type=int, default=0, help="with --listen: frames per true step")
    parser.add_argument("--parent", type=int, default=0, help="the supervisor's process, if it has one")
    parser.add_argument("--fake", action="store_true")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = parse(sys.argv[1:] if argv is None else argv)
    death_signal = getattr(signal, "SIGKILL", signal.SIGTERM)
    lifeline = Lifeline(options.parent, death_signal)
    if not options.parent and "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent(os.getppid(), death_signal)  # torchrun's workers would survive its SIGKILL
    code = 0
    try:
        code = run_rank(options, lifeline)
    except user_errors() as error:
        code = 1
        if not (is_anothers(error) and lifeline.stops_within(_NAMED_FIRST_S)):
            lifeline.tell(Failed(str(error), code))
            if not options.parent:
                print(f"dreamcade: error: {error}", file=sys.stderr)
    except Exception:
        code = 1
        if not lifeline.stops_within(_NAMED_FIRST_S):  # an exchange fails when another rank dies
            traceback.print_exc()
    # Threads may still wait inside gloo for a rank that is gone; unwinding them can hang or crash.
    sys.stderr.flush()
    os._exit(code)


def is_anothers(error: Exception) -> bool:
    """Whether another rank's end is what this error tells of."""
    from engine.fast.orders import LeaderGone

    return isinstance(error, LeaderGone)


if __name__ == "__main__":
    main()
