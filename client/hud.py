"""The measurements, on one line across the top: what is shown, how much of it is true, how late it is."""

import pygame

from client.report import Live
from client.theme import DIM, FILLED, GRID, INK, TRUE, WARN, Colour, Typeface, mark, panel
from engine.protocol import Frame

HEIGHT = 40
_REFRESH_S = 0.25
_LABEL, _VALUE = 12, 15


class Hud:
    """Draws the panel; its numbers change four times a second so that they can be read."""

    def __init__(self, typeface: Typeface, backend: str) -> None:
        self._type = typeface
        self._backend = backend.removeprefix("openvino-").replace("-", " ")  # the cell is narrow
        self._live: Live | None = None
        self._refreshed_s = float("-inf")

    def draw(
        self,
        canvas: pygame.Surface,
        live: Live,
        frame: Frame,
        now_s: float,
        recording: bool = False,
        recording_failed: bool = False,
    ) -> None:
        """live: the measurements now; frame: the newest shown."""
        if now_s - self._refreshed_s >= _REFRESH_S or self._live is None:
            self._live, self._refreshed_s = live, now_s
        live = self._live
        width = canvas.get_width() - 2 * GRID
        canvas.blit(panel(width, HEIGHT), (GRID, GRID))
        key_ms = "–" if live.input_to_present_ms is None else f"{live.input_to_present_ms:.0f}"
        x = 3 * GRID
        x = self._cell(canvas, x, 80, "shown", f"{live.shown_fps:.1f}", "fps")
        x = self._cell(canvas, x, 88, "true steps", f"{live.true_steps_per_s:.1f}", "/s")
        x = self._cell(canvas, x, 56, "stride", str(frame.stride))
        x = self._cell(canvas, x, 48, "lag", str(frame.lag))
        x = self._shares(canvas, x, 192, live.filled_fraction)
        x = self._cell(canvas, x, 104, "key to picture", key_ms, "ms")
        label = "not recording" if recording_failed else "recording" if recording else "engine"
        colour = WARN if recording_failed else DIM
        self._cell(canvas, x, width + GRID - x, label, self._backend, colour=colour)

    def _cell(
        self,
        canvas: pygame.Surface,
        x: int,
        width: int,
        label: str,
        value: str,
        unit: str = "",
        colour: Colour = DIM,
    ) -> int:
        """A label, of this colour, over a value; returns the next cell's x."""
        canvas.blit(self._type.text(label, _LABEL, colour), (x, 10))
        number = self._type.number(value, _VALUE, INK) if unit else self._type.text(value, _VALUE, INK)
        canvas.blit(number, (x, 25))
        if unit:
            canvas.blit(self._type.text(unit, _LABEL, DIM), (x + number.get_width() + 3, 29))
        return x + width

    def _shares(self, canvas: pygame.Surface, x: int, width: int, filled: float) -> int:
        """True and filled as shares. The marks stand still: a mark per frame would flicker."""
        bar = width - 3 * GRID
        percent = round(filled * 100)
        self._share(canvas, x, "true", TRUE, f"true {100 - percent} %")
        text = self._type.number(f"filled {percent} %", _LABEL, FILLED)
        left = x + bar - text.get_width()
        canvas.blit(mark("filled", 10), (left - 13, 14))
        canvas.blit(text, (left, 10))
        split = round((bar - 2) * (1 - filled))
        pygame.draw.rect(canvas, TRUE, (x, 31, max(split, 1), 6), border_radius=2)
        if split < bar - 4:
            pygame.draw.rect(
                canvas, FILLED, (x + split + 2, 31, bar - split - 2, 6), width=1, border_radius=2
            )
        return x + width

    def _share(self, canvas: pygame.Surface, x: int, kind: str, colour: Colour, text: str) -> None:
        canvas.blit(mark(kind, 10), (x, 14))
        canvas.blit(self._type.number(text, _LABEL, colour), (x + 13, 10))


def draw_frame_kind(canvas: pygame.Surface, typeface: Typeface, frame_kind: str, text: str) -> None:
    """The mark of one standing frame (paused, stepping, replay), bottom centre."""
    colour = TRUE if frame_kind == "true" else FILLED
    label = typeface.number(text, 13, colour)
    width = label.get_width() + 48
    x, y = (canvas.get_width() - width) // 2, canvas.get_height() - 40
    canvas.blit(panel(width, 32), (x, y))
    canvas.blit(mark(frame_kind, 14), (x + 12, y + 9))
    canvas.blit(label, (x + 34, y + (32 - label.get_height()) // 2))
