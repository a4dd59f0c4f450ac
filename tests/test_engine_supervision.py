"""What the launcher refuses, what it cleans up, and how it says so."""

import os
import socket
import subprocess
import sys

import pytest

from engine import machine
from engine.errors import EngineError, UsageError
from engine.lobby.address import in_use, make_room
from engine.protocol import Frame, Hello, Loading, Ping, Refused, Welcome, hello_version, pack
from engine.supervision.launch_options import check, parse
from engine.supervision.placement import (
    child_environment,
    sharing,
    team_of,
    threads_each,
    together_or_apart,
)
from tests.engine_harness import ROOT, engine, player

RACING = ROOT / "assets" / "weights" / "racing"


def launched(*arguments: str, stdin=subprocess.DEVNULL) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "engine.launch", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, stdin=stdin)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--game", "chess"], "choose one of racing, platformer"),
        (["--stride", "9"], "choose 1 to 8"),
        (["--world-ranks", "0"], "choose 1 or more with --world-ranks"),
        (["--decoder-ranks", "0"], "choose 1 or more with --decoder-ranks"),
        (["--world-ranks", "3"], "3 world ranks do not divide 160 tokens: choose one of 1, 2, 4"),
        (["--decoder-ranks", "3", "--bands", "2"], "2 bands do not divide 3 decoder ranks"),
        (["--world-ranks", "2", "--together", "yes"], "leave --together out"),
        (["--listen", "udp://127.0.0.1:1"], "use ipc://"),
        (["--listen", "tcp://127.0.0.1"], "needs a port"),
        (["--listen", "tcp://0.0.0.0:7878"], "no player is paired"),
        (["--listen", "tcp://example.org:7878"], "address as numbers"),
        (["--listen", "ipc:///nowhere/at/all"], "create it first"),
        (["--listen", "ipc:///tmp/" + "x" * 120], "use a shorter one"),
        (["--no-such-option"], "--help"),
        (["--weights", str(RACING), "--game", "platformer"], "are for racing, not platformer"),
    ],
)
def test_wrong_usage_says_what_to_do(arguments, said):
    with pytest.raises(UsageError, match=said):
        parse(arguments)


def test_wrong_usage_ends_with_one_line_and_code_2():
    ended = launched("--game", "chess")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "dreamcade: error: unknown game 'chess': choose one of racing, platformer\n"


def test_loopback_addresses_are_taken(tmp_path):
    for address in ("tcp://127.0.0.1:7878", "tcp://[::1]:7878", f"ipc://{tmp_path}/front"):
        assert parse(["--listen", address]).listen == address
    assert parse(["--listen", "tcp://localhost:0"]).listen == "tcp://127.0.0.1:0"


def test_a_busy_port_ends_with_one_line_and_nothing_left():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with engine(listen=address) as running:
            assert running.wait(10) == 1
            assert running.stderr == f"dreamcade: error: {in_use(address)}\n"
            running.assert_nothing_left()


def test_a_dead_engines_socket_is_replaced_and_a_living_ones_is_not():
    with engine("--together", "yes") as first:
        path = first.directory / "front.ipc"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(first.directory / "stale.ipc"))
        with engine(listen=f"ipc://{first.directory}/stale.ipc") as second, player(second.address) as me:
            assert me.join()
        with player(first.address) as me:
            me.join()
            with engine(listen=first.address) as third:
                assert third.wait(10) == 1 and "address in use" in third.stderr
            assert path.exists() and me.expect(Frame)
        first.process.stdin.close()
        assert first.wait() == 0
        first.assert_nothing_left()


def test_what_lies_where_a_socket_should_be_is_left_alone(tmp_path):
    file, folder = tmp_path / "letter.txt", tmp_path / "folder"
    file.write_text("dear reader")
    folder.mkdir()
    for path in (file, folder):
        with pytest.raises(EngineError, match="is there and no socket; choose another path"):
            make_room(f"ipc://{path}")
    assert file.read_text() == "dear reader" and folder.is_dir()


def test_missing_weights_refuse_the_client_with_what_to_do(tmp_path):
    with engine("--weights", str(tmp_path / "none"), fake=False) as running, player(running.address) as me:
        me.hello()
        refused = me.expect(Refused)
        assert str(tmp_path) in refused.reason and refused.fix
        assert running.wait() == 1
        assert running.stderr.startswith("dreamcade: error: ") and running.stderr.count("\n") == 1
        running.assert_nothing_left()


def test_an_engine_with_weights_of_one_game_refuses_the_other_and_goes_on():
    with engine("--weights", str(RACING)) as running, player(running.address) as me:
        me.hello(game="platformer")
        refused = me.expect(Refused)
        assert "racing" in refused.reason and refused.fix
        me.hello(game="racing")
        assert me.expect(Welcome).game == "racing"


def test_a_wrong_name_of_what_to_switch_off_is_refused_with_the_right_ones(monkeypatch):
    monkeypatch.setenv("DREAMCADE_WITHOUT", "int8,openvno")
    with pytest.raises(UsageError, match=r"names openvno: choose from .*openvino"):
        parse([])


def test_an_engine_for_one_game_talks_tcp_answers_while_it_loads_and_refuses_the_other_game():
    with engine("--game", "platformer", listen="tcp://127.0.0.1:0") as running:
        address = running.line().split()[-1]
        with player(address) as me:
            me.hello(game="racing")
            assert "platformer" in me.expect(Refused).reason
            me.hello(game="platformer")
            first = me.receive(10.0)[0]
            assert isinstance(first, Loading) and first.stage == "starting the engine"
            assert me.expect(Loading).fraction >= first.fraction
            assert me.expect(Welcome).game == "platformer"
            assert me.expect(Frame)


@pytest.mark.parametrize(("both", "useful"), [(1.0, 2), (1.9, 1)], ids=["two cores", "one core twice"])
def test_whether_two_cores_are_two_is_measured(monkeypatch, both, useful):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(machine, "_hashing_s", lambda pool, threads: both if threads == 2 else 1.0)
    machine.parallel_gain.cache_clear()
    assert machine.parallel_gain() == pytest.approx(2 / both, abs=0.01)
    assert machine.useful_cores() == useful
    together = together_or_apart("auto", "cpu", machine.useful_cores(), 0)
    assert together is (useful == 1)
    assert f"{machine.parallel_gain():g} times the work of one" in sharing(
        together, useful, machine.parallel_gain()
    )
    machine.parallel_gain.cache_clear()


def test_a_containers_quota_of_time_counts(tmp_path):
    for text, least in (("100000 100000", 1), ("max 100000", machine.cores()), ("junk", machine.cores())):
        (tmp_path / "cpu.max").write_text(text)
        assert machine.cores(tmp_path / "cpu.max") == least


def test_roles_share_a_process_where_they_would_share_cores_anyway():
    assert together_or_apart("auto", "cpu", cores=1, gpus=0) and not together_or_apart(
        "auto", "cpu", cores=4, gpus=0
    )
    assert together_or_apart("auto", "cuda", cores=16, gpus=1) and not together_or_apart(
        "auto", "cuda", cores=16, gpus=2
    )
    assert [threads_each(1 if cores < 2 else 2, cores) for cores in (1, 2, 3, 8)] == [1, 1, 1, 4]
    assert [seat.name for seat in team_of(parse(["--together", "yes"])).seats()] == ["world,decoder"]
    assert [seat.name for seat in team_of(parse(["--together", "no"])).seats()] == ["world", "decoder"]


def test_the_version_of_any_hello_is_read_and_nothing_else_is_believed():
    assert hello_version(pack(Hello(version=7, game="x"))) == 7
    for part in (pack(Ping()), b"", b"DC", os.urandom(64), b"DC\x04\x00\x00\x00" + b"\x91" * 4):
        assert hello_version(part) is None


def test_checks_need_no_parser():
    options = parse([])
    options.stride = -1
    with pytest.raises(UsageError):
        check(options)


def test_auto_layout_on_a_cpu_says_what_it_does_and_serves():
    with engine("--layout", "auto", listen="tcp://127.0.0.1:0") as running:
        said = running.line()
        assert said.startswith("dreamcade: layout: no layout to choose on a CPU")
        with player(running.line().split()[-1]) as me:
            assert me.join() and me.expect(Frame)


@pytest.mark.parametrize(("given", "wanted"), [(None, "1"), ("3", "3")])
def test_numpy_in_children_uses_one_thread_unless_told_otherwise(monkeypatch, given, wanted):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", given)
    assert child_environment()["OPENBLAS_NUM_THREADS"] == wanted
