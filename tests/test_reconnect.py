"""A link that breaks and comes back: the game waits, then goes on where it was."""

import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from client.app import play
from client.options import PlayOptions
from client.overlay import Overlay
from engine.supervision.placement import free_port
from tests.engine_harness import engine
from tests.test_client_play import keep_environment  # noqa: F401
from tests.waiting import wait_for


class Link(threading.Thread):
    """A TCP link in between that can be cut: bytes vanish, and connections made before never live again."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._other: dict[socket.socket, socket.socket] = {}
        self._dead: set[socket.socket] = set()
        self._cut = self._over = False
        self.connections = self.passed = 0
        self.start()

    def cut(self) -> None:
        self._cut = True
        self._dead |= set(self._other)

    def restore(self) -> None:
        self._cut = False

    def close(self) -> None:
        self._over = True
        self.join(2)
        for end in (self._listener, *self._other):
            end.close()

    def run(self) -> None:
        while not self._over:
            alive = [end for end in self._other if end not in self._dead]
            for end in select.select([self._listener, *alive], [], [], 0.02)[0]:
                self._accept() if end is self._listener else self._pass_on(end)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(("127.0.0.1", self._to))
        self._other |= {near: far, far: near}
        self.connections += 1
        if self._cut:
            self._dead |= {near, far}

    def _pass_on(self, end: socket.socket) -> None:
        try:
            data = end.recv(1 << 20)
            if data:
                self._other[end].sendall(data)
                self.passed += len(data)
                return
        except OSError:
            pass
        self._dead |= {end, self._other[end]}
        self._other[end].close()


@pytest.fixture
def link() -> Iterator[Link]:
    port = free_port()
    with engine("--together", "yes", "--stride", "4", listen=f"tcp://127.0.0.1:{port}") as running:
        assert "listening" in running.line()
        between = Link(port)
        yield between
        between.close()


def test_play_goes_on_where_it_was(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(Overlay, "warning", lambda self, canvas, text: warnings.append(text))

    def break_it() -> None:
        wait_for(lambda: link.passed > 40 << 20, 60.0, "no pictures came")
        link.cut()
        time.sleep(3.0)
        link.restore()

    hand = threading.Thread(target=break_it, daemon=True)
    hand.start()
    outcome = play(PlayOptions(game="racing", engine=link.address, headless=True, seconds=9.0))
    hand.join()
    assert outcome.error is None and outcome.result is not None
    r = outcome.result
    assert link.connections > 1
    assert r["epochs"] == 1 and any("your game is kept" in text for text in warnings)
    assert r["frames"] > 120
    assert r["real_time_factor"] < 0.9  # the game stood still while the link was lost
