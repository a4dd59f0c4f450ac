"""A recording as tables, laid out like a LeRobot v3 data set: an episode per epoch, a row per picture.

OUT/meta/info.json                                  features, rates, where things are
OUT/meta/tasks.parquet  meta/episodes/chunk-000/file-000.parquet
OUT/data/chunk-000/file-000.parquet                 action, observation.state, timestamp, ...
OUT/videos/observation.image/chunk-000/file-000.mp4

action: float32, 1 for each button that was held; observation.state: the telemetry. Beside LeRobot's own
columns: kind (true or filled), applied_seq, latent_hash. Pictures that are not in the video have no row.
An episode's task names its seed where the recording tells it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from client.recording import FrameRecord, Recording, load_beginnings

_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_IMAGE = "observation.image"


@dataclass(frozen=True)
class _Episode:
    """An epoch's frames, at least one."""

    task: str
    frames: list[FrameRecord]


def write(recording: Recording, frames: list[FrameRecord], out: Path) -> Path:
    """Everything but the video, whose place is returned, ready to be written. frames: those in the video, at
    least one. Raises UserError for a damaged log, OSError."""
    episodes = _episodes(recording, frames)
    tasks = list(dict.fromkeys(episode.task for episode in episodes))
    _save(out / _DATA.format(chunk_index=0, file_index=0), _rows(recording, episodes, tasks))
    _save(out / _EPISODES.format(chunk_index=0, file_index=0), _episode_rows(recording, episodes))
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": tasks})
    _save(out / "meta/tasks.parquet", table)
    info = _info(recording, episodes, len(tasks))
    (out / "meta/info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    video = out / _VIDEO.format(video_key=_IMAGE, chunk_index=0, file_index=0)
    video.parent.mkdir(parents=True)
    return video


def _save(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _episodes(recording: Recording, frames: list[FrameRecord]) -> list[_Episode]:
    """In order. Epochs may begin at 0 again: where a client does not count them on from one session to the
    next."""
    groups: list[list[FrameRecord]] = []
    for frame in frames:
        last = groups[-1][-1] if groups else None
        if last is None or frame.epoch != last.epoch or frame.index < last.index:
            groups.append([])
        groups[-1].append(frame)
    seeds = _seeds(recording, [group[0].epoch for group in groups])
    play = f"play {recording.meta.game} ({recording.meta.mode})"
    tasks = [play if seed is None else f"{play}, seed {seed}" for seed in seeds]
    return [_Episode(task, group) for task, group in zip(tasks, groups)]


def _seeds(recording: Recording, epochs: list[int]) -> list[int | None]:
    """Of each epoch, in order; None where the recording does not tell, as of the simulator's later ones."""
    beginnings, at = load_beginnings(recording.directory), 0
    seeds: list[int | None] = []
    for epoch in epochs:
        later = range(at, len(beginnings))
        if (found := next((i for i in later if beginnings[i].epoch == epoch), None)) is not None:
            seeds.append(beginnings[found].seed)
            at = found + 1
        else:
            seeds.append(recording.meta.seed if epoch == 0 else None)
    return seeds


def _rows(recording: Recording, episodes: list[_Episode], tasks: list[str]) -> pa.Table:
    bits, fps = list(recording.meta.buttons.values()), recording.meta.fps
    flat = [(e, i, frame) for e, episode in enumerate(episodes) for i, frame in enumerate(episode.frames)]
    begins = [episode.frames[0].pts for episode in episodes]
    numbers = [tasks.index(episode.task) for episode in episodes]
    held = [[float(bool(frame.buttons & bit)) for bit in bits] for _, _, frame in flat]
    state = [frame.telemetry for _, _, frame in flat]
    n_state = len(recording.meta.telemetry)
    return pa.table(
        {
            "action": pa.array(held, pa.list_(pa.float32(), len(bits))),
            "observation.state": pa.array(state, pa.list_(pa.float32(), n_state)),
            "timestamp": pa.array([(f.pts - begins[e]) / fps for e, _, f in flat], pa.float32()),
            "frame_index": pa.array([i for _, i, _ in flat], pa.int64()),
            "episode_index": pa.array([e for e, _, _ in flat], pa.int64()),
            "index": pa.array(range(len(flat)), pa.int64()),
            "task_index": pa.array([numbers[e] for e, _, _ in flat], pa.int64()),
            "kind": [frame.kind for _, _, frame in flat],
            "applied_seq": pa.array([frame.applied_seq for _, _, frame in flat], pa.int64()),
            "latent_hash": [frame.latent_hash for _, _, frame in flat],
        }
    )


def _episode_rows(recording: Recording, episodes: list[_Episode]) -> pa.Table:
    fps, rows, begun = recording.meta.fps, [], 0
    for number, episode in enumerate(episodes):
        frames = episode.frames
        rows.append(
            {
                "episode_index": number,
                "tasks": [episode.task],
                "length": len(frames),
                "data/chunk_index": 0,
                "data/file_index": 0,
                "dataset_from_index": begun,
                "dataset_to_index": begun + len(frames),
                f"videos/{_IMAGE}/chunk_index": 0,
                f"videos/{_IMAGE}/file_index": 0,
                f"videos/{_IMAGE}/from_timestamp": frames[0].pts / fps,
                f"videos/{_IMAGE}/to_timestamp": (frames[-1].pts + 1) / fps,
            }
        )
        begun += len(frames)
    return pa.Table.from_pylist(rows)


def _info(recording: Recording, episodes: list[_Episode], tasks: int) -> dict[str, Any]:
    meta = recording.meta

    def feature(dtype: str, shape: list[int], names: list[str] | None = None) -> dict[str, Any]:
        return {"dtype": dtype, "shape": shape, "names": names}

    numbers = ("frame_index", "episode_index", "index", "task_index", "applied_seq")
    return {
        "codebase_version": "v3.0",
        "robot_type": f"dreamcade-{meta.game}",
        "total_episodes": len(episodes),
        "total_frames": sum(len(episode.frames) for episode in episodes),
        "total_tasks": tasks,
        "chunks_size": 1000,
        "fps": meta.fps,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": _DATA,
        "video_path": _VIDEO,
        "features": {
            "action": feature("float32", [len(meta.buttons)], list(meta.buttons)),
            "observation.state": feature("float32", [len(meta.telemetry)], list(meta.telemetry)),
            _IMAGE: feature("video", [meta.height, meta.width, 3], ["height", "width", "channels"])
            | {"info": {"video.fps": meta.fps, "video.codec": "h264", "video.pix_fmt": "yuv420p"}},
            "timestamp": feature("float32", [1]),
            **{name: feature("int64", [1]) for name in numbers},
            "kind": feature("string", [1]),
            "latent_hash": feature("string", [1]),
        },
    }
