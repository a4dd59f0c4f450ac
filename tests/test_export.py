"""Exports are whole or not there, and hold what the recording's video holds."""

import contextlib
import json
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from client.errors import UserError
from client.export import export
from client.recorder import Recorder
from client.recording import FRAMES, load
from client.replay import VideoReader
from engine.protocol import Beginning
from tests.test_client_recorder import cut_off, picture, recorder, wait_until_written

FORMS = ("mp4", "gif", "parquet")


def record(directory: Path, indices: dict[int, range], log: tuple[Beginning, ...] = ()) -> Recorder:
    """Every epoch's pictures."""
    r = recorder(directory)
    for entry in log:
        r.log(entry)
    for epoch, span in indices.items():
        for index in span:
            wait_until_written(r)
            r.add(picture(index, epoch), time.perf_counter())
    return r


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("recordings") / "r"
    record(directory, {0: range(40), 1: range(40)}).close()
    return directory


@pytest.fixture
def cut(whole: Path, tmp_path: Path) -> Path:
    return cut_off(whole, tmp_path)


def table(path: Path) -> list[dict]:
    rows: list[dict] = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    return rows


def decoded(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def test_a_cut_recording_has_a_row_for_each_picture_of_its_video(cut: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    rows_of = lambda name: table(out / name / "chunk-000/file-000.parquet")  # noqa: E731
    wrote = export(cut, "parquet", out)
    with VideoReader(load(cut)) as video:
        seen = [pts for pts, _ in video.frames(0)]
    assert 40 < len(seen) < len(load(cut).frames) == 80
    assert wrote["frames"] == len(rows_of("data")) == len(seen)
    assert decoded(out / "videos/observation.image/chunk-000/file-000.mp4") == len(seen)
    assert json.loads((out / "meta/info.json").read_text())["total_frames"] == len(seen)
    assert [episode["length"] for episode in rows_of("meta/episodes")] == [40, len(seen) - 40]
    assert export(cut, "mp4", tmp_path / "out.mp4")["frames"] == decoded(tmp_path / "out.mp4") == len(seen)


def test_pictures_whose_lines_were_lost_are_not_in_the_table_nor_its_video(cut: Path, tmp_path: Path) -> None:
    """A full disk may take the video and not the lines."""
    lines = (cut / FRAMES).read_bytes().splitlines(keepends=True)
    (cut / FRAMES).write_bytes(b"".join(lines[:27]) + lines[27][:50])
    out = tmp_path / "set"
    assert export(cut, "parquet", out)["frames"] == 27
    assert len(table(out / "data/chunk-000/file-000.parquet")) == 27
    assert decoded(out / "videos/observation.image/chunk-000/file-000.mp4") == 27


def test_episodes_name_their_own_seeds(tmp_path: Path) -> None:
    """Seed 3, started again, then N; then an engine that was started anew counts from 0."""
    seeds = ((0, 3), (1, 3), (2, 71), (0, 3), (1, 9))
    log = tuple(Beginning(epoch=epoch, seed=seed, stride=4, noise_seed=seed) for epoch, seed in seeds)
    r = record(tmp_path / "r", {0: range(5), 1: range(5), 2: range(5)}, log)
    for index in range(5):
        r.add(picture(index, epoch=0), time.perf_counter())
    r.close()
    export(tmp_path / "r", "parquet", tmp_path / "set")
    episodes = table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet")
    tasks = [row["task"] for row in table(tmp_path / "set/meta/tasks.parquet")]
    rows = table(tmp_path / "set/data/chunk-000/file-000.parquet")
    play = "play racing (dream), seed"
    assert [row["tasks"] for row in episodes] == [[f"{play} {seed}"] for seed in (3, 3, 71, 3)]
    assert tasks == [f"{play} 3", f"{play} 71"]
    assert [row["task_index"] for row in rows] == [0] * 10 + [1] * 5 + [0] * 5
    assert json.loads((tmp_path / "set/meta/info.json").read_text())["total_tasks"] == 2


def test_frames_that_begin_again_are_another_episode(tmp_path: Path) -> None:
    r = record(tmp_path / "r", {0: range(10)})
    wait_until_written(r)
    for index in range(5):
        r.add(picture(index), time.perf_counter())
    r.close()
    export(tmp_path / "r", "parquet", tmp_path / "set")
    episodes = table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet")
    assert [episode["length"] for episode in episodes] == [10, 5]


def test_a_seed_that_was_not_recorded_is_not_named(whole: Path, tmp_path: Path) -> None:
    """The simulator tells no beginnings: its first world is the one that was asked for."""
    export(whole, "parquet", tmp_path / "set")
    episodes = table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet")
    assert [row["tasks"] for row in episodes] == [["play racing (dream), seed 3"], ["play racing (dream)"]]


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """As on a disk that takes files of up to 1000 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("completed", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_a_failed_export_leaves_nothing_in_the_way(
    form: str, completed: bool, whole: Path, cut: Path, tmp_path: Path
) -> None:
    directory, out = whole if completed else cut, tmp_path / "here" / "out"
    out.parent.mkdir()
    with small_files(), pytest.raises(UserError, match=f"cannot write {out}: .*File too large"):
        export(directory, form, out)
    assert list(out.parent.iterdir()) == []
    assert export(directory, form, out)["frames"] > 15
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("form", FORMS)
def test_an_interrupted_export_leaves_nothing(
    form: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(read: Callable) -> Callable:
        def reading(video: VideoReader, *arguments: int) -> Iterator:
            for number, item in enumerate(read(video, *arguments)):
                if number == 5 and list(tmp_path.iterdir()):
                    raise KeyboardInterrupt
                yield item

        return reading

    monkeypatch.setattr(VideoReader, "packets", interrupted(VideoReader.packets))
    monkeypatch.setattr(VideoReader, "frames", interrupted(VideoReader.frames))
    with pytest.raises(KeyboardInterrupt):
        export(whole, form, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("taken", ["out", "out.part"])
def test_what_is_there_already_is_left_alone(taken: str, whole: Path, tmp_path: Path) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UserError, match=f"{taken} exists") as caught:
        export(whole, "mp4", tmp_path / "out")
    assert caught.value.exit_code == 2
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(taken, "mine")]


@pytest.mark.parametrize("form", ["mp4", "gif"])
def test_a_place_that_cannot_be_written_is_named(form: str, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "none" / "out", tmp_path / "file" / "out"):
        with pytest.raises(UserError, match=f"cannot write {place}"):
            export(whole, form, place)


def test_a_recording_without_a_picture_is_not_exported(tmp_path: Path) -> None:
    r = record(tmp_path / "r", {0: range(1)})
    wait_until_written(r)
    early = Path(shutil.copytree(tmp_path / "r", tmp_path / "early"))
    r.close()
    for form in FORMS:
        with pytest.raises(UserError, match="nothing to export"):
            export(early, form, tmp_path / "out")
