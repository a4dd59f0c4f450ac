"""Real processes, real sockets, real gloo, fake models: everything between a key and a picture but the
networks."""

import os
import signal
import time
from itertools import pairwise

import numpy as np
import pytest

from engine.inner import Opened
from engine.lobby.sessions import Sessions
from engine.protocol import (
    PROTOCOL_VERSION,
    Buttons,
    Command,
    Ended,
    Frame,
    Hello,
    Ping,
    Pong,
    Refused,
    Welcome,
    pack,
)
from games.racing.spec import Buttons as Keys
from tests.engine_harness import Engine, Player, engine, player
from tests.waiting import wait_for

STRIDE = 4
APART = ("--together", "no", "--stride", str(STRIDE))
TOGETHER = ("--together", "yes", "--stride", str(STRIDE))


def button_block(pixels: bytes, button: int) -> int:
    """The fake dream's token of one button: constant until a step covers a held frame."""
    return int(np.frombuffer(pixels, np.uint8).reshape(480, 720, 3)[24, 48 * button + 24, 0])


@pytest.fixture(scope="module")
def shared():
    """One engine for the tests that leave it alive."""
    with engine(*TOGETHER) as running:
        yield running


@pytest.fixture
def me(shared: Engine):
    with player(shared.address) as playing:
        yield playing
        playing.bye()


def assert_shown_well(shown: list[tuple[Frame, bytes]]) -> None:
    frames = [frame for frame, _ in shown]
    indices = [frame.index for frame in frames]
    assert indices == sorted(indices) and len(set(indices)) == len(indices)
    assert all(len(pixels) == 720 * 480 * 3 for _, pixels in shown)
    true = [frame for frame in frames if frame.kind == "true"]
    assert len(true) >= 3 and all(frame.index == frame.step * STRIDE for frame in true)
    assert [frame.step for frame in true] == sorted({frame.step for frame in true})
    filled = [frame for frame in frames if frame.kind == "filled"]
    assert filled and all(1 <= frame.ahead <= 2 * STRIDE for frame in filled)
    assert all(frame.ahead == 0 for frame in true)
    assert all(frame.index - frame.ahead == frame.step * STRIDE for frame in filled)


def assert_flip_shows_at_its_claim(playing: Player) -> None:
    earlier = playing.frames(0.3)  # the very next frame may claim the key
    seq = playing.hold(int(Keys.THROTTLE))
    button = list(Keys).index(Keys.THROTTLE)
    shown = earlier + playing.frames(0.8)
    before = {button_block(pixels, button) for frame, pixels in shown if frame.applied_seq < seq}
    after = [(frame, button_block(pixels, button)) for frame, pixels in shown if frame.applied_seq >= seq]
    assert before == {0} and after, (before, len(after))
    assert after[0][1] != 0 and after[0][0].buttons == int(Keys.THROTTLE)


@pytest.mark.parametrize("arguments", [APART, TOGETHER], ids=["apart", "together"])
def test_play(arguments):
    with engine(*arguments) as running, player(running.address) as me:
        welcome = me.join(seed=7)
        assert (welcome.width, welcome.height, welcome.fps, welcome.stride) == (720, 480, 60, STRIDE)
        assert_shown_well(me.frames(1.5))
        assert_flip_shows_at_its_claim(me)
        started_s = time.monotonic()
        running.process.stdin.close()
        assert running.wait() == 0 and time.monotonic() - started_s < 4
        running.assert_nothing_left()
        assert running.stderr == ""


def test_reference_mode_simulates_every_frame(me: Player):
    welcome = me.join(mode="reference")
    assert (welcome.backend, welcome.stride, welcome.lag) == ("simulator", 1, 0)
    seq = me.hold(int(Keys.THROTTLE))
    shown = me.frames(0.5)
    indices = [frame.index for frame, _ in shown]
    assert len(indices) > 3 and indices == sorted(set(indices))
    assert all(frame.kind == "true" and frame.index == frame.step for frame, _ in shown)
    assert shown[-1][0].telemetry[0] == shown[-1][0].index and shown[-1][0].applied_seq == seq


def test_pause_stops_the_game_and_step_moves_it_by_one_step(me: Player):
    me.join()
    assert me.frames(0.3)
    me.send(Command(kind="pause"))
    me.frames(0.4)
    assert me.frames(0.3) == []
    me.send(Command(kind="step"))
    first = me.expect(Frame)
    assert first.kind == "true" and me.frames(0.3) == []
    me.send(Command(kind="step"))
    second = me.expect(Frame)
    assert (second.step, second.index) == (first.step + 1, first.index + STRIDE)
    assert me.frames(0.3) == []
    me.send(Command(kind="resume"))
    assert me.expect(Frame).index > second.index


@pytest.mark.parametrize("kind", ["reset", "new_seed"])
def test_a_new_epoch_begins_at_0(me: Player, kind):
    me.join()
    assert me.frames(0.4)[-1][0].index > 10
    me.send(Command(kind=kind, seed=5))
    frames = [frame for frame, _ in me.frames(0.6)]
    new = [frame for frame in frames if frame.epoch == 1]
    assert new and new[0].index < 10 and frames[-1].epoch == 1
    assert [frame.index for frame in new] == sorted(frame.index for frame in new)


def test_garbage_leaves_a_player_unaffected(me: Player, shared: Engine):
    me.join()
    with player(shared.address) as vandal:
        for part in (
            b"",
            b"DC",
            b"DC\xff\xff\xff\xff",
            os.urandom(5000),
            b"DC\x05\x00\x00\x00" + b"\x91" * 5,
        ):
            vandal.socket.send(part)
        vandal.socket.send_multipart([b"a", b"b"])
        vandal.socket.send(bytes(1 << 20))  # larger than the gateway takes: the link is cut
        me.socket.send(b"nonsense")
        assert len(me.frames(0.5)) > 5


def test_a_slow_client_misses_frames_and_is_told_how_many(shared: Engine):
    with player(shared.address, holds=2) as slow:
        slow.join()
        for _ in range(8):
            slow.hold(0)  # alive, but looks at nothing
            time.sleep(0.1)
        frames = [frame for frame, _ in slow.frames(0.4)]
        gap = max(b.index - a.index for a, b in pairwise(frames))
        assert gap > 10 and frames[-1].dropped > 5 and len(frames) > 10
        slow.bye()


def test_a_second_client_is_refused_and_welcome_once_the_first_has_left(me: Player, shared: Engine):
    me.join()
    with player(shared.address) as other:
        other.hello()
        refused = other.expect(Refused)
        assert "busy" in refused.reason and refused.fix
        me.bye()
        assert other.join(seed=2).seed == 2
        assert other.expect(Frame)
        other.bye()


def test_another_protocol_version_is_refused_whatever_else_it_says(me: Player):
    me.send(Hello(version=99, game="racing"))
    assert "99" in me.expect(Refused).reason
    future = pack(Hello(version=98, game="racing")).replace(
        b"seed", b"wood"
    )  # a field this version does not know
    me.socket.send(future)
    assert "98" in me.expect(Refused).reason


def test_an_unknown_game_is_refused_with_the_known_ones(me: Player):
    me.hello(game="chess")
    assert "racing" in me.expect(Refused).fix


def test_a_repeated_hello_is_answered_again_without_a_new_session(me: Player):
    first = me.join()
    assert me.join().session == first.session


def test_what_is_held_while_the_game_loads_is_held_when_it_begins(me: Player):
    me.hold(1)
    me.hello()
    me.send(Buttons(seq=me.seq, held=1))  # before it is welcomed, as a client does whose link came back
    me.expect(Welcome)
    until_s = time.monotonic() + 20
    while me.expect(Frame).applied_seq < me.seq:
        assert time.monotonic() < until_s, "what was held was never heard"


def test_a_hello_with_the_seed_of_a_later_epoch_is_a_repeated_one(me: Player):
    first = me.join(seed=1)
    me.send(Command(kind="new_seed", seed=2))
    assert me.join(seed=2).session == me.join(seed=1).session == first.session


def test_no_two_engines_sessions_share_a_name():
    def name() -> str:
        session = Sessions(limit=1).begin(b"me", Hello(version=PROTOCOL_VERSION, game="racing"), now_s=0.0)
        session.opened = [
            Opened(session=1, role=role, cost_frames=1.0, stride=4) for role in ("world", "decoder")
        ]
        return session.welcome(now_s=1.0).session

    assert name() != name()


def test_what_is_said_twice_is_done_once(me: Player):
    me.join()
    wait_for(lambda: me.frames(0.2), 20.0, "no pictures came")
    for _ in range(2):
        me.send(Command(kind="pause"))
    wait_for(lambda: not me.frames(0.3), 20.0, "it does not stand still")
    for _ in range(2):
        me.send(Command(kind="resume"))
    wait_for(lambda: len(me.frames(0.5)) > 5, 20.0, "it does not go on")


def test_ping_is_answered_without_a_session(me: Player):
    me.send(Ping(nonce=5))
    assert me.expect(Pong).nonce == 5


def test_a_silent_clients_game_waits_and_goes_on(shared: Engine):
    with player(shared.address) as silent:
        silent.join()
        assert silent.expect(Frame)
        time.sleep(3.5)  # sends nothing
        indices = [frame.index for frame, _ in silent.frames(0.6)]
        gaps = [later - earlier for earlier, later in pairwise(indices)]
        assert max(indices) < 60 * 3.4 and max(gaps) < 60, (indices, gaps)
        assert silent.join().session  # a hello again is no new game
        assert silent.frames(0.3)[-1][0].index > max(indices) - 1
        silent.bye()


def test_a_client_that_stays_silent_loses_its_session():
    sessions = Sessions(limit=1)
    session = sessions.begin(b"me", Hello(version=PROTOCOL_VERSION, game="racing"), now_s=10.0)
    assert not session.should_wait(20.0) and not session.is_silent(120.0)  # loading has its own patience
    session.opened = [
        Opened(session=1, role=role, cost_frames=1.0, stride=4) for role in ("world", "decoder")
    ]
    session.welcome(now_s=20.0)
    assert not session.should_wait(21.0) and session.should_wait(22.0)
    assert not session.is_silent(49.0) and session.is_silent(51.0)
    session.waiting = True
    refused = sessions.refusal(session.hello, b"another")
    assert refused is not None and "kept" in refused.reason


def join_and_play(running: Engine, me: Player) -> dict[str, int]:
    me.join()
    wait_for(lambda: len(me.frames(0.2)) > 3, 30.0, "it hardly plays")
    return running.processes()


@pytest.mark.parametrize(
    ("arguments", "victim"),
    [(APART, "world"), (APART, "decoder"), (TOGETHER, "world,decoder"), (TOGETHER, "gateway")],
)
def test_a_killed_process_ends_everything_and_is_named(arguments, victim):
    with engine(*arguments) as running, player(running.address) as me:
        os.kill(join_and_play(running, me)[victim], signal.SIGKILL)
        killed_s = time.monotonic()
        ended = me.expect(Ended, 3.0)
        assert time.monotonic() - killed_s < 2.5
        assert ended.role == victim and "signal 9" in ended.reason and ended.exit_code == 1
        assert running.wait() == 1
        running.assert_nothing_left()
        assert running.stderr.startswith(f"dreamcade: error: the {victim.replace(',', ' and ')}")
        assert "Traceback" not in running.stderr and running.stderr.count("\n") == 1


def test_a_stopped_rank_is_noticed():
    with engine(*APART) as running, player(running.address) as me:
        os.kill(join_and_play(running, me)["decoder"], signal.SIGSTOP)
        ended = me.expect(Ended, 4.0)
        assert ended.role == "decoder" and "stopped answering" in ended.reason
        assert running.wait() == 1
        running.assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_launcher(number):
    with engine(*TOGETHER) as running, player(running.address) as me:
        join_and_play(running, me)
        running.process.send_signal(number)
        assert me.expect(Ended, 3.0).role == "engine"
        assert running.wait() == (-9 if number == signal.SIGKILL else 0)
        running.assert_nothing_left()
