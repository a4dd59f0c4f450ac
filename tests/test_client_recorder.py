"""Recordings: whole ones verify, killed ones replay as far as they got, damaged ones are named."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import client.recorder
from client.app import play
from client.connection import Picture
from client.errors import UserError
from client.options import PlayOptions
from client.recorder import Recorder, require_empty
from client.recording import FRAMES, META, STEPS, VIDEO, load
from client.replay import VideoReader, replay
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
