"""Where the time goes: how far apart the last frames were shown, and what the engine did for them. On G."""

import statistics
from collections import deque
from dataclasses import dataclass

import pygame

from client.hud import HEIGHT
from client.theme import DIM, FAINT, FILLED, GRID, INK, TRUE, Typeface, panel
from engine.protocol import Frame, StageTimes

_KEPT = 120  # frames, two seconds
_BAR_PX, _GRAPH_H = 2, 36
_MOST_MS = 50.0  # the graph's height
_FRAME_MS = 1000 / 60
_TOP = HEIGHT + 2 * GRID  # below the HUD's line
_PAD, _TEXT = 12, 12


@dataclass(frozen=True)
class _Beat:
    """A shown frame: milliseconds since the one before it, and what it says of itself."""

    since_ms: float
    kind: str
    times: StageTimes


class Pulse:
    """Keeps the last two seconds of shown frames; draws them as a graph with the engine's times below."""

    def __init__(self, typeface: Typeface) -> None:
        self._type = typeface
        self._beats: deque[_Beat] = deque(maxlen=_KEPT)
        self._newest: tuple[int, int] | None = None
        self._shown_s = 0.0

    def note(self, frame: Frame, now_s: float) -> None:
        """`frame` is shown now; one that stays on the screen counts once, and no pause counts as a wait."""
        if (frame.epoch, frame.index) == self._newest:
            return
        if self._newest is not None and frame.epoch == self._newest[0] and now_s - self._shown_s < 1.0:
            self._beats.append(_Beat((now_s - self._shown_s) * 1e3, frame.kind, frame.times))
        self._newest, self._shown_s = (frame.epoch, frame.index), now_s

    @property
    def stages(self) -> dict[str, float]:
        """Median milliseconds: of a true step and a decode, of filling in where that was done, and from a
        key's arrival at the engine to the sending of a frame that knows it. Empty before the second frame."""
        if not self._beats:
            return {}
        times = [beat.times for beat in self._beats]
        filled = [one.extrapolate_ms for one in times if one.extrapolate_ms > 0] or [0.0]
        return {
            "step": statistics.median(one.world_ms for one in times),
            "fill in": statistics.median(filled),
            "decode": statistics.median(one.decode_ms for one in times),
            "key in the engine": statistics.median(one.queue_ms for one in times),
        }

    def draw(self, canvas: pygame.Surface, dropped: int) -> None:
        """dropped: frames of this epoch that were made and not sent."""
        words = [f"{name} {ms:.1f} ms" for name, ms in self.stages.items()]
        words.append(f"{dropped} dropped")
        text = self._type.number("  ·  ".join(words), _TEXT, INK)
        width = max(_KEPT * _BAR_PX, text.get_width()) + 2 * _PAD
        height = _GRAPH_H + text.get_height() + 3 * GRID
        canvas.blit(panel(width, height), (GRID, _TOP))
        self._draw_graph(canvas, GRID + _PAD, _TOP + GRID)
        label = self._type.text("ms between frames, to 50", _TEXT, DIM)
        if width - 2 * _PAD - _KEPT * _BAR_PX > label.get_width() + GRID:
            canvas.blit(label, (2 * GRID + _PAD + _KEPT * _BAR_PX, _TOP + GRID))
        canvas.blit(text, (GRID + _PAD, _TOP + _GRAPH_H + 2 * GRID))

    def _draw_graph(self, canvas: pygame.Surface, x: int, y: int) -> None:
        """Newest at the right. A true frame's bar is full, a filled one's its upper end alone."""
        bottom = y + _GRAPH_H
        for ms in (_FRAME_MS, 2 * _FRAME_MS):
            level = bottom - round(ms / _MOST_MS * _GRAPH_H)
            pygame.draw.line(canvas, FAINT, (x, level), (x + _KEPT * _BAR_PX, level))
        left = x + (_KEPT - len(self._beats)) * _BAR_PX
        for number, beat in enumerate(self._beats):
            tall = max(2, round(min(beat.since_ms, _MOST_MS) / _MOST_MS * _GRAPH_H))
            colour, size = (TRUE, tall) if beat.kind == "true" else (FILLED, 2)
            at = (left + number * _BAR_PX, bottom - tall)
            pygame.draw.rect(canvas, colour, (at, (_BAR_PX, size)))
