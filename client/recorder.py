"""Records a play to a directory while it goes on, in a thread of its own. Play never waits for it.

Way of one frame: flip -> Recorder.add (no waiting: when the encoder is behind, the picture is left out and
counted)
-> thread: x264 into a fragmented MP4, one line of JSON. See recording.py for the files.
"""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import msgspec
import numpy as np
from av.video.frame import PictureType

from client.connection import Picture
from client.errors import UserError
from client.recording import FRAMES, STEPS, VIDEO, Counts, FrameRecord, meta_of, sha256, write_meta
from engine.protocol import Beginning, TrueStep, Welcome
from games.spec import GameSpec

_PICTURES_WAITING = 8
_LINES_WAITING = 4096
_CLOSE_S = 30.0  # what is waiting is on the disk well within it, or the disk hangs
_REMEMBERED_INPUTS = 512
_X264 = {"preset": "veryfast", "crf": "20", "tune": "zerolatency", "threads": "1"}
_SAVE_EVERY = 30  # pts: a fragment ends at a keyframe, lines are flushed; this is what a kill can lose
_CONTAINER = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}

_Item = tuple[FrameRecord, Picture | None] | Beginning | TrueStep


def require_empty(directory: Path) -> None:
    """Raises UserError unless `directory` is empty or does not exist and can be made."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise UserError(f"--record {directory}: the directory is not empty; name a new one", 2)
    except OSError as error:
        raise UserError(f"--record {directory}: {error.strerror or error}", 2) from None


class Recorder:
    """Writes one recording. `failure` says what stopped it, if something did; play goes on."""

    def __init__(self, directory: Path, spec: GameSpec, mode: str, seed: int, welcome: Welcome) -> None:
        """directory: empty or new. Raises UserError if the files cannot be made."""
        require_empty(directory)
        self.failure: str | None = None
        self.directory = directory
        self._meta = meta_of(spec, mode, seed, welcome)
        self._start_s = time.perf_counter()
        self._pts_offset, self._epoch, self._last_pts = 0, -1, -1
        self._input_s: dict[int, float] = {}
        self._frames = self._dropped = self._lost_lines = self._encoded = self._step_lines = 0
        self._frame_lines = self._flushed_lines = self._flushed_pts = 0
        self._queue: queue.Queue[_Item | None] = queue.Queue(_LINES_WAITING)
        self._places = threading.Semaphore(_PICTURES_WAITING)
        try:
            write_meta(directory, self._meta)
            self._lines = (directory / FRAMES).open("wb")
            self._steps = (directory / STEPS).open("wb")
            self._video = _Video(directory / VIDEO, welcome.width, welcome.height, welcome.fps)
        except (OSError, av.error.FFmpegError) as error:
            raise UserError(f"cannot record to {directory}: {error}") from None
        self._closed = self._completed = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def input_sent(self, seq: int, time_s: float) -> None:
        """Buttons `seq` stand for a key at `time_s`."""
        self._input_s[seq] = time_s
        self._input_s.pop(seq - _REMEMBERED_INPUTS, None)

    def add(self, picture: Picture, presented_s: float) -> None:
        """Record a frame that was just shown. Returns at once."""
        has_place = self.failure is None and self._places.acquire(blocking=False)
        self._frames += 1
        self._dropped += not has_place
        record = self._record(picture, presented_s, dropped=not has_place)
        try:
            self._queue.put_nowait((record, picture if has_place else None))
        except queue.Full:
            self._lost_lines += 1
            if has_place:
                self._places.release()

    def log(self, entry: Beginning | TrueStep) -> None:
        """Record what the dream was made from. Returns at once."""
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            self._lost_lines += 1

    def close(self) -> None:
        """Write what is waiting, then mark the recording as complete; gives up where the disk hangs. May be
        called twice."""
        if self._closed:
            return
        self._closed = True
        until_s = time.monotonic() + _CLOSE_S
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=_CLOSE_S)
        self._thread.join(max(0.0, until_s - time.monotonic()))
        if self._thread.is_alive():
            self._give_up()
        elif self.failure is None:
            self._attempt(self._complete)

    def summary(self) -> dict[str, Any]:
        """For the JSON of play."""
        outcome = {"completed": self._completed, "failure": self.failure}
        return {"directory": str(self.directory), **outcome, **msgspec.structs.asdict(self._counts())}

    # -- inside -----------------------------------------------------------------------------------------

    def _counts(self) -> Counts:
        return Counts(
            frames=self._frames,
            video_frames=self._encoded,
            dropped_from_video=self._dropped,
            lost_lines=self._lost_lines,
            steps=self._step_lines,
        )

    def _record(self, picture: Picture, presented_s: float, dropped: bool) -> FrameRecord:
        frame = picture.frame
        if frame.epoch != self._epoch:  # indices begin anew, the video's time goes on
            self._epoch, self._pts_offset = frame.epoch, self._last_pts + 1 - frame.index
        self._last_pts = max(self._last_pts + 1, self._pts_offset + frame.index)
        input_s = self._input_s.get(frame.applied_seq)
        return FrameRecord(
            pts=self._last_pts,
            epoch=frame.epoch,
            index=frame.index,
            kind=frame.kind,
            ahead=frame.ahead,
            step=frame.step,
            stride=frame.stride,
            lag=frame.lag,
            buttons=frame.buttons,
            applied_seq=frame.applied_seq,
            input_ms=None if input_s is None else self._ms(input_s),
            received_ms=self._ms(picture.received_s),
            presented_ms=self._ms(presented_s),
            latent_hash=frame.latent_hash,
            telemetry=[round(value, 5) for value in frame.telemetry],
            dropped_from_video=dropped,
        )

    def _ms(self, time_s: float) -> float:
        return round((time_s - self._start_s) * 1000.0, 3)

    def _run(self) -> None:
        """The thread. After a failure it goes on emptying the queue, so that nothing fills up."""
        while (item := self._queue.get()) is not None:
            if self.failure is None:
                self._attempt(self._write, item)
            if isinstance(item, tuple) and item[1] is not None:
                self._places.release()
        self._attempt(self._close_files)

    def _write(self, item: _Item) -> None:
        if isinstance(item, Beginning | TrueStep):
            self._steps.write(msgspec.json.encode(item) + b"\n")
            self._step_lines += isinstance(item, TrueStep)
            return
        record, picture = item
        keyframe = False
        if picture is not None:
            keyframe = self._video.add(picture, record.pts)
            self._encoded += 1
        self._lines.write(msgspec.json.encode(record) + b"\n")
        self._frame_lines += 1
        if keyframe or record.pts - self._flushed_pts >= _SAVE_EVERY:
            self._flush(record.pts)

    def _flush(self, pts: int) -> None:
        self._lines.flush()
        self._steps.flush()
        self._flushed_lines, self._flushed_pts = self._frame_lines, pts

    def _attempt(self, work: Callable[..., None], *arguments: Any) -> None:
        """Whatever goes wrong in it ends the recording and is told; the first failure is the reason."""
        try:
            work(*arguments)
        except Exception as error:
            self.failure = self.failure or f"recording stopped: {_reason(error)}"

    def _give_up(self) -> None:
        lost = self._frames - self._flushed_lines
        stuck = f"the disk did not take the recording within {_CLOSE_S:.0f} s"
        self.failure = self.failure or f"{stuck}: up to {lost} of its {self._frames} frames are lost"

    def _close_files(self) -> None:
        """To the disk, as far as it goes."""
        with self._lines, self._steps:
            try:
                self._video.close()
            finally:
                for file in (self._lines, self._steps):
                    file.flush()
                    os.fsync(file.fileno())
        _sync(self.directory / VIDEO)

    def _complete(self) -> None:
        done = msgspec.structs.replace(
            self._meta,
            completed=True,
            counts=self._counts(),
            video_sha256=sha256(self.directory / VIDEO),
            frames_sha256=sha256(self.directory / FRAMES),
            steps_sha256=sha256(self.directory / STEPS),
        )
        write_meta(self.directory, done)
        self._completed = True


def _reason(error: Exception) -> str:
    """The system's own words where it was the disk; where it was a mistake in here, its name as well."""
    if isinstance(error, OSError | av.error.FFmpegError):
        return str(error.strerror or error)
    return repr(error)


class _Video:
    """x264 in a fragmented MP4: readable up to its last whole fragment whenever the process dies."""

    def __init__(self, path: Path, width: int, height: int, fps: int) -> None:
        self._size = (width, height)
        self._container = av.open(str(path), "w", format="mp4", options=_CONTAINER)
        self._stream = self._container.add_stream("libx264", rate=fps, options=_X264)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, fps)
        self._stream.codec_context.gop_size = _SAVE_EVERY
        self._keyframe_pts = 0

    def add(self, picture: Picture, pts: int) -> bool:
        """Encode a picture at `pts` frames. Returns whether a fragment began with it, so that the one before
        is on its way to the disk."""
        shape = (picture.frame.height, picture.frame.width, 3)
        frame = av.VideoFrame.from_ndarray(
            np.frombuffer(picture.pixels, np.uint8).reshape(shape), format="rgb24"
        )
        frame.pts, frame.time_base = pts, self._stream.codec_context.time_base
        # The encoder counts pictures, of which there may be few: what a kill can lose is game time.
        if pts - self._keyframe_pts >= _SAVE_EVERY:
            frame.pict_type = PictureType.I
        packets = self._stream.encode(frame)
        self._container.mux(packets)
        keyframe = any(packet.is_keyframe for packet in packets)
        if keyframe:
            self._keyframe_pts = pts
        return keyframe

    def close(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
