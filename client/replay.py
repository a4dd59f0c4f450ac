"""Shows a recording: its video, with what was true and what was filled, and the dashboard from its
telemetry."""

import bisect
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import av
import av.error
import pygame

from client.dashboard import dashboard_for
from client.errors import UserError
from client.hud import draw_frame_kind
from client.overlay import Overlay
from client.recording import FrameRecord, Recording, load
from client.screen import Screen
from client.theme import Typeface
from games import GAMES

_SEEK_S = 2.0
_REDRAW_S = 1 / 60
_NOTE_S = 3.0

_T = TypeVar("_T")


def replay(directory: Path, headless: bool = False) -> dict[str, Any]:
    """Show the recording in `directory` until its end or the player's; headless: decode all of it.

    Returns a summary. Raises UserError for what is not a whole or at least a truncated recording.
    """
    recording = load(directory)
    with VideoReader(recording) as video:
        shown = sum(1 for _ in video.frames(0)) if headless else Replay(recording, video).run()
        return _summary(recording, shown, len(video.pts()))


def _summary(recording: Recording, shown: int, in_video: int) -> dict[str, Any]:
    meta, frames = recording.meta, recording.frames
    filled = sum(frame.kind == "filled" for frame in frames)
    return {
        "game": meta.game,
        "seed": meta.seed,
        "mode": meta.mode,
        "completed": meta.completed,
        "frames": len(frames),
        "video_frames_shown": shown,
        "video_frames_recorded": in_video,
        "dropped_from_video": sum(frame.dropped_from_video for frame in frames),
        "seconds": round((frames[-1].pts - frames[0].pts + 1) / meta.fps, 3) if frames else 0.0,
        "filled_fraction": round(filled / len(frames), 4) if frames else 0.0,
        "note": recording.note,
    }


class VideoReader:
    """Decodes a recording's video from any place on."""

    def __init__(self, recording: Recording) -> None:
        """Raises UserError if there is nothing to decode."""
        self._path, self._fps = recording.video, recording.meta.fps
        self._truncated = not recording.meta.completed
        try:
            self._container = av.open(str(self._path))
            self.stream = self._container.streams.video[0]
        except (av.error.FFmpegError, OSError, IndexError) as error:
            raise UserError(f"{self._path} holds no video that can be read ({error})") from None
        self._time_base = self.stream.time_base

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self._container.close()

    def frames(self, from_pts: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """(pts in frames, picture) from the last one at or before `from_pts` on."""
        for frame in self._read(from_pts, self._container.decode):
            if frame.pts is not None:
                yield self._in_frames(frame.pts), frame

    def packets(self) -> Iterator[tuple[int, av.Packet]]:
        """(pts in frames, encoded picture) of every one that is whole."""
        for packet in self._read(0, self._container.demux):
            if packet.pts is not None and not packet.is_corrupt:  # a cut video ends in half a picture
                yield self._in_frames(packet.pts), packet

    def pts(self) -> set[int]:
        """Of every picture that is whole, in frames."""
        return {pts for pts, _ in self.packets()}

    def _in_frames(self, pts: int) -> int:
        assert self._time_base is not None
        return round(pts * self._time_base * self._fps)

    def _read(self, from_pts: int, source: Callable[[av.VideoStream], Iterator[_T]]) -> Iterator[_T]:
        """What `source` gives from the keyframe before `from_pts` on, as far as the video is whole."""
        assert self._time_base is not None
        try:
            self._container.seek(int(from_pts / self._fps / self._time_base), stream=self.stream)
            yield from source(self.stream)
        except av.error.PermissionError:  # FFmpeg's -1 of a seek: there is no picture at all
            return
        except av.error.FFmpegError as error:
            if not self._truncated:
                raise UserError(f"{self._path} is damaged ({error})") from None


class Replay:
    """The window's loop: space pauses, left and right seek two seconds, '.' steps, Q quits."""

    def __init__(self, recording: Recording, video: VideoReader) -> None:
        spec = GAMES[recording.meta.game]
        self._recording, self._video = recording, video
        self._screen = Screen(
            f"Dreamcade replay: {spec.title}", (recording.meta.width, recording.meta.height)
        )
        self._type = Typeface()
        self._dashboard, self._overlay = dashboard_for(spec, self._type), Overlay(self._type)
        self._pts = [frame.pts for frame in recording.frames]
        self._position = 0.0  # frames of the video
        self._paused = self._over = False
        self._source: Iterator[tuple[int, av.VideoFrame]] = iter(())
        self._next: tuple[int, av.VideoFrame] | None = None
        self._image: pygame.Surface | None = None
        self._shown = 0

    def run(self) -> int:
        """Returns how many pictures were shown."""
        try:
            self._seek(0)
            last_s = begun_s = time.perf_counter()
            while not self._over:
                now_s = time.perf_counter()
                if not self._paused:
                    self._position += (now_s - last_s) * self._recording.meta.fps
                last_s = now_s
                self._take_keys()
                self._advance()
                self._draw(now_s - begun_s)
                time.sleep(max(0.0, _REDRAW_S - (time.perf_counter() - now_s)))
        finally:
            self._screen.close()
        return self._shown

    def _seek(self, pts: float) -> None:
        """Go to `pts`; the picture there is decoded at once."""
        last = self._pts[-1] if self._pts else 0
        self._position = float(min(max(pts, 0), last))
        self._source = self._video.frames(int(self._position))
        self._next = next(self._source, None)
        self._advance()

    def _advance(self) -> None:
        """Show the newest picture that is due."""
        due = None
        while self._next is not None and self._next[0] <= self._position:
            due, self._next = self._next, next(self._source, None)
        if due is not None:
            image = due[1].to_ndarray(format="rgb24")
            self._image = pygame.image.frombuffer(image.tobytes(), (image.shape[1], image.shape[0]), "RGB")
            self._shown += 1
        self._over |= (
            self._next is None and not self._paused and self._position > (self._pts[-1:] or [0])[0] + 30
        )

    def _take_keys(self) -> None:
        jump = _SEEK_S * self._recording.meta.fps
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self._over = True
            elif event.type != pygame.KEYDOWN:
                continue
            elif event.key in (pygame.K_q, pygame.K_ESCAPE):
                self._over = True
            elif event.key in (pygame.K_SPACE, pygame.K_p):
                self._paused = not self._paused
            elif event.key in (pygame.K_LEFT, pygame.K_RIGHT):
                self._seek(self._position + (jump if event.key == pygame.K_RIGHT else -jump))
            elif event.key == pygame.K_PERIOD:
                self._paused = True
                self._position += 1
            elif event.key in (pygame.K_f, pygame.K_F11):
                self._screen.toggle_fullscreen()

    def _record(self) -> FrameRecord | None:
        """What was recorded for the frame at the position."""
        i = bisect.bisect_right(self._pts, self._position) - 1
        return self._recording.frames[i] if i >= 0 else None

    def _draw(self, played_s: float) -> None:
        canvas = self._screen.canvas
        if self._image is not None:
            canvas.blit(self._image, (0, 0))
        record = self._record()
        if record is not None:
            self._dashboard.draw(canvas, record.telemetry)
            end_s = self._pts[-1] / self._recording.meta.fps
            text = f"{record.kind}  {self._position / self._recording.meta.fps:.1f} / {end_s:.1f} s"
            draw_frame_kind(canvas, self._type, record.kind, text)
        if self._recording.note and played_s < _NOTE_S:
            self._overlay.notice(canvas, self._recording.note)
        self._screen.flip()
