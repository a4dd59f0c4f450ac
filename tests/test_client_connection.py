"""The client's end of the wire."""

import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from client.connection import Connection
from engine.lobby.front import Front
from engine.protocol import PROTOCOL_VERSION, Beginning, Hello, Welcome, pack
from tests.test_client_report import frame
from tests.waiting import wait_for

WELCOME_ME = Hello(version=PROTOCOL_VERSION, game="racing")

WELCOME = Welcome(
    version=PROTOCOL_VERSION,
    session="1",
    game="racing",
    mode="dream",
    seed=1,
    width=720,
    height=480,
    fps=60,
    stride=4,
    lag=2,
    device="cpu",
    backend="fake",
    decoder="fake",
    weights="",
)


@pytest.fixture
def router(tmp_path: Path) -> Iterator[zmq.Socket[bytes]]:
    """An engine's end, at ipc://TMP_PATH/front."""
    context = zmq.Context()
    end = context.socket(zmq.ROUTER)
    end.linger = 0
    end.bind(f"ipc://{tmp_path}/front")
    yield end
    context.destroy(linger=0)


@pytest.fixture
def connection(router: zmq.Socket[bytes], tmp_path: Path) -> Iterator[Connection]:
    """It has said hello."""
    made = Connection(f"ipc://{tmp_path}/front")
    wait_for(lambda: made.send(WELCOME_ME), 20.0, "no link")
    yield made
    made.close()


def test_what_follows_a_welcome_is_left_for_whoever_plays(
    router: zmq.Socket[bytes], connection: Connection
) -> None:
    """A recording lacks its dream's beginning otherwise, where both come at once."""
    client, _ = router.recv_multipart()
    beginning = Beginning(epoch=0, seed=1, stride=4, noise_seed=1)
    for message in (WELCOME, beginning):
        router.send_multipart([client, pack(message)])
    got = []
    while len(got) < 2:
        assert connection.wait(5.0), "nothing came"
        got.append(connection.drain(0.0).control)
    assert got == [(WELCOME,), (beginning,)]


def test_a_link_that_was_made_anew_is_noticed() -> None:
    """Quickly, so that nobody saw it break: what was sent last may be lost all the same."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    port = router.bind_to_random_port("tcp://127.0.0.1")
    connection = Connection(f"tcp://127.0.0.1:{port}")
    try:
        wait_for(lambda: connection.send(WELCOME_ME), 20.0, "no link")
        assert not connection.remade()
        router.close()
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        wait_for(lambda: bound(router, port), 20.0, "the port was not freed")
        wait_for(connection.remade, 20.0, "nothing was noticed")
        assert not connection.remade()
    finally:
        connection.close()
        context.destroy(linger=0)


def next_epoch(connection: Connection) -> int:
    """Of the next picture or beginning."""
    while connection.wait(20.0):
        received = connection.drain(0.0)
        if received.picture is not None:
            return received.picture.frame.epoch
        for message in received.control:
            if isinstance(message, Beginning):
                return message.epoch
    raise AssertionError("nothing came")


def bound(router: zmq.Socket[bytes], port: int) -> bool:
    try:
        router.bind(f"tcp://127.0.0.1:{port}")
    except zmq.ZMQError:
        return False
    return True


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_engine_is_reached_over_ipv6() -> None:
    context = zmq.Context()
    front = Front(context, "tcp://[::1]:0")
    connection = Connection(front.address)
    try:
        wait_for(lambda: connection.send(WELCOME_ME), 20.0, "no link")
        assert front.socket.poll(20_000)
        assert [letter.message for letter in front.received()] == [WELCOME_ME]
    finally:
        connection.close()
        context.destroy(linger=0)


def test_epochs_count_on_from_one_session_to_the_next(
    router: zmq.Socket[bytes], connection: Connection
) -> None:
    client, _ = router.recv_multipart()
    told: list[int] = []
    for session, epochs in (("a", 2), ("b", 1)):
        router.send_multipart([client, pack(msgspec.structs.replace(WELCOME, session=session))])
        for epoch in range(epochs):
            beginning = Beginning(epoch=epoch, seed=1, stride=4, noise_seed=1)
            picture = pack(frame(0, epoch=epoch, width=2, height=2), bytes(12))
            for part in (pack(beginning), picture):
                router.send_multipart([client, part])
                told.append(next_epoch(connection))
    assert told == [0, 0, 1, 1, 2, 2] and connection.first_epoch == 2
