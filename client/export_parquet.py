"""A recording as tables, laid out like a LeRobot v3 data set: an episode per epoch, a row per picture.

OUT/meta/info.json                                  features, rates, where things are
OUT/meta/tasks.parquet  meta/episodes/chunk-000/file-000.parquet
OUT/data/chunk-000/file-000.parquet                 action, observation.state, timestamp, ...
OUT/videos/observation.image/chunk-000/file-000.mp4

action: float32, 1 for each button that was held; observation.state: the telemetry. Beside LeRobot's own
columns: kind (true or filled), applied_seq, latent_hash. Pictures that were not recorded have no row.
"""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from client.recording import FrameRecord, Recording

_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_IMAGE = "observation.image"


def write(recording: Recording, out: Path) -> Path:
    """Everything but the video, whose place is returned, ready to be written."""
    frames = [frame for frame in recording.frames if not frame.dropped_from_video]
    episodes = [list(group) for _, group in groupby(frames, key=lambda frame: frame.epoch)]
    _save(out / _DATA.format(chunk_index=0, file_index=0), _rows(recording, episodes))
    _save(out / _EPISODES.format(chunk_index=0, file_index=0), _episodes(recording, episodes))
    task = pa.table({"task_index": pa.array([0], pa.int64()), "task": [_task(recording)]})
    _save(out / "meta/tasks.parquet", task)
    info = _info(recording, len(frames), len(episodes))
    (out / "meta/info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    video = out / _VIDEO.format(video_key=_IMAGE, chunk_index=0, file_index=0)
    video.parent.mkdir(parents=True)
    return video


def _save(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _task(recording: Recording) -> str:
    meta = recording.meta
    return f"play {meta.game} ({meta.mode}), seed {meta.seed}"


def _rows(recording: Recording, episodes: list[list[FrameRecord]]) -> pa.Table:
    bits, fps = list(recording.meta.buttons.values()), recording.meta.fps
    flat = [(e, i, frame) for e, episode in enumerate(episodes) for i, frame in enumerate(episode)]
    held = [[float(bool(frame.buttons & bit)) for bit in bits] for _, _, frame in flat]
    state = [frame.telemetry for _, _, frame in flat]
    n_state = len(recording.meta.telemetry)
    return pa.table(
        {
            "action": pa.array(held, pa.list_(pa.float32(), len(bits))),
            "observation.state": pa.array(state, pa.list_(pa.float32(), n_state)),
            "timestamp": pa.array([(f.pts - episodes[e][0].pts) / fps for e, _, f in flat], pa.float32()),
            "frame_index": pa.array([i for _, i, _ in flat], pa.int64()),
            "episode_index": pa.array([e for e, _, _ in flat], pa.int64()),
            "index": pa.array(range(len(flat)), pa.int64()),
            "task_index": pa.array([0] * len(flat), pa.int64()),
            "kind": [frame.kind for _, _, frame in flat],
            "applied_seq": pa.array([frame.applied_seq for _, _, frame in flat], pa.int64()),
            "latent_hash": [frame.latent_hash for _, _, frame in flat],
        }
    )


def _episodes(recording: Recording, episodes: list[list[FrameRecord]]) -> pa.Table:
    fps, rows, begun = recording.meta.fps, [], 0
    for number, episode in enumerate(episodes):
        rows.append(
            {
                "episode_index": number,
                "tasks": [_task(recording)],
                "length": len(episode),
                "data/chunk_index": 0,
                "data/file_index": 0,
                "dataset_from_index": begun,
                "dataset_to_index": begun + len(episode),
                f"videos/{_IMAGE}/chunk_index": 0,
                f"videos/{_IMAGE}/file_index": 0,
                f"videos/{_IMAGE}/from_timestamp": episode[0].pts / fps,
                f"videos/{_IMAGE}/to_timestamp": (episode[-1].pts + 1) / fps,
            }
        )
        begun += len(episode)
    return pa.Table.from_pylist(rows)


def _info(recording: Recording, frames: int, episodes: int) -> dict[str, Any]:
    meta = recording.meta

    def feature(dtype: str, shape: list[int], names: list[str] | None = None) -> dict[str, Any]:
        return {"dtype": dtype, "shape": shape, "names": names}

    numbers = ("frame_index", "episode_index", "index", "task_index", "applied_seq")
    return {
        "codebase_version": "v3.0",
        "robot_type": f"dreamcade-{meta.game}",
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": 1,
        "chunks_size": 1000,
        "fps": meta.fps,
        "splits": {"train": f"0:{episodes}"},
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
