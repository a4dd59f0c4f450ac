"""Panels over the picture: pause, warnings, the last word, and short notices."""

import pygame

from client.theme import DIM, FAINT, INK, WARN, Colour, Typeface, ease_out, panel, rounded

PAUSE_KEYS = (
    ("P", "go on"),
    (".", "one step"),
    ("R", "start again"),
    ("N", "new seed"),
    ("F", "full screen"),
    ("H", "measurements"),
    ("T", "autopilot"),
    ("V", "simulator"),
    ("M", "sound"),
    ("F2", "save a picture"),
    ("Q", "quit"),
)


class Overlay:
    """Draws with a 160 ms ease-out from the moment a panel first appears."""

    def __init__(self, typeface: Typeface) -> None:
        self._type = typeface
        self._shown: str | None = None
        self._since_s = 0.0

    def pause(self, canvas: pygame.Surface, now_s: float) -> None:
        """The pause panel with all keys."""
        half = (len(PAUSE_KEYS) + 1) // 2
        layer = self._layer(320, 88 + 36 * half)
        layer.blit(self._type.text("Paused", 28), (24, 16))
        for i, (key, action) in enumerate(PAUSE_KEYS):
            column, row = divmod(i, half)
            self._key(layer, 24 + column * 136, 72 + row * 36, key, action)
        self._place(canvas, layer, "pause", now_s, dim=True)

    def message(self, canvas: pygame.Surface, title: str, text: str, now_s: float) -> None:
        """The last word, in the middle."""
        lines = self._type.wrap(text, 15, 400)
        layer = self._layer(448, 80 + 22 * len(lines))
        layer.blit(self._type.text(title, 22), (24, 18))
        for i, line in enumerate(lines):
            layer.blit(self._type.text(line, 15, DIM), (24, 56 + 22 * i))
        self._place(canvas, layer, title, now_s, dim=True)

    def warning(self, canvas: pygame.Surface, text: str) -> None:
        """Something is wrong and may still come right; a strip under the measurements."""
        self._strip(canvas, text, 56, WARN)

    def notice(self, canvas: pygame.Surface, text: str) -> None:
        """A short word about what a key did."""
        self._strip(canvas, text, 96, FAINT)

    def hide(self) -> None:
        self._shown = None

    def _layer(self, width: int, height: int) -> pygame.Surface:
        return panel(width, height, 12).copy()

    def _key(self, layer: pygame.Surface, x: int, y: int, key: str, action: str) -> None:
        cap = self._type.text(key, 13, INK)
        width = max(24, cap.get_width() + 12)
        layer.blit(rounded(width, 24, FAINT, 6), (x, y))
        layer.blit(cap, (x + (width - cap.get_width()) // 2, y + (24 - cap.get_height()) // 2))
        word = self._type.text(action, 13, DIM)
        layer.blit(word, (x + width + 8, y + (24 - word.get_height()) // 2))

    def _place(
        self, canvas: pygame.Surface, layer: pygame.Surface, name: str, now_s: float, dim: bool
    ) -> None:
        if self._shown != name:
            self._shown, self._since_s = name, now_s
        share = ease_out(now_s - self._since_s)
        if dim:
            canvas.blit(rounded(*canvas.get_size(), (11, 16, 32, round(90 * share)), 0), (0, 0))
        layer.set_alpha(round(255 * share))
        x = (canvas.get_width() - layer.get_width()) // 2
        y = (canvas.get_height() - layer.get_height()) // 2 + round(8 * (1 - share))
        canvas.blit(layer, (x, y))

    def _strip(self, canvas: pygame.Surface, text: str, y: int, colour: Colour) -> None:
        label = self._type.text(text, 13, INK)
        width = label.get_width() + 40
        x = (canvas.get_width() - width) // 2
        canvas.blit(panel(width, 32), (x, y))
        pygame.draw.rect(canvas, colour, (x + 10, y + 8, 4, 16), border_radius=2)
        canvas.blit(label, (x + 24, y + (32 - label.get_height()) // 2))
