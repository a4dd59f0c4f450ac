"""A link that breaks and comes back: the game waits, then goes on where it was."""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pygame
import pytest

from client.app import Outcome, play
from client.options import PlayOptions
from client.overlay import Overlay
from client.recording import load
from client.report import Report
from engine.protocol import Command, Frame, Hello
from engine.supervision.placement import free_port
from tests.engine_harness import engine
from tests.fake_engine import FakeEngine, Script
from tests.test_client_play import keep_environment, played, press  # noqa: F401
from tests.waiting import wait_for

LONG_S = 30.0  # for what takes two seconds, on a machine that does other things as well


class Link(threading.Thread):
    """A TCP link in between that can be cut: bytes vanish, and connections made before never live again."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._other: dict[socket.socket, socket.socket] = {}
        self._dead: set[socket.socket] = set()
        self._cut = self._broken = self._over = False
        self.connections = self.passed = self._looks = 0
        self.start()

    def cut(self) -> None:
        """Nothing passes any more when this returns."""
        self._cut = True
        self._dead |= set(self._other)
        looked = self._looks
        while self._looks < looked + 2 and self.is_alive():
            time.sleep(0.002)

    def restore(self) -> None:
        self._cut = False

    def break_off(self) -> None:
        """Both sides notice at once that there is no connection; they may make another."""
        self._broken = True

    def close(self) -> None:
        self._over = True
        self.join(2)
        for end in (self._listener, *self._other):
            end.close()

    def run(self) -> None:
        while not self._over:
            self._looks += 1
            if self._broken:
                self._broken = False
                for end in self._other:
                    end.close()
                self._other.clear()
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


# -- what is said while the link is lost, to an engine that writes down what it hears ----------------------


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeEngine, Link]]:
    """Behind a link whose loss is noticed soon."""
    monkeypatch.setattr("client.connection._LINK_DEAD_MS", 600)
    with FakeEngine(Script(size=(90, 60))) as stand_in:
        between = Link(int(stand_in.address.rpartition(":")[2]))
        yield stand_in, between
        between.close()


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each picture when it is shown."""
    shown: list[int] = []
    count = Report.shown

    def note(report: Report, frame: Frame, now_s: float) -> None:
        shown.append(frame.epoch)
        count(report, frame, now_s)

    monkeypatch.setattr(Report, "shown", note)
    return shown


def play_through(link: Link, work: Callable[[], object], **more: object) -> Outcome:
    options = PlayOptions(game="racing", engine=link.address, headless=True, **more)  # type: ignore[arg-type]
    outcome = played(options, work)
    assert outcome.error is None and outcome.result is not None
    return outcome


def tap(*keys: int) -> None:
    """Press them; returns when the client has taken them."""
    for key in keys:
        pygame.event.post(press(key))
    wait_for(lambda: not pygame.event.peek(pygame.KEYDOWN, pump=False), LONG_S, "no key was taken")


def lose(link: Link, noticed: bool) -> None:
    """noticed: by the client, whose sends fail then; before, they succeed and are lost all the same."""
    before = link.connections
    link.cut()
    if noticed:
        wait_for(lambda: link.connections > before, LONG_S, "the client did not try another connection")


def pictures_come(engine: FakeEngine) -> None:
    """To a client that plays: the loading screen would take its keys."""
    wait_for(engine.buttons, LONG_S, "nobody plays")
    before = engine.sent_frames
    wait_for(lambda: engine.sent_frames > before + 5, LONG_S, "no pictures were sent")


@pytest.mark.parametrize("noticed", [False, True])
def test_a_pause_while_the_link_was_lost_is_one_when_it_is_back(
    fake: tuple[FakeEngine, Link], noticed: bool
) -> None:
    engine, link = fake

    def work() -> None:
        pictures_come(engine)
        lose(link, noticed)
        tap(pygame.K_p)
        link.restore()
        wait_for(lambda: engine.commands()[-1:] == ["pause"], LONG_S, "the engine plays on")

    play_through(link, work)
    assert set(engine.commands()) - {"bye"} == {"pause"}


@pytest.mark.parametrize("noticed", [False, True])
def test_going_on_while_the_link_was_lost_goes_on_when_it_is_back(
    fake: tuple[FakeEngine, Link], noticed: bool
) -> None:
    engine, link = fake

    def work() -> None:
        pictures_come(engine)
        tap(pygame.K_p)
        wait_for(lambda: "pause" in engine.commands(), LONG_S, "no pause")
        lose(link, noticed)
        tap(pygame.K_p)
        link.restore()
        wait_for(lambda: engine.commands()[-1] == "resume", LONG_S, "it stays paused for ever")
        pictures_come(engine)

    play_through(link, work)


@pytest.mark.parametrize("noticed", [False, True])
def test_a_start_again_while_the_link_was_lost_is_made_when_it_is_back(
    fake: tuple[FakeEngine, Link], epochs: list[int], monkeypatch: pytest.MonkeyPatch, noticed: bool
) -> None:
    engine, link = fake
    warnings: list[str] = []
    monkeypatch.setattr(Overlay, "warning", lambda self, canvas, text: warnings.append(text))

    def work() -> None:
        pictures_come(engine)
        lose(link, noticed)
        tap(pygame.K_r)
        warnings.clear()
        wait_for(lambda: warnings, LONG_S, "nothing warns that the link is lost")
        link.restore()
        wait_for(lambda: any(epochs), LONG_S, "it does not start again")

    play_through(link, work)
    assert set(engine.commands()) - {"bye"} == {"reset"}


def test_the_newest_seed_is_the_one_that_is_played(fake: tuple[FakeEngine, Link]) -> None:
    """R begins the game again that was asked for last, whether or not the engine has heard of it."""
    engine, link = fake

    def work() -> None:
        pictures_come(engine)
        lose(link, noticed=False)
        tap(pygame.K_n, pygame.K_r)
        link.restore()
        wait_for(lambda: "new_seed" in engine.commands(), LONG_S, "no new seed")

    play_through(link, work)
    assert set(engine.commands()) - {"bye"} == {"new_seed"}


def test_v_on_a_link_that_is_made_anew_at_once_is_said_again(fake: tuple[FakeEngine, Link]) -> None:
    engine, link = fake

    def work() -> None:
        pictures_come(engine)
        link.cut()
        tap(pygame.K_v)
        link.break_off()
        link.restore()
        wait_for(lambda: "beside" in engine.commands(), LONG_S, "nobody asked for the simulator")

    play_through(link, work)


# -- an engine that has let the game go -------------------------------------------------------------------


def begin_anew(engine: FakeEngine) -> None:
    """The engine forgets its session; returns when pictures of another one come."""
    before = engine.restarts
    engine.restart()
    wait_for(lambda: engine.restarts > before, LONG_S, "it was not started anew")
    pictures_come(engine)


def test_a_new_session_is_told_what_the_old_one_knew(fake: tuple[FakeEngine, Link]) -> None:
    engine, link = fake

    def work() -> None:
        wait_for(lambda: "beside" in engine.commands(), LONG_S, "nobody asked for the simulator")
        pictures_come(engine)
        tap(pygame.K_n)
        wait_for(lambda: "new_seed" in engine.commands(), LONG_S, "no new seed")
        pictures_come(engine)
        begin_anew(engine)
        wait_for(lambda: engine.commands().count("beside") > 1, LONG_S, "the simulator is gone")

    play_through(link, work, beside=True)
    seeds = [message.seed for message in engine.received if isinstance(message, Hello)]
    chosen = {m.seed for m in engine.received if isinstance(m, Command) and m.kind == "new_seed"}
    assert chosen == {seeds[-1]} != {seeds[0]}


def test_a_paused_client_notices_that_its_game_is_gone(fake: tuple[FakeEngine, Link]) -> None:
    engine, link = fake

    def work() -> None:
        pictures_come(engine)
        tap(pygame.K_p)
        wait_for(lambda: "pause" in engine.commands(), LONG_S, "no pause")
        engine.restart()
        wait_for(lambda: engine.commands().count("pause") > 1, LONG_S, "the new game is not paused")

    play_through(link, work)
    assert engine.restarts == 1


def test_a_recording_goes_on_with_another_epoch_in_a_new_session(
    fake: tuple[FakeEngine, Link], epochs: list[int], tmp_path: Path
) -> None:
    engine, link = fake

    def work() -> None:
        wait_for(lambda: len(epochs) > 30, LONG_S, "no pictures were shown")
        begin_anew(engine)
        wait_for(lambda: epochs.count(1) > 30, LONG_S, "no pictures of the new game were shown")

    result = play_through(link, work, record=tmp_path / "r").result
    assert result is not None and result["epochs"] == 2
    frames = load(tmp_path / "r").frames
    assert [frame.pts for frame in frames] == sorted({frame.pts for frame in frames})
    offsets = [{f.pts - f.index for f in frames if f.epoch == epoch} for epoch in (0, 1)]
    assert all(len(offset) == 1 for offset in offsets) and {frame.epoch for frame in frames} == {0, 1}


def test_a_new_seed_while_the_link_was_lost_is_played_by_a_real_engine(link: Link, epochs: list[int]) -> None:
    def work() -> None:
        wait_for(lambda: epochs, 60.0, "no pictures came")
        tap(pygame.K_p)
        lose(link, noticed=True)
        tap(pygame.K_n)
        link.restore()
        wait_for(lambda: sum(epoch > 0 for epoch in epochs) > 10, 60.0, "it does not go on")

    play_through(link, work)
