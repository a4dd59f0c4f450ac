"""A recording in forms that other programs read: `dreamcade replay DIR --export FORMAT OUT`.

mp4      the video, rewritten so that any player can seek in it; no picture is encoded anew
gif      half the size, 20 pictures a second
parquet  a folder laid out like a LeRobot v3 data set (see export_parquet.py); needs pyarrow
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from client.errors import UserError
from client.recording import Recording, load
from client.replay import VideoReader

_GIF_FPS, _GIF_SCALE = 20, 2


def export(directory: Path, form: str, out: Path | None) -> dict[str, Any]:
    """Write `out`, which must not exist; what was written. Raises UserError."""
    writers: dict[str, Callable[[Recording, Path], int]] = {
        "mp4": _write_mp4,
        "gif": _write_gif,
        "parquet": _write_parquet,
    }
    if form not in writers:
        raise UserError(f"--export {form}: choose one of {', '.join(writers)}", 2)
    if out is None:
        raise UserError(f"where to? write: dreamcade replay {directory} --export {form} OUT", 2)
    if out.exists():
        raise UserError(f"{out} exists: name a new one", 2)
    recording = load(directory)
    if not recording.frames:
        raise UserError(f"{directory} holds no frame: nothing to export")
    try:
        frames = writers[form](recording, out)
    except (OSError, av.error.FFmpegError) as error:
        raise UserError(f"cannot write {out}: {getattr(error, 'strerror', None) or error}") from None
    return {"out": str(out), "format": form, "frames": frames, "note": recording.note}


def _write_mp4(recording: Recording, out: Path) -> int:
    """The packets as they are, with the index at the front."""
    written = 0
    with (
        av.open(str(recording.video)) as source,
        av.open(str(out), "w", format="mp4", options={"movflags": "faststart"}) as target,
    ):
        into = target.add_stream_from_template(source.streams.video[0])
        try:
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = into
                    target.mux(packet)
                    written += 1
        except av.error.FFmpegError:
            if recording.meta.completed:
                raise
    return written


def _write_gif(recording: Recording, out: Path) -> int:
    width, height = recording.meta.width // _GIF_SCALE, recording.meta.height // _GIF_SCALE
    written = 0
    with av.open(str(out), "w", format="gif") as target:
        stream = target.add_stream("gif", rate=_GIF_FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb8"
        stream.time_base = Fraction(1, _GIF_FPS)
        for number, frame in _every(recording, recording.meta.fps // _GIF_FPS):
            small = frame.reformat(width, height, "rgb8")
            small.pts, small.time_base = number, Fraction(1, _GIF_FPS)
            target.mux(stream.encode(small))
            written += 1
        target.mux(stream.encode(None))
    return written


def _every(recording: Recording, frames: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, picture) of each span of `frames` frames that has one."""
    last = -1
    with VideoReader(recording) as video:
        for pts, frame in video.frames(0):
            if pts // frames > last:
                last = pts // frames
                yield last, frame


def _write_parquet(recording: Recording, out: Path) -> int:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise UserError("--export parquet needs pyarrow: pip install 'dreamcade[export]'") from None
    from client.export_parquet import write

    video = write(recording, out)
    return _write_mp4(recording, video)
