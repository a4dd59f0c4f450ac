"""A recording is dreamed again: the same to the last bit, or the first difference is named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import msgspec
import pytest

from client.app import play
from client.errors import UserError
from client.export import export
from client.options import PlayOptions
from client.recording import META, STEPS, load, sha256
from engine import machine
from engine.errors import EngineError
from engine.protocol import TrueStep
from engine.verify import DIFFERS, as_text, read, verify
from tests.engine_harness import ROOT, engine
from tests.test_client_play import Fingers, keep_environment, press  # noqa: F401


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fake dream, the autopilot at the keys."""
    directory = tmp_path_factory.mktemp("recordings") / "r"
    with engine("--together", "yes", "--stride", "4") as running:
        options = PlayOptions(
            game="racing",
            engine=running.address,
            headless=True,
            autopilot=True,
            seed=5,
            seconds=1.5,
            record=directory,
        )
        once = play(options)
        assert once.error is None
    return directory


@pytest.fixture
def copy(recording: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recording, tmp_path / "copy"))


def rewrite(directory: Path, lines: list[bytes]) -> None:
    (directory / STEPS).write_bytes(b"".join(line + b"\n" for line in lines))
    meta = json.loads((directory / META).read_text())
    (directory / META).write_text(json.dumps(meta | {"steps_sha256": sha256(directory / STEPS)}))


def test_the_log_holds_every_step_and_every_frames_buttons(recording: Path) -> None:
    meta, entries = read(recording)
    steps = [entry for entry in entries if isinstance(entry, TrueStep)]
    assert meta.completed and meta.welcome["machine"]["cores"]
    assert [step.step for step in steps] == list(range(1, len(steps) + 1)) and len(steps) >= 15
    assert all(len(step.buttons) == 4 and step.index == 4 * step.step for step in steps)
    assert len({mask for step in steps for mask in step.buttons}) > 1
    shown = {f.index: f.latent_hash for f in load(recording).frames if f.kind == "true" and f.index}
    logged = {step.index: step.latent_hash for step in steps}
    assert shown and all(logged[index] == value for index, value in shown.items())


def test_the_same_dream_comes_again(recording: Path) -> None:
    verdict = verify(recording, fake=True)
    assert verdict.same and verdict.steps == verdict.recorded_steps >= 15
    assert verdict.differences == [] and "bit for bit" in as_text(verdict)


def test_the_first_divergence_is_named_with_its_size(copy: Path) -> None:
    lines = (copy / STEPS).read_bytes().splitlines()
    step = msgspec.json.decode(lines[7], type=TrueStep)
    altered = msgspec.structs.replace(
        step, latent_hash="0" * 16, sketch=[value + 0.5 for value in step.sketch]
    )
    rewrite(copy, [*lines[:7], msgspec.json.encode(altered), *lines[8:]])
    verdict = verify(copy, fake=True)
    assert not verdict.same and verdict.divergence is not None
    assert (verdict.steps, verdict.divergence.step, verdict.divergence.frame) == (6, 7, 28)
    assert verdict.divergence.max_difference == pytest.approx(0.5)
    assert verdict.unverified_steps == verdict.recorded_steps - 7
    done = subprocess.run(
        [sys.executable, "-m", "engine.verify", str(copy), "--json", "--fake"], cwd=ROOT, capture_output=True
    )
    assert done.returncode == DIFFERS and not json.loads(done.stdout)["same"]


def test_other_buttons_are_another_dream(copy: Path) -> None:
    lines = (copy / STEPS).read_bytes().splitlines()
    step = msgspec.json.decode(lines[3], type=TrueStep)
    altered = msgspec.structs.replace(step, buttons=[step.buttons[0] ^ 2, *step.buttons[1:]])
    rewrite(copy, [*lines[:3], msgspec.json.encode(altered), *lines[4:]])
    verdict = verify(copy, fake=True)
    assert verdict.divergence is not None and verdict.divergence.step == 3


def test_behind_a_gap_nothing_is_claimed(copy: Path) -> None:
    lines = (copy / STEPS).read_bytes().splitlines()
    rewrite(copy, lines[:5] + lines[6:])
    verdict = verify(copy, fake=True)
    assert verdict.steps == 4 and verdict.unverified_steps == len(lines) - 2 - 4
    assert not verdict.same and "the log has a gap" in as_text(verdict)
    command = [sys.executable, "-m", "engine.verify", str(copy), "--fake"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "reference"}, "of the simulator"),
        ({"game": "chess"}, "chess"),
        ({"welcome": 3}, "verified"),
        ({"welcome": {"device": "cuda"}}, "on a GPU, and there is none here"),
        ({"welcome": {"device": "cpu", "weights": "0123456789ab"}}, "0123456789ab.*--weights"),
    ],
)
def test_what_cannot_be_verified_is_explained(
    copy: Path, change: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "gpus", tuple)
    meta = json.loads((copy / META).read_text())
    (copy / META).write_text(json.dumps(meta | change))
    with pytest.raises(EngineError, match=message):
        verify(copy, fake=True)


@pytest.mark.parametrize("junk", [b"{}", b"[" * 5000, b'{"type":"TrueStep","epoch":0}'])
def test_a_damaged_log_is_explained(copy: Path, junk: bytes) -> None:
    rewrite(copy, [junk])
    with pytest.raises(EngineError, match="damaged"):
        verify(copy, fake=True)


def test_an_mp4_holds_every_picture(recording: Path, tmp_path: Path) -> None:
    wrote = export(recording, "mp4", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == wrote["frames"] == len(load(recording).frames)
    with pytest.raises(UserError, match="exists"):
        export(recording, "mp4", tmp_path / "out.mp4")


def test_a_gif_moves_at_a_third_of_the_rate(recording: Path, tmp_path: Path) -> None:
    wrote = export(recording, "gif", tmp_path / "out.gif")
    with av.open(str(tmp_path / "out.gif")) as video:
        assert (video.streams.video[0].width, video.streams.video[0].height) == (360, 240)
    thirds = {frame.pts // 3 for frame in load(recording).frames if not frame.dropped_from_video}
    assert wrote["frames"] == len(thirds) > 1


def test_parquet_holds_a_row_for_each_picture(recording: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export(recording, "parquet", tmp_path / "set")
    frames = load(recording).frames
    rows = parquet.read_table(tmp_path / "set/data/chunk-000/file-000.parquet").to_pylist()
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert info["total_frames"] == len(rows) == len(frames) and info["fps"] == 60
    assert set(rows[0]) == set(info["features"]) - {"observation.image"}
    for row, frame in zip(rows, frames, strict=True):
        assert row["kind"] == frame.kind and row["observation.state"][0] == frame.telemetry[0]
        assert [bool(value) for value in row["action"]] == [bool(frame.buttons & bit) for bit in (1, 2, 4, 8)]
    episodes = parquet.read_table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [episode["length"] for episode in episodes] == [len(frames)]
    assert (tmp_path / "set/videos/observation.image/chunk-000/file-000.mp4").is_file()


@pytest.mark.parametrize(("form", "out"), [("avi", Path("x")), ("mp4", None)])
def test_a_strange_export_is_refused(recording: Path, form: str, out: Path | None) -> None:
    with pytest.raises(UserError) as caught:
        export(recording, form, out)
    assert caught.value.exit_code == 2
