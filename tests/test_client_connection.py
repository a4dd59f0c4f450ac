"""The client's end of the wire."""

from pathlib import Path

import zmq

from client.connection import Connection
from engine.protocol import PROTOCOL_VERSION, Beginning, Hello, Welcome, pack

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


def test_what_follows_a_welcome_is_left_for_whoever_plays(tmp_path: Path) -> None:
    """A recording lacks its dream's beginning otherwise, where both come at once."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    router.bind(f"ipc://{tmp_path}/front")
    connection = Connection(f"ipc://{tmp_path}/front")
    try:
        while not connection.send(Hello(version=PROTOCOL_VERSION, game="racing")):
            connection.wait(0.01)
        client, _ = router.recv_multipart()
        beginning = Beginning(epoch=0, seed=1, stride=4, noise_seed=1)
        for message in (WELCOME, beginning):
            router.send_multipart([client, pack(message)])
        got = []
        while len(got) < 2:
            assert connection.wait(5.0), "nothing came"
            got.append(connection.drain(0.0).control)
        assert got == [(WELCOME,), (beginning,)]
    finally:
        connection.close()
        context.destroy(linger=0)
