"""Recordings: whole ones verify, killed ones replay as far as they got, damaged ones are named."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pygame
import pytest

import client.recorder
from client.app import play
from client.connection import Picture
from client.errors import UserError
from client.options import PlayOptions
from client.recorder import Recorder, require_empty
from client.recording import FRAMES, META, STEPS, VIDEO, load
from client.replay import VideoReader, replay
from client.view import View
from tests.fake_engine import FakeEngine
from tests.test_client_report import SPEC, WELCOME, frame

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def keep_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def picture(index: int, epoch: int = 0) -> Picture:
    """A picture whose grey tells its index."""
    pixels = np.full((480, 720, 3), 2 * index % 250, np.uint8)
    return Picture(
        frame(index, epoch=epoch, applied_seq=1), pixels.data.cast("B"), received_s=time.perf_counter()
    )


def recorder(directory: Path) -> Recorder:
    return Recorder(directory, SPEC, "dream", 3, WELCOME)


def wait_until_written(r: Recorder) -> None:
    """Until the thread has taken every picture."""
    while r._places._value < client.recorder._PICTURES_WAITING:
        time.sleep(0.001)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished recording: indices 0 to 59 without 30 to 39, then 20 frames of another epoch."""
    directory = tmp_path_factory.mktemp("recordings") / "whole"
    r = recorder(directory)
    r.input_sent(1, time.perf_counter())
    for index, epoch in [(i, 0) for i in (*range(30), *range(40, 60))] + [(i, 1) for i in range(20)]:
        while r._places._value == 0:  # a test must not depend on how fast the encoder is
            time.sleep(0.001)
        r.add(picture(index, epoch), time.perf_counter())
    r.close()
    assert r.summary()["completed"], r.summary()
    return directory


def cut_off(whole: Path, folder: Path) -> Path:
    """A copy in `folder`: all of its lines, most of its video, as a kill leaves them."""
    directory = Path(shutil.copytree(whole, folder / "cut"))
    meta = json.loads((directory / META).read_text()) | {"completed": False}
    (directory / META).write_text(json.dumps(meta))
    video = (directory / VIDEO).read_bytes()
    (directory / VIDEO).write_bytes(video[: len(video) * 3 // 4])
    return directory


@pytest.fixture
def cut(whole: Path, tmp_path: Path) -> Path:
    return cut_off(whole, tmp_path)


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def test_a_whole_recording_replays_every_frame(whole: Path) -> None:
    summary = replay(whole, headless=True)
    assert summary["completed"] and summary["note"] == ""
    assert summary["frames"] == summary["video_frames_shown"] == 70
    assert summary["seconds"] == round(80 / 60, 3)


def test_pictures_stand_at_their_game_time(whole: Path) -> None:
    recording = load(whole)
    with VideoReader(recording) as video:
        shades = {pts: int(image.to_ndarray(format="rgb24").mean()) for pts, image in video.frames(0)}
    assert list(shades) == [record.pts for record in recording.frames]
    for record in recording.frames:
        assert abs(shades[record.pts] - 2 * record.index) <= 4
    assert [record.pts for record in recording.frames if record.epoch == 1] == list(range(60, 80))


def test_seeking_lands_on_the_frame_asked_for(whole: Path) -> None:
    with VideoReader(load(whole)) as video:
        for wanted in (70, 5, 45, 0):
            pts = [p for p, _ in video.frames(wanted)]
            assert pts[0] <= wanted and wanted in pts


def test_lines_hold_what_was_shown(whole: Path) -> None:
    record = load(whole).frames[5]
    assert (record.index, record.kind, record.ahead, record.stride, record.applied_seq) == (
        5,
        "filled",
        1,
        4,
        1,
    )
    assert record.input_ms is not None and record.input_ms <= record.received_ms <= record.presented_ms
    assert not record.dropped_from_video


def test_meta_holds_versions_buttons_and_counts(whole: Path) -> None:
    meta = json.loads((whole / META).read_text())
    assert meta["schema"] == 2 and meta["completed"] and meta["seed"] == 3
    assert meta["buttons"]["LEFT"] == 1 and meta["telemetry"][0] == "speed"
    assert meta["counts"]["frames"] == 70 and meta["welcome"]["backend"] == "fake"
    assert "av" in meta["versions"]


@pytest.mark.parametrize("name", [FRAMES, VIDEO])
def test_an_altered_file_is_named(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name} was altered"):
        replay(copy, headless=True)


@pytest.mark.parametrize("name", [FRAMES, VIDEO, STEPS, META])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(UserError, match=name):
        replay(copy, headless=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 1}, "schema 1"),
        ({"game": "chess"}, "chess"),
        ({"telemetry": ["x"]}, "telemetry"),
        ({"seed": "three"}, "damaged"),
    ],
)
def test_a_strange_meta_is_explained(copy: Path, change: dict, message: str) -> None:
    meta = json.loads((copy / META).read_text()) | change
    (copy / META).write_text(json.dumps(meta))
    with pytest.raises(UserError, match=message):
        replay(copy, headless=True)


def test_a_truncated_recording_replays_as_far_as_it_goes(copy: Path) -> None:
    meta = json.loads((copy / META).read_text()) | {"completed": False}
    (copy / META).write_text(json.dumps(meta))
    for name in (FRAMES, VIDEO):
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[: len(data) * 3 // 4])
    summary = replay(copy, headless=True)
    assert "cut short" in summary["note"]
    assert 20 < summary["video_frames_shown"] < 70 and 20 < summary["frames"] < 70


def test_what_a_cut_recording_has_is_counted_in_its_video(cut: Path) -> None:
    summary = replay(cut, headless=True)
    assert 20 < summary["video_frames_shown"] == summary["video_frames_recorded"] < summary["frames"] == 70
    assert summary["dropped_from_video"] == 0


def test_a_recording_cut_before_its_first_fragment_shows_nothing(tmp_path: Path) -> None:
    r = recorder(tmp_path / "r")
    r.add(picture(0), time.perf_counter())
    wait_until_written(r)
    early = Path(shutil.copytree(tmp_path / "r", tmp_path / "early"))
    r.close()
    assert replay(early, headless=True)["video_frames_shown"] == 0
    assert replay(tmp_path / "r", headless=True)["video_frames_shown"] == 1


@pytest.mark.parametrize("name", [FRAMES, VIDEO, STEPS, META])
def test_a_file_that_cannot_be_read_is_named(name: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def locked(path: Path, *arguments: object, **more: object) -> object:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(UserError, match=f"cannot read .*{name}: Permission denied"):
        load(copy)


def test_a_video_that_is_none_is_explained(copy: Path) -> None:
    meta = json.loads((copy / META).read_text()) | {"completed": False}
    (copy / META).write_text(json.dumps(meta))
    (copy / VIDEO).write_bytes(b"")
    with pytest.raises(UserError, match="no video that can be read"):
        replay(copy, headless=True)


def test_a_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="not empty") as caught:
        require_empty(tmp_path)
    assert caught.value.exit_code == 2
    with pytest.raises(UserError, match=r"mine\.txt"):
        require_empty(tmp_path / "mine.txt")


def test_an_encoder_that_is_behind_drops_pictures_and_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = client.recorder._Video.add
    monkeypatch.setattr(client.recorder._Video, "add", lambda *a: (time.sleep(0.03), add(*a)))
    r = recorder(tmp_path / "slow")
    for i in range(40):
        r.add(picture(i), time.perf_counter())
    r.close()
    summary = r.summary()
    assert summary["completed"] and summary["frames"] == 40
    assert summary["dropped_from_video"] >= 20
    assert summary["video_frames"] == 40 - summary["dropped_from_video"]
    replayed = replay(tmp_path / "slow", headless=True)
    assert replayed["frames"] == 40 and replayed["dropped_from_video"] == summary["dropped_from_video"]


def test_a_full_disk_ends_the_recording_not_the_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    r = recorder(tmp_path / "full")
    monkeypatch.setattr(client.recorder._Video, "add", full)
    for i in range(100):
        r.add(picture(i), time.perf_counter())
    r.close()
    summary = r.summary()
    assert not summary["completed"] and "No space left" in summary["failure"]
    assert not json.loads((tmp_path / "full" / META).read_text())["completed"]


def test_any_failure_of_the_thread_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*_: object) -> None:
        raise ValueError("not this shape")

    r = recorder(tmp_path / "r")
    monkeypatch.setattr(client.recorder._Video, "add", mistaken)
    for i in range(20):
        r.add(picture(i), time.perf_counter())
    r.close()
    assert not r.summary()["completed"]
    assert r.summary()["failure"] == "recording stopped: ValueError('not this shape')"
    assert not json.loads((tmp_path / "r" / META).read_text())["completed"]


@pytest.mark.parametrize("frames", [3, 50])
def test_a_hung_disk_does_not_hang_the_end(
    frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room in the queue for the end, and without."""
    back = threading.Event()
    monkeypatch.setattr(client.recorder, "_LINES_WAITING", 8)
    monkeypatch.setattr(client.recorder, "_CLOSE_S", 0.2)
    monkeypatch.setattr(client.recorder._Video, "add", lambda *_: back.wait(60))
    r = recorder(tmp_path / "hung")
    for i in range(frames):
        r.add(picture(i), time.perf_counter())
    closing = threading.Thread(target=r.close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
    back.set()
    r._queue.put(None)
    assert not r.summary()["completed"] and f"of its {frames} frames are lost" in r.summary()["failure"]


@pytest.mark.parametrize("step", [3, 7])
def test_a_kill_loses_at_most_a_second_of_game_time(step: int, tmp_path: Path) -> None:
    """However few pictures are shown: every 3 frames, or every 7, which hardly ever come to a multiple."""
    r, lost = recorder(tmp_path / "r"), 0
    for index in range(0, 150, step):
        r.add(picture(index), time.perf_counter())
        wait_until_written(r)
        recording = load(tmp_path / "r")
        with VideoReader(recording) as video:
            in_video = max(video.pts(), default=-1)
        in_lines = recording.frames[-1].pts if recording.frames else -1
        lost = max(lost, index - in_video, index - in_lines)
    r.close()
    assert lost <= 30 + step and r.summary()["completed"]


def test_a_failed_recording_ends_the_play_with_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def watched(view: View, *arguments: object, **state: object) -> None:
        told.append((state["recording"], state["recording_failed"]))
        draw(view, *arguments, **state)  # type: ignore[arg-type]
        if told[-3:] == [(False, True)] * 3:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    told: list[tuple[object, object]] = []
    draw = View.draw
    monkeypatch.setattr(View, "draw", watched)
    monkeypatch.setattr(client.recorder._Video, "add", full)
    with FakeEngine() as engine:
        outcome = play(
            PlayOptions("racing", engine=engine.address, headless=True, seconds=60, record=tmp_path / "r")
        )
    assert outcome.exit_code == 1 and outcome.error is None and outcome.result is not None
    assert not outcome.result["recording"]["completed"]
    (line,) = outcome.unsaved
    assert "No space left on device" in line and str(tmp_path / "r") in line
    assert told[0] == (True, False) and told[-1] == (False, True)


def test_play_records_what_it_shows(tmp_path: Path) -> None:
    with FakeEngine() as engine:
        options = PlayOptions(
            "racing",
            engine=engine.address,
            headless=True,
            autopilot=True,
            seconds=0.5,
            record=tmp_path / "r",
        )
        outcome = play(options)
    assert outcome.result is not None and outcome.result["recording"]["completed"]
    assert outcome.exit_code == 0 and outcome.unsaved == ()
    assert replay(tmp_path / "r", headless=True)["frames"] == outcome.result["frames"]


def test_a_killed_play_leaves_a_recording_that_replays(tmp_path: Path) -> None:
    with FakeEngine() as engine:
        command = [
            "play",
            "racing",
            "--engine",
            engine.address,
            "--headless",
            "--record",
            str(tmp_path / "r"),
        ]
        process = subprocess.Popen([sys.executable, "-m", "client.cli", *command], cwd=ROOT)
        while engine.sent_frames < 150:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    summary = replay(tmp_path / "r", headless=True)
    assert not summary["completed"] and "cut short" in summary["note"]
    assert summary["video_frames_shown"] >= 30
