"""Several sessions on one rank, without processes or sockets: who steps when, and what waits."""

import threading
import time
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest

from engine.fast.slots import WorldSlots
from engine.fast.torch_backend import TorchBackend
from engine.hosting.aside import Aside
from engine.hosting.cast import SeatsCast
from engine.hosting.host import Host
from engine.hosting.links import MemoryLink
from engine.hosting.models_at_hand import ModelsAtHand
from engine.hosting.session_links import SortedLatents
from engine.hosting.turns import PictureTurns
from engine.inner import Begin, Control, FromRank, Input, Logged, Opened, Picture, Start, Stop, ToRank
from engine.pacing.clock import StepPace
from engine.protocol import Frame
from engine.team import Team
from tests.test_engine_links import latent
from tests.test_engine_roles import Beats, DueRole
from tests.tiny import store_tiny

pytestmark = pytest.mark.usefixtures("one_thread")
STRIDE = 8


class Line:
    """The gateway's other end: what comes is put into `inbox`, what goes is kept by session."""

    def __init__(self) -> None:
        self.inbox: list[ToRank] = []
        self.told: dict[int, list[FromRank]] = defaultdict(list)
        self.frames: dict[int, list[tuple[Frame, np.ndarray]]] = defaultdict(list)

    def send(self, message: FromRank) -> None:
        assert threading.current_thread() is threading.main_thread(), "sockets belong to one thread"
        self.told[message.session].append(message)

    def send_picture(self, picture: Picture, pixels: np.ndarray) -> bool:
        self.frames[picture.session].append((picture.frame, pixels))
        return True

    def opened(self, session: int) -> int:
        return sum(isinstance(message, Opened) for message in self.told[session])

    def steps(self, session: int) -> list[str]:
        """Latents' hashes in order."""
        return [m.entry.latent_hash for m in self.told[session] if isinstance(m, Logged)]


class Slotted(ModelsAtHand):
    """The GPU's way on the CPU: the sessions' worlds are slots of one, and step at once."""

    def __init__(self, backend: TorchBackend, players: int) -> None:
        super().__init__(("world", "decoder"), "cpu", 1, None, fake=False, players=players)
        self._torch, self._most = backend, players

    def _load(self, game: str):
        backend = self._torch
        backend.worlds = backend.slots  # type: ignore[method-assign]
        return backend


class Rank:
    """World and decoder of all sessions in one host."""

    def __init__(self, models: ModelsAtHand, players: int) -> None:
        self.line, self.models, team = Line(), models, Team(together=True)
        cast = SeatsCast(team, team.seat(0), models, self.line, players)  # type: ignore[arg-type]
        self.host = Host(cast, self.line, Beats(), Aside())  # type: ignore[arg-type]

    def turn(self, *messages: ToRank) -> None:
        for message in messages:
            self.host._handle(message)
        self.host._tend()
        self.host.step()

    def play(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.turn()
            time.sleep(0.0005)

    def join(self, session: int, seed: int) -> None:
        self.turn(
            Start(session=session, game="racing", seed=seed, mode="dream", stride=STRIDE, record_hashes=True)
        )
        until_s = time.monotonic() + 60
        while self.line.opened(session) < 2:
            assert time.monotonic() < until_s, "it never opened"
            self.turn()
        self.turn(Begin(session=session, lag=2))


@pytest.fixture(scope="module")
def backend(tmp_path_factory) -> TorchBackend:
    directory = tmp_path_factory.mktemp("weights")
    store_tiny(directory)
    return TorchBackend("racing", directory, "cpu", 1)


def test_sessions_join_leave_and_begin_again_in_the_slots_of_one_world(backend: TorchBackend) -> None:
    rank = Rank(Slotted(backend, 2), 2)
    line = rank.line
    rank.join(1, seed=1)
    slots = rank.models.worlds_at_hand
    assert isinstance(slots, WorldSlots) and slots.free == 1
    rank.join(2, seed=2)
    rank.play(1.0)
    assert slots.free == 0 and line.frames[1] and line.frames[2]
    assert not np.array_equal(line.frames[1][-1][1], line.frames[2][-1][1])
    rank.turn(Stop(session=1))
    assert slots.free == 1
    rank.join(3, seed=1)
    rank.turn(Control(session=2, kind="new_seed", seed=1))
    first, beginning = line.steps(1), line.steps(2)[0]
    until_s = time.monotonic() + 60
    while first[0] not in line.steps(2) or len(line.steps(3)) < 4:
        assert time.monotonic() < until_s, "it never began again"
        rank.turn()
    assert slots.free == 0 and len(first) > 3 and beginning != first[0]
    assert first[:4] == line.steps(3)[:4], "the same slot, seed and buttons: the same bytes"
    rank.turn(Stop(session=2), Stop(session=3))
    assert slots.free == 2 and not rank.host._sessions


class Slow(ModelsAtHand):
    """Fake models; a world class that takes its time, as real pictures do."""

    def world_class(self, game: str):
        made = super().world_class(game)

        def slowly(*args):
            time.sleep(0.4)
            return made(*args)

        return slowly


def slow_rank(players: int = 2) -> Rank:
    return Rank(Slow(("world", "decoder"), "cpu", 1, None, fake=True, players=players), players)


def longest_gap(frames: list[tuple[Frame, np.ndarray]]) -> int:
    indices = [frame.index for frame, _ in frames]
    return max(b - a for a, b in pairwise(indices))


def test_who_joins_or_begins_again_holds_nobody_up() -> None:
    rank = slow_rank()
    rank.join(1, seed=1)
    rank.play(0.3)
    rank.join(2, seed=2)
    rank.turn(Control(session=2, kind="new_seed", seed=5))
    rank.play(0.8)
    indices = [frame.index for frame, _ in rank.line.frames[1]]
    assert len(indices) > 60 and longest_gap(rank.line.frames[1]) < 12, "0.4 s are 24 frames"
    assert rank.line.frames[2][-1][0].epoch == 1


def test_what_comes_for_a_world_that_begins_again_waits_for_it() -> None:
    rank = slow_rank()
    rank.join(1, seed=1)
    rank.join(2, seed=2)
    rank.turn(Control(session=2, kind="new_seed", seed=5), Input(session=2, seq=1, held=4, pressed=4))
    rank.turn(Control(session=2, kind="pause"))
    rank.play(0.7)
    frame = rank.line.frames[2][-1][0]
    assert (frame.epoch, frame.index) == (1, 0), "paused at its beginning"
    rank.turn(Control(session=2, kind="resume"))
    rank.play(0.4)
    assert rank.line.frames[2][-1][0].applied_seq == 1


def test_who_leaves_while_beginning_again_makes_room_for_the_next() -> None:
    rank = slow_rank()
    rank.join(1, seed=1)
    rank.join(2, seed=2)
    rank.turn(Control(session=2, kind="new_seed", seed=5), Stop(session=2))
    rank.join(3, seed=3)
    rank.turn(Stop(session=1), Control(session=3, kind="new_seed", seed=6), Stop(session=3))
    other = Start(session=4, game="platformer", seed=1, mode="dream", stride=4, record_hashes=False)
    rank.turn(other)  # the models of the other game: whoever is still there goes first
    assert rank.line.opened(4) == 2 and list(rank.host._sessions) == [4]


def test_what_goes_wrong_aside_is_raised_even_if_the_player_leaves_meanwhile() -> None:
    rank = slow_rank()
    rank.join(1, seed=1)
    rank.join(2, seed=2)

    def fails(*_: object) -> None:
        raise MemoryError("no room for a world")

    rank.host._sessions[2].roles[-1].control = fails  # type: ignore[method-assign]
    rank.turn(Control(session=2, kind="new_seed", seed=5), Stop(session=2))
    with pytest.raises(MemoryError, match="no room"):
        rank.play(2.0)


def test_a_paused_game_takes_no_share_of_the_time() -> None:
    rank = slow_rank()
    rank.join(1, seed=1)
    rank.join(2, seed=2)
    world = rank.host._sessions[1].roles[-1]
    assert world._turns() == 2  # type: ignore[attr-defined]
    rank.turn(Control(session=2, kind="pause"))
    assert world._turns() == 1  # type: ignore[attr-defined]


def test_shared_time_makes_strides_larger_not_games_slower() -> None:
    pace = StepPace(smallest=4)
    for _ in range(9):
        pace.observe(0.025)
    assert [pace.fitting(0.0, turns=turns) for turns in (1, 2, 3, 4)] == [4, 4, 5, 7]
    assert pace.choose(0.0, 0.0, turns=3) == 5
    assert [pace.choose(0.0, float(now_s)) for now_s in range(1, 6)][-1] == 4, "the others have left"


class Other(DueRole):
    """Due or not."""

    def __init__(self, name: str, due: bool, owes: bool = False) -> None:
        super().__init__(name, [], owes)
        self.due = due

    def seconds_until_due(self, now_s: float) -> float:
        return 0.0 if self.due else 1.0


def test_every_due_picture_goes_before_anybody_gets_another_true_frames_first() -> None:
    a, b, c, d = Other("a", True), Other("b", True, owes=True), Other("c", True), Other("d", False)
    turns, roles = PictureTurns(), [a, b, c, d]
    assert [turns.next(roles, 0.0) for _ in range(7)] == [b, a, c, b, a, c, b]
    turns.next(roles, 0.0)
    assert turns.next([a, d], 0.0) is a, "who has left has no turn"
    assert PictureTurns().next([d], 0.0) is None


def test_each_session_drains_its_own_latents() -> None:
    link = MemoryLink()
    sorted_latents = SortedLatents(link)
    one, two = sorted_latents.end_of(1), sorted_latents.end_of(2)
    for session, index in ((1, 4), (2, 8), (3, 12), (1, 16)):
        link.send(latent(index, session=session))
    assert [got.index for got in two.drain()] == [8]
    assert [got.index for got in one.drain()] == [4, 16] and one.drain() == []
    two.close()
    link.send(latent(20, session=2))
    assert one.drain() == []
