"""The play loop against a fake engine: what reaches the engine, what is counted, how it ends."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pygame
import pytest

import client.app
import client.handshake
import client.link
from client.app import Outcome, play
from client.engine_process import EngineProcess
from client.errors import UserError
from client.keyboard import scancode
from client.options import PlayOptions
from engine.protocol import Buttons, Hello, Refused
from games import GAMES
from tests.fake_engine import FakeEngine, Script
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def keep_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def run(engine: FakeEngine, **more: object) -> Outcome:
    options = PlayOptions(game="racing", engine=engine.address, headless=True, seed=5, seconds=0.6)
    return play(dataclasses.replace(options, **more))


def result(outcome: Outcome) -> dict:
    assert outcome.error is None and outcome.exit_code == 0
    assert outcome.result is not None
    return outcome.result


class Fingers(threading.Thread):
    """Posts events at given times after the first picture: (seconds, event) pairs."""

    def __init__(self, engine: FakeEngine, *events: tuple[float, pygame.event.Event]) -> None:
        super().__init__(daemon=True)
        self._engine, self._events = engine, events
        self.start()

    def run(self) -> None:
        while self._engine.sent_frames < 3 or not self._engine.buttons():
            time.sleep(0.005)  # the loading screen would take them
        begun_s = time.perf_counter()
        for at_s, event in self._events:
            time.sleep(max(0.0, begun_s + at_s - time.perf_counter()))
            pygame.event.post(event)


def played(options: PlayOptions, work: Callable[[], object]) -> Outcome:
    """A play in whose time `work` is done by another thread; then its window is closed."""

    def do() -> None:
        try:
            work()
        finally:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    with ThreadPoolExecutor(1) as hand:
        done = hand.submit(do)
        outcome = play(options)
        done.result(60.0)
    return outcome


def press(key: int, name: str = "") -> pygame.event.Event:
    return pygame.event.Event(pygame.KEYDOWN, key=key, scancode=scancode(name) if name else 0)


def release(name: str) -> pygame.event.Event:
    return pygame.event.Event(pygame.KEYUP, key=0, scancode=scancode(name))


def test_a_play_reports_what_it_showed() -> None:
    with FakeEngine() as engine:
        r = result(run(engine, autopilot=True))
    assert r["game"] == "racing" and r["seed"] == 5 and r["mode"] == "dream" and r["backend"] == "fake"
    assert 0.6 <= r["seconds"] < 3
    assert 10 < r["frames"] <= engine.sent_frames
    assert 0.5 < r["filled_fraction"] < 0.95
    assert r["max_ahead_over_stride"] == 0.75
    assert r["stride"] == 4 and r["lag"] == 2 and r["epochs"] == 1
    assert r["input_to_present_ms"]["p50"] > 0
    assert r["input_to_true_ms"]["p50"] >= r["input_to_present_ms"]["p50"]
    assert r["startup_s"] > 0 and r["rss_mib"] is None and r["bad_messages"] == 0
    assert engine.commands() == ["bye"]


def test_the_hello_says_what_was_asked_for() -> None:
    with FakeEngine() as engine:
        run(engine, reference=True, stride=2, seconds=0.2)
    hello = next(m for m in engine.received if isinstance(m, Hello))
    assert (hello.game, hello.seed, hello.mode, hello.stride) == ("racing", 5, "reference", 2)


def test_taps_reach_the_engine_however_short() -> None:
    def fresh() -> dict[int, Buttons]:
        return {b.seq: b for b in engine.buttons()}

    def jumps() -> int:
        return sum(bool(b.pressed & 4) for b in fresh().values())

    def tap() -> None:
        wait_for(lambda: engine.sent_frames >= 3, 20.0, "no picture was sent")
        for taps in range(1, 9):
            for event in (press(0, "space"), release("space")):
                pygame.event.post(event)
            wait_for(lambda wanted=taps: jumps() >= wanted, 20.0, f"tap {taps} did not reach the engine")

    with FakeEngine() as engine:
        result(played(PlayOptions(game="platformer", engine=engine.address, headless=True), tap))
    assert jumps() == 8
    assert list(fresh()) == sorted(fresh())


def test_held_keys_are_sent_once_and_kept_alive_under_the_same_number() -> None:
    with FakeEngine() as engine:
        Fingers(engine, (0.05, press(0, "up")))
        run(engine)
    held = [b for b in engine.buttons() if b.held == 4]
    assert len({b.seq for b in held}) == 1
    assert len(held) >= 3


def test_focus_loss_releases_keys() -> None:
    with FakeEngine() as engine:
        Fingers(engine, (0.05, press(0, "up")), (0.2, pygame.event.Event(pygame.WINDOWFOCUSLOST)))
        run(engine)
    assert engine.buttons()[-1].held == 0
    assert any(b.held == 4 for b in engine.buttons())


def test_pause_step_resume_reset_and_new_seed_are_commands() -> None:
    with FakeEngine() as engine:
        Fingers(
            engine,
            (0.05, press(pygame.K_p)),
            (0.25, press(pygame.K_PERIOD)),
            (0.45, press(pygame.K_ESCAPE)),
            (0.50, press(pygame.K_r)),
            (0.80, press(pygame.K_n)),
            (0.85, press(pygame.K_h)),
            (0.87, press(pygame.K_t)),
        )
        r = result(run(engine, seconds=1.2))
    assert engine.commands() == ["pause", "step", "resume", "reset", "new_seed", "bye"]
    assert r["epochs"] == 3
    assert 1.2 <= r["seconds"] < 3


def test_q_pauses_first_and_quits_second() -> None:
    with FakeEngine() as engine:
        Fingers(engine, (0.05, press(pygame.K_q)), (0.15, press(pygame.K_q)))
        result(run(engine, seconds=None))
    assert engine.commands() == ["pause", "bye"]


def test_closing_the_window_ends_the_play() -> None:
    with FakeEngine() as engine:
        Fingers(engine, (0.05, pygame.event.Event(pygame.QUIT)))
        result(run(engine, seconds=None))


def test_refusal_says_reason_and_fix() -> None:
    script = Script(
        refuse=Refused(reason="no weights for racing.", fix="reinstall dreamcade"), loading=(("start", 0.1),)
    )
    with (
        FakeEngine(script) as engine,
        pytest.raises(UserError, match=r"no weights for racing: reinstall") as caught,
    ):
        run(engine)
    assert caught.value.exit_code == 1


def test_another_protocol_version_is_said_plainly() -> None:
    with FakeEngine(Script(version=99)) as engine, pytest.raises(UserError, match="protocol 99"):
        run(engine)


def test_an_engine_with_another_game_is_said_plainly() -> None:
    with FakeEngine(Script(game="platformer")) as engine, pytest.raises(UserError, match="play platformer"):
        run(engine)


def test_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.handshake, "REMOTE_SILENCE_S", 0.3)
    with FakeEngine(Script(silent=True)) as engine, pytest.raises(UserError, match="no engine answers"):
        run(engine)


def test_leaving_at_the_loading_screen_frees_the_engines_place() -> None:
    with FakeEngine(Script(silent=True)) as engine:
        outcome = played(
            PlayOptions(game="racing", engine=engine.address, headless=True),
            lambda: wait_for(lambda: engine.received, 20.0, "no hello came"),
        )
    assert (outcome.exit_code, outcome.result, outcome.error) == (0, None, None)
    assert engine.commands() == ["bye"]


def test_a_play_that_cannot_be_recorded_frees_the_engines_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*arguments: object) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(client.app, "Recorder", fail)
    with FakeEngine() as engine, pytest.raises(UserError, match="the disk is full"):
        run(engine, record=tmp_path / "recording")
    assert engine.commands() == ["bye"]


def test_an_address_that_is_none() -> None:
    with pytest.raises(UserError, match="write tcp://host:port") as caught:
        play(PlayOptions(game="racing", engine="nonsense", headless=True))
    assert caught.value.exit_code == 2


def test_a_vanished_engine_ends_the_play_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.link, "LINK_LOST_S", 0.5)
    monkeypatch.setattr("client.view.WARN_S", 0.1)
    with FakeEngine(Script(vanish_after_s=0.2)) as engine:
        outcome = run(engine, seconds=20.0)
    assert outcome.exit_code == 1 and outcome.error is not None and "sent no picture" in outcome.error
    assert outcome.result is not None and outcome.result["error"] == outcome.error


def test_a_world_that_takes_long_to_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.link, "LINK_LOST_S", 0.3)
    monkeypatch.setattr(client.link, "WARN_S", 0.1)
    with FakeEngine(Script(reset_takes_s=0.8)) as engine:
        Fingers(engine, (0.05, press(pygame.K_n)))
        assert result(run(engine, seconds=1.5))["epochs"] == 2


def test_play_goes_on_when_the_engine_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.link, "WARN_S", 0.1)
    monkeypatch.setattr(client.link, "_HELLO_S", 0.1)
    with FakeEngine(Script(restart_after_s=0.3)) as engine:
        outcome_frames = result(run(engine, seconds=1.2))["frames"]
    assert engine.restarts == 1
    assert len([m for m in engine.received if isinstance(m, Hello)]) >= 2
    assert engine.sent_frames > 40
    assert outcome_frames > 25


def test_an_ended_engine_ends_the_play_with_its_code() -> None:
    with FakeEngine(Script(end_after_s=0.2)) as engine:
        outcome = run(engine, seconds=20.0)
    assert outcome.exit_code == 3
    assert outcome.error == "the engine ended (world): out of memory"


@pytest.mark.parametrize("ends", [False, True])
def test_a_picture_that_cannot_be_saved_hides_nothing(ends: bool, tmp_path: Path) -> None:
    with FakeEngine(Script(end_after_s=0.3 if ends else None)) as engine:
        outcome = run(engine, picture=tmp_path / "gone" / "a.png", seconds=60 if ends else 0.3)
    assert outcome.result is not None and outcome.result["frames"] > 0
    assert outcome.exit_code == (3 if ends else 1)
    assert (outcome.error is not None) == ends and "out of memory" in (outcome.error or "out of memory")
    (line,) = outcome.unsaved
    assert "cannot write" in line and "a.png" in line


def test_the_last_picture_is_saved(tmp_path: Path) -> None:
    with FakeEngine() as engine:
        result(run(engine, picture=tmp_path / "a.png", seconds=0.2))
    assert pygame.image.load(str(tmp_path / "a.png")).get_size() == (720, 480)


def test_garbage_and_foreign_frames_are_ignored_and_counted() -> None:
    with FakeEngine(Script(garbage=True)) as engine:
        r = result(run(engine, seconds=0.3))
    assert r["bad_messages"] > 5 and r["frames"] > 3
    fields = len(GAMES["racing"].telemetry)
    with FakeEngine(Script(telemetry=lambda index: [0.0] * (fields if index % 2 else 3))) as engine:
        r = result(run(engine, seconds=0.3))
    assert r["bad_messages"] > 1 and r["frames"] > 1


def test_pictures_of_another_size_are_shown() -> None:
    with FakeEngine(Script(size=(360, 240))) as engine:
        r = result(run(engine, seconds=0.2))
    assert (r["width"], r["height"]) == (360, 240) and r["frames"] > 3


def test_the_loop_waits_for_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with FakeEngine() as engine, pytest.raises(UserError, match="add --headless"):
        run(engine, headless=False)


def test_an_interrupt_ends_the_play_cleanly() -> None:
    with FakeEngine() as engine:
        command = ["play", "racing", "--engine", engine.address, "--headless", "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "client.cli", *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        while engine.sent_frames < 20 or len(engine.buttons()) < 5:  # by then it plays
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    assert process.returncode == 130, error
    assert out.startswith(b"{") and out.count(b"\n") == 1 and error == b""


# -- a local engine, played by small scripts --------------------------------------------------------------


def local_engine(monkeypatch: pytest.MonkeyPatch, script: str) -> EngineProcess:
    monkeypatch.setattr("client.engine_process.engine_command", lambda *_: [sys.executable, "-c", script])
    return EngineProcess([])


def test_a_local_engine_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; print('noise'); print('dreamcade: error: no weights', file=sys.stderr); sys.exit(4)"
    engine = local_engine(monkeypatch, script)
    engine.wait(20)
    with pytest.raises(UserError, match=r"^no weights$") as caught:
        engine.check()
    engine.close()
    assert caught.value.exit_code == 4


def test_a_local_engine_that_dies_without_a_word_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = local_engine(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    engine.wait(20)
    with pytest.raises(UserError, match=r"launcher was killed \(signal 9\)") as caught:
        engine.check()
    engine.close()
    assert caught.value.exit_code == 1


def test_closing_stops_a_local_engine_and_removes_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = local_engine(monkeypatch, "import sys; sys.stdin.read()")
    engine.check()
    directory = Path(engine.address.removeprefix("ipc://")).parent
    assert directory.stat().st_mode & 0o777 == 0o700
    engine.close()
    assert not directory.exists()
    with pytest.raises(UserError):
        engine.check()


def test_a_local_engine_that_will_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.engine_process._STOP_S", 0.3)
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    engine = local_engine(monkeypatch, script)
    while not engine._lines:
        time.sleep(0.01)
    engine.close()
    with pytest.raises(UserError):
        engine.check()
