"""Beyond this machine only paired players are heard; all others get not one byte."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zmq

from client.app import play
from client.connection import Connection
from client.errors import UserError
from client.options import PlayOptions
from engine import keys
from engine.protocol import PROTOCOL_VERSION, Ended, Frame, Hello, Ping
from engine.supervision.placement import free_port
from tests.engine_harness import ROOT, Engine, Player, engine
from tests.test_client_play import keep_environment  # noqa: F401

OTHER = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"  # the public key of libzmq's own documentation


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine plays with itself: one folder of keys for both sides."""
    monkeypatch.setenv("DREAMCADE_CONFIG", str(tmp_path / "keys"))
    return tmp_path / "keys"


@pytest.fixture
def open_engine(config: Path) -> Iterator[tuple[Engine, str]]:
    """An engine on every address of this machine, this machine paired with it; where it is reached."""
    keys.allow("me", keys.own_keys().public)
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    keys.trust(address, keys.own_keys().public)
    with engine("--together", "yes", listen=f"tcp://0.0.0.0:{port}") as running:
        assert "listening" in running.line()
        yield running, address


class KeyedPlayer(Player):
    """A client with its own key pair; None: without keys."""

    def __init__(self, address: str, pair: keys.KeyPair | None, server: str = "") -> None:
        self._pair, self._server = pair, server
        super().__init__(address)

    def prepare(self) -> None:
        if self._pair is not None:
            self.socket.curve_serverkey = self._server.encode()
            self.socket.curve_publickey = self._pair.public.encode()
            self.socket.curve_secretkey = self._pair.secret.encode()
        self.monitor = self.socket.get_monitor_socket(zmq.Event.HANDSHAKE_SUCCEEDED)

    def try_to_be_heard(self) -> None:
        """Hello, and a Ping, which needs no session. libzmq gives up a connection whose handshake was
        refused: then there is nowhere to send to, and a send that may wait would wait for ever."""
        self.socket.sndtimeo = 0
        for message in (Hello(version=PROTOCOL_VERSION, game="racing"), Ping()):
            with suppress(zmq.Again):
                self.send(message)


def stranger() -> keys.KeyPair:
    public, secret = zmq.curve_keypair()
    return keys.KeyPair(public.decode(), secret.decode())


def test_no_own_key_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = iter([(b"-" + OTHER[1:].encode(), OTHER.encode()), (OTHER.encode(), OTHER.encode())])
    monkeypatch.setattr(zmq, "curve_keypair", lambda: next(pairs))
    assert keys.own_keys() == keys.KeyPair(OTHER, OTHER)


def test_keys_are_made_once_and_only_the_owner_can_read_them(config: Path) -> None:
    assert keys.own_keys() == keys.own_keys()
    keys.allow("laptop", OTHER)
    for file in config.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    os.chmod(config / keys.OWN, 0o644)
    with pytest.raises(keys.KeysError, match="chmod 600"):
        keys.own_keys()


@pytest.mark.parametrize("key", ["", "short", "x" * 41, "ä" * 40, '"' * 40])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(keys.KeysError, match="40 characters"):
        keys.allow("laptop", key)


def test_a_damaged_file_is_named(config: Path) -> None:
    keys.allow("laptop", OTHER)
    (config / keys.PLAYERS).write_text('{"laptop": 3}')
    with pytest.raises(keys.KeysError, match=r"players\.json is damaged"):
        keys.players()


def test_a_paired_player_plays_and_the_others_get_nothing(open_engine: tuple[Engine, str]) -> None:
    _, address = open_engine
    server = keys.own_keys().public
    unknown, plain = KeyedPlayer(address, stranger(), server), KeyedPlayer(address, None)
    for intruder in (unknown, plain):
        intruder.try_to_be_heard()
    friend = KeyedPlayer(address, keys.own_keys(), server)
    friend.join()
    assert len(friend.frames(0.5)) > 5
    for intruder in (unknown, plain):
        assert not intruder.socket.poll(300) and not intruder.monitor.poll(0)
        intruder.close()
    friend.bye()
    friend.close()


def test_revoking_ends_a_live_session_and_the_key_opens_nothing_any_more(
    open_engine: tuple[Engine, str],
) -> None:
    _, address = open_engine
    friend = KeyedPlayer(address, keys.own_keys(), keys.own_keys().public)
    friend.join()
    assert friend.expect(Frame)
    keys.revoke("me")
    begun_s = time.monotonic()
    assert "revoked" in friend.expect(Ended, 3.0).reason and time.monotonic() - begun_s < 2
    friend.frames(0.2)  # what was on its way
    friend.hello()
    friend.send(Ping())
    assert not friend.socket.poll(500)  # the open connection
    again = KeyedPlayer(address, keys.own_keys(), keys.own_keys().public)
    again.hello()
    assert not again.socket.poll(500)  # a new one
    friend.close()
    again.close()


def test_revoking_one_players_key_leaves_the_other_in_play(config: Path) -> None:
    server, guest = keys.own_keys().public, stranger()
    keys.allow("me", server)
    keys.allow("guest", guest.public)
    port = free_port()
    with engine("--players", "2", listen=f"tcp://0.0.0.0:{port}") as running:
        assert "listening" in running.line()
        mine, theirs = (
            KeyedPlayer(f"tcp://127.0.0.1:{port}", pair, server) for pair in (keys.own_keys(), guest)
        )
        theirs.join(seed=1)
        mine.join(seed=2)
        keys.revoke("guest")
        assert len(mine.frames(1.5)) > 20
        assert "revoked" in theirs.expect(Ended, 3.0).reason
        third = KeyedPlayer(f"tcp://127.0.0.1:{port}", keys.own_keys(), server)
        third.join(seed=3)  # their place is free
        for one in (mine, theirs, third):
            one.close()


def test_a_paired_player_hears_why_when_the_gateway_dies(open_engine: tuple[Engine, str]) -> None:
    running, address = open_engine
    friend = KeyedPlayer(address, keys.own_keys(), keys.own_keys().public)
    friend.join()
    os.kill(running.processes()["gateway"], signal.SIGKILL)
    ended = friend.expect(Ended, 10.0)
    assert ended.role == "gateway" and "signal 9" in ended.reason
    friend.close()


def test_the_client_plays_with_keys_and_says_why_when_it_may_not(open_engine: tuple[Engine, str]) -> None:
    _, address = open_engine
    options = PlayOptions(game="racing", engine=address, headless=True, seconds=0.3)
    outcome = play(options)
    assert outcome.error is None and outcome.result is not None and outcome.result["frames"] > 3
    keys.revoke("me")
    time.sleep(0.5)  # the engine looks four times a second
    with pytest.raises(UserError, match="pair allow"):
        play(options)
    keys.allow("me", keys.own_keys().public)
    (keys.folder() / keys.ENGINES).unlink()
    with pytest.raises(UserError, match="wants a key"):
        play(options)


def test_silent_connections_are_cut_off(open_engine: tuple[Engine, str]) -> None:
    """A thousand of them would otherwise hold a thousand descriptors of the gateway's."""
    import socket

    _, address = open_engine
    host, port = address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as idle:
        idle.settimeout(8.0)
        while idle.recv(4096):  # the greeting, then the end
            pass


def dreamcade(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "client.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_command_line_pairs_two_machines() -> None:
    refused = dreamcade("serve", "--listen", "tcp://0.0.0.0:7999")
    assert refused.returncode == 2 and "no player is paired" in refused.stderr
    shown = dreamcade("pair")
    assert shown.returncode == 0 and keys.own_keys().public in shown.stdout and "nobody yet" in shown.stdout
    assert dreamcade("pair", "allow", "laptop", OTHER).returncode == 0
    assert keys.players() == {"laptop": OTHER}
    assert dreamcade("pair", "engine", "tcp://10.0.0.2:7878", OTHER).returncode == 0
    assert keys.engines() == {"tcp://10.0.0.2:7878": OTHER}
    assert dreamcade("pair", "revoke", "laptop").returncode == 0 and keys.players() == {}
    dashed = "-" + OTHER[1:]
    assert dreamcade("pair", "allow", "desk", dashed).returncode == 0 and keys.players() == {"desk": dashed}
    assert dreamcade("pair", "revoke", "desk").returncode == 0
    for wrong in (("revoke", "laptop"), ("allow", "laptop", "key"), ("engine", "host", OTHER)):
        done = dreamcade("pair", *wrong)
        assert done.returncode == 2 and done.stderr.startswith("dreamcade: error: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:7878", "tcp://[2001:db8::1]:7878", "tcp://den:7878"])
def test_an_unknown_engine_elsewhere_is_not_talked_to(address: str) -> None:
    with pytest.raises(UserError, match="run `dreamcade pair` first"):
        Connection(address)
    keys.trust(address, OTHER)
    Connection(address).close()


def test_an_engine_on_this_machine_needs_no_keys(config: Path) -> None:
    with engine("--together", "yes", listen="tcp://127.0.0.1:0") as running:
        line = running.line()
        connection = Connection(line.split()[-1])
        connection.send(Ping())
        assert connection.refusal() is None
        connection.close()
    assert not config.exists()
