"""Several players on one engine: real processes, real sockets, each in a world of their own."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from select import select
from typing import TypeVar

import numpy as np
import pytest
import zmq

from engine.errors import UsageError
from engine.lobby.sessions import Sessions
from engine.protocol import (
    PROTOCOL_VERSION,
    BesideState,
    Command,
    Frame,
    Hello,
    Ping,
    Pong,
    Refused,
    Welcome,
)
from engine.supervision.placement import players_of
from engine.team import Team
from engine.verify import read, verify
from games.racing.spec import Buttons as Keys
from tests.engine_harness import ROOT, Engine, Player, engine, player
from tests.tiny import store_tiny
from tests.waiting import wait_for

STRIDE = 4
THROTTLE, LEFT = int(Keys.THROTTLE), int(Keys.LEFT)
TWO = ("--players", "2", "--stride", str(STRIDE))
_GAP_S = 0.5
"""Longest time without a picture that is no disturbance on a busy machine: what hurts lasts for seconds."""

_T = TypeVar("_T")
Shown = list[tuple[Frame, bytes, float]]
"""Frame, pixels, when it came."""


class NamedPlayer(Player):
    """A client whose name stays the same when its link is made anew, like the real one's."""

    def __init__(self, address: str) -> None:
        super().__init__("inproc://nowhere")
        self.socket.close()
        self._address = address

    def connect(self) -> None:
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, b"c-that-comes-back")
        self.socket.connect(self._address)


def play(seconds: float, *players: Player) -> list[Shown]:
    """All of them at once, for a while; what each was shown."""
    shown: list[Shown] = [[] for _ in players]
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for one, frames in zip(players, shown):
            while (received := one.receive(0.004)) is not None:
                if isinstance(received[0], Frame):
                    frames.append((received[0], received[1], time.monotonic()))
    return shown


def answered(me: Player, kind: type[_T], *others: Player) -> tuple[_T, list[Shown]]:
    """The next message of `kind` to `me`; what the others, who play on, were shown until then."""
    shown: list[Shown] = [[] for _ in others]
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        for frames, more in zip(shown, play(0.02, *others)):
            frames += more
        received = me.receive(0.02)
        if received is not None and isinstance(received[0], kind):
            return received[0], shown
        assert received is None or not isinstance(received[0], Refused), received[0]
    raise AssertionError(f"no {kind.__name__}")


def joined(me: Player, *others: Player, **choices) -> Welcome:
    """Let `me` in while the others play on."""
    me.hello(**choices)
    return answered(me, Welcome, *others)[0]


def held_frames(shown: Shown, key: int) -> list[int]:
    """The fake dream's count of frames that a key was held, modulo 256, in units of levels."""
    button = list(Keys).index(Keys(key))
    pictures = (np.frombuffer(pixels, np.uint8).reshape(480, 720, 3) for _, pixels, _ in shown)
    return [int(picture[24, 48 * button + 24, 0]) for picture in pictures]


def longest_gap_s(shown: Shown) -> float:
    return max(later[2] - earlier[2] for earlier, later in pairwise(shown))


def assert_plays_on(shown: Shown) -> None:
    indices = [frame.index for frame, _, _ in shown]
    assert len(indices) > 10 and indices == sorted(set(indices)) and longest_gap_s(shown) < _GAP_S
    assert {frame.kind for frame, _, _ in shown} == {"true", "filled"}


@pytest.fixture(scope="module", params=["yes", "no"], ids=["together", "apart"])
def shared(request) -> Iterator[Engine]:
    with engine(*TWO, "--together", request.param) as running:
        yield running


@pytest.fixture
def pair(shared: Engine) -> Iterator[tuple[Player, Player]]:
    """Two who play at once."""
    with player(shared.address) as first, player(shared.address) as second:
        joined(first, seed=1)
        joined(second, first, seed=2)
        yield first, second
        for one in (first, second):
            one.bye()


def test_each_player_has_a_world_and_keys_of_their_own(pair: tuple[Player, Player]) -> None:
    first, second = pair
    for _ in range(3):
        seq = first.hold(THROTTLE)
    one, other = play(1.0, first, second)
    assert_plays_on(one)
    assert_plays_on(other)
    assert held_frames(one, THROTTLE)[-1] and not any(held_frames(other, THROTTLE))
    assert one[-1][0].applied_seq == seq and {frame.applied_seq for frame, _, _ in other} == {0}
    second.hold(LEFT)
    one, other = play(0.8, first, second)
    assert held_frames(other, LEFT)[-1] and not any(held_frames(one, LEFT))
    assert (one[-1][0].applied_seq, other[-1][0].applied_seq) == (seq, 1)


@pytest.mark.parametrize("kind", ["pause", "reset", "new_seed"])
def test_what_one_does_with_their_game_is_nothing_to_the_other(pair, kind) -> None:
    first, second = pair
    before = play(0.4, first, second)[1]
    first.send(Command(kind=kind, seed=9))
    mine, theirs = play(1.2, first, second)
    assert_plays_on(theirs)
    assert theirs[-1][0].epoch == 0 and theirs[-1][0].index > before[-1][0].index + 30
    if kind == "pause":
        late = [frame for frame, _, at_s in mine if at_s > mine[0][2] + 0.6]
        assert not late
        first.send(Command(kind="step"))
        assert answered(first, Frame, second)[0].kind == "true"
        mine, theirs = play(0.4, first, second)
        assert not mine and len(theirs) > 5
    else:
        assert mine[-1][0].epoch == 1 and mine[-1][0].index < before[-1][0].index + 60


def test_a_third_is_refused_until_one_leaves(pair, shared: Engine) -> None:
    first, second = pair
    with player(shared.address) as third:
        third.hello(seed=3)
        refused = third.expect(Refused)
        assert "busy" in refused.reason and "2 of 2" in refused.reason and refused.fix
        second.bye()
        joined(third, first, seed=3)
        mine, theirs = play(0.6, third, first)
        assert_plays_on(mine)
        assert_plays_on(theirs)
        third.bye()


def test_joining_and_leaving_disturb_nobody(pair, shared: Engine) -> None:
    first, second = pair
    second.bye()
    seen = play(0.1, first)[0]
    for turn in range(3):
        with player(shared.address) as guest:
            guest.hello(seed=10 + turn)
            seen += answered(guest, Welcome, first)[1][0]
            shown = play(0.5, first, guest)
            seen += shown[0]
            assert len(shown[1]) > 5
            guest.send(Command(kind="bye"))
            guest.send(Ping(nonce=turn))  # answered once the bye was heard
            seen += answered(guest, Pong, first)[1][0]
    assert_plays_on(seen)


def test_a_client_that_comes_back_finds_its_own_game(shared: Engine, pair) -> None:
    first, second = pair
    second.bye()
    gone, back = NamedPlayer(shared.address), NamedPlayer(shared.address)
    try:
        gone.connect()
        welcome = joined(gone, first, seed=5)
        gone.hold(LEFT)
        newest = play(0.6, gone, first)[0][-1][0]
        gone.socket.close(linger=0)
        assert_plays_on(play(2.2, first)[0])  # longer than until the lost one's game waits
        back.connect()
        back.seq, back.held = 1, LEFT
        assert joined(back, first, seed=5).session == welcome.session
        mine, theirs = play(0.6, back, first)
        assert_plays_on(theirs)
        assert newest.index < mine[0][0].index < newest.index + 150 and mine[-1][0].applied_seq == 1
        back.bye()
    finally:
        gone.close()
        back.close()


STOPPED = """
import sys
sys.path.insert(0, {root!r})
from tests.engine_harness import Player
me = Player({address!r}, holds=4)
me.join(seed=4)
print("joined", flush=True)
me.frames(60.0)
"""


def test_a_stopped_client_hurts_nobody() -> None:
    with engine(*TWO) as running, player(running.address) as me, player(running.address) as third:
        joined(me, seed=1)
        script = STOPPED.format(root=str(ROOT), address=running.address)
        other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert other.stdout is not None
        try:
            wait_for(lambda: play(0.1, me) and select([other.stdout], [], [], 0)[0], 60.0, "it never joined")
            play(0.5, me)
            other.send_signal(signal.SIGSTOP)
            assert_plays_on(play(2.5, me)[0])
            third.hello(seed=3)
            assert "kept" in third.expect(Refused).reason
        finally:
            other.kill()
            other.wait()
            other.stdout.close()


def test_the_other_game_is_refused_while_one_is_played() -> None:
    with engine("--players", "3") as running, player(running.address) as me, player(running.address) as you:
        joined(me, game="racing")
        you.hello(game="platformer")
        refused = you.expect(Refused)
        assert "racing" in refused.reason and "dreamcade play racing" in refused.fix
        you.hello(game="racing", mode="reference")
        assert "--reference" in you.expect(Refused).fix
        me.bye()
        assert joined(you, game="platformer").game == "platformer"
        joined(me, you, game="platformer")
        assert all(len(shown) > 10 for shown in play(0.6, me, you))


def test_the_simulator_is_beside_one_dream_at_a_time(pair, shared: Engine) -> None:
    first, second = pair
    first.send(Command(kind="beside"))
    wait_for(lambda: any(f.beside for f, _, _ in play(0.3, first, second)[0]), 60.0, "it never came")
    second.send(Command(kind="beside"))
    until_s, told = time.monotonic() + 5.0, None
    while told is None and time.monotonic() < until_s:
        play(0.02, first)
        received = second.receive(0.02)
        told = received[0] if received and isinstance(received[0], BesideState) else None
    assert told is not None and told.state == "stopped" and "another player" in told.reason
    first.send(Command(kind="alone"))
    play(0.3, first, second)
    second.send(Command(kind="beside"))
    wait_for(lambda: any(f.beside for f, _, _ in play(0.3, first, second)[1]), 30.0, "it never changed sides")


def test_decoder_ranks_take_the_frames_of_every_player_in_turn() -> None:
    options = (*TWO, "--decoder-ranks", "2")
    with engine(*options) as running, player(running.address) as me, player(running.address) as you:
        joined(me, seed=1)
        joined(you, me, seed=2)
        me.hold(THROTTLE)
        mine, yours = play(1.0, me, you)
        assert held_frames(mine, THROTTLE)[-1] and not any(held_frames(yours, THROTTLE))
        for shown in (mine, yours):
            indices = [frame.index for frame, _, _ in shown]
            assert len(indices) > 10 and {index % 2 for index in indices} == {0, 1}


def test_recordings_of_both_are_dreamed_again_bit_for_bit(tmp_path: Path) -> None:
    with engine(*TWO) as running:
        clients = {}
        for seed in (3, 4):
            command = [sys.executable, "-m", "client.cli", "play", "racing", "--engine", running.address]
            command += ["--seed", str(seed), "--record", str(tmp_path / str(seed)), "--seconds", "2"]
            clients[seed] = subprocess.Popen(
                [*command, "--headless", "--autopilot", "--json"], cwd=ROOT, stdout=subprocess.DEVNULL
            )
        assert [client.wait(60) for client in clients.values()] == [0, 0]
    for seed in clients:
        meta, _ = read(tmp_path / str(seed))
        verdict = verify(tmp_path / str(seed), fake=True)
        assert meta.completed and verdict.same and verdict.steps > 15, (seed, verdict)


@pytest.mark.slow
def test_with_real_models_two_seeds_are_two_worlds_and_one_seed_is_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DREAMCADE_CACHE", str(tmp_path / "cache"))
    store_tiny(tmp_path / "weights")
    options = ("--game", "racing", "--weights", str(tmp_path / "weights"), "--players", "3")
    with engine(*options, "--stride", "8", fake=False) as running:
        players = [Player(running.address) for _ in range(3)]
        for number, (one, seed) in enumerate(zip(players, (1, 2, 1))):
            joined(one, *players[:number], seed=seed)
        for _ in range(3):
            play(0.1, *players)
        for one in players:
            one.send(Command(kind="reset"))
        shown = play(1.5, *players)
        for one in players:
            one.close()
    true = [
        {f.index: pixels for f, pixels, _ in frames if f.kind == "true" and f.epoch == 1} for frames in shown
    ]
    common = sorted(true[0].keys() & true[1].keys() & true[2].keys())
    assert len(common) > 3
    assert all(true[0][index] == true[2][index] != true[1][index] for index in common)


# -- who may play -------------------------------------------------------------------------------------


def hello(**choices) -> Hello:
    return Hello(version=PROTOCOL_VERSION, **({"game": "racing"} | choices))


def test_a_full_engine_names_how_many_play_and_a_client_may_change_its_own_game() -> None:
    sessions = Sessions(limit=2)
    sessions.begin(b"a", hello(), 0.0)
    b = sessions.begin(b"b", hello(), 0.0)
    refused = sessions.refusal(hello(), b"c")
    assert refused is not None and "2 of 2" in refused.reason
    assert sessions.refusal(hello(seed=4), b"b") is None
    sessions.end(b)
    assert sessions.refusal(hello(), b"c") is None and len(sessions) == 1
    assert sessions.numbered(1) is sessions.of(b"a") and sessions.numbered(2) is None


@pytest.mark.parametrize(
    ("asked", "device", "team", "players"),
    [(0, "cpu", Team(), 1), (0, "cuda", Team(), 4), (0, "cuda", Team(2, 1), 1), (64, "cpu", Team(1, 3), 64)],
)
def test_how_many_may_play(asked: int, device: str, team: Team, players: int) -> None:
    assert players_of(asked, device, team) == players


@pytest.mark.parametrize(
    ("asked", "team", "says"),
    [(2, Team(2, 1), "--world-ranks 1"), (65, Team(), "1 to 64"), (-1, Team(), "1 to")],
)
def test_what_cannot_be_is_refused_with_advice(asked: int, team: Team, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        players_of(asked, "cpu", team)
