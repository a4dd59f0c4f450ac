"""A recording in forms that other programs read: `dreamcade replay DIR --export FORMAT OUT`.

mp4      the video, rewritten so that any player can seek in it; no picture is encoded anew
gif      half the size, 20 pictures a second
parquet  a folder laid out like a LeRobot v3 data set (see export_parquet.py); needs pyarrow

It is written to OUT.part and renamed when it is whole.
"""

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from client.errors import UserError
from client.recording import FrameRecord, Recording, load
from client.replay import VideoReader

_GIF_FPS, _GIF_SCALE = 20, 2

_Writer = Callable[[Recording, VideoReader, Path], int]


def export(directory: Path, form: str, out: Path | None) -> dict[str, Any]:
    """Write `out`, which must not exist; what was written. Raises UserError; then nothing is left of it."""
    writers: dict[str, _Writer] = {"mp4": _write_mp4, "gif": _write_gif, "parquet": _write_parquet}
    if form not in writers:
        raise UserError(f"--export {form}: choose one of {', '.join(writers)}", 2)
    if out is None:
        raise UserError(f"where to? write: dreamcade replay {directory} --export {form} OUT", 2)
    part = _part_of(out)
    recording = load(directory)
    with VideoReader(recording) as video:
        if not _frames_of(recording, video):
            raise UserError(f"{directory} holds no frame: nothing to export")
        frames = _write(writers[form], recording, video, part, out)
    return {"out": str(out), "format": form, "frames": frames, "note": recording.note}


def _frames_of(recording: Recording, video: VideoReader) -> list[FrameRecord]:
    """Those whose pictures are in the video. Of a recording that was cut, either may reach further."""
    seen = video.pts()
    return [frame for frame in recording.frames if not frame.dropped_from_video and frame.pts in seen]


def _part_of(out: Path) -> Path:
    """Where `out` is written until it is whole. Raises UserError where one of them is there already: neither
    is ours to replace."""
    part = out.parent / f"{out.name}.part"
    try:
        if out.exists():
            raise UserError(f"{out} exists: name a new one", 2)
        if part.exists():
            raise UserError(f"{part} exists, perhaps left by a killed export: remove it or name a new OUT", 2)
    except OSError as error:
        raise _cannot_write(out, error) from None
    return part


def _cannot_write(out: Path, error: OSError | av.error.FFmpegError) -> UserError:
    return UserError(f"cannot write {out}: {error.strerror or error}")


def _write(writer: _Writer, recording: Recording, video: VideoReader, part: Path, out: Path) -> int:
    """The number of pictures. Whatever ends it, Ctrl-C too, leaves `out` whole or nothing."""
    try:
        frames = writer(recording, video, part)
        part.rename(out)
        return frames
    except (OSError, av.error.FFmpegError) as error:
        raise _cannot_write(out, error) from None
    finally:
        _remove(part)


def _remove(part: Path) -> None:
    """What is left of it, if anything; where it cannot be removed, the reason for the end says more."""
    shutil.rmtree(part, ignore_errors=True)
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)


def _write_mp4(recording: Recording, video: VideoReader, out: Path) -> int:
    return _copy(video, out)


def _copy(video: VideoReader, out: Path, last_pts: float = math.inf) -> int:
    """The packets as they are, up to the one at `last_pts` frames, with the index at the front."""
    written = 0
    with av.open(str(out), "w", format="mp4", options={"movflags": "faststart"}) as target:
        into = target.add_stream_from_template(video.stream)
        for pts, packet in video.packets():
            if pts > last_pts:
                break
            packet.stream = into
            target.mux(packet)
            written += 1
    return written


def _write_gif(recording: Recording, video: VideoReader, out: Path) -> int:
    width, height = recording.meta.width // _GIF_SCALE, recording.meta.height // _GIF_SCALE
    written = 0
    with av.open(str(out), "w", format="gif") as target:
        stream = target.add_stream("gif", rate=_GIF_FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb8"
        stream.time_base = Fraction(1, _GIF_FPS)
        for number, frame in _every(video, recording.meta.fps // _GIF_FPS):
            small = frame.reformat(width, height, "rgb8")
            small.pts, small.time_base = number, Fraction(1, _GIF_FPS)
            target.mux(stream.encode(small))
            written += 1
        target.mux(stream.encode(None))
    return written


def _every(video: VideoReader, frames: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, picture) of each span of `frames` frames that has one."""
    last = -1
    for pts, frame in video.frames(0):
        if pts // frames > last:
            last = pts // frames
            yield last, frame


def _write_parquet(recording: Recording, video: VideoReader, out: Path) -> int:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise UserError("--export parquet needs pyarrow: pip install '.[export]' in the clone") from None
    from client.export_parquet import write

    frames = _frames_of(recording, video)
    return _copy(video, write(recording, frames, out), frames[-1].pts)
