"""The title: what is shown while the engine starts, with its progress and the keys to come."""

import pygame

from client.poster import TITLE_COLOURS, poster
from client.theme import DIM, FAINT, INK, TRUE, Typeface, panel, rounded
from games.spec import GameSpec

_ARROWS = frozenset(("left", "right", "up", "down"))


class LoadingScreen:
    """Draws the title over the game's poster. `stage` and `fraction` come from the engine's Loading
    messages."""

    def __init__(self, spec: GameSpec, typeface: Typeface) -> None:
        self._spec, self._type = spec, typeface
        self._poster = poster(spec.name, (spec.width, spec.height))
        self._shown_fraction = 0.0
        self.stage = "starting the engine"
        self.fraction = 0.0

    def progress(self, stage: str, fraction: float) -> None:
        self.stage = stage
        self.fraction = min(max(fraction, 0.0), 1.0) if fraction == fraction else 0.0  # NaN is no progress

    def draw(self, canvas: pygame.Surface) -> None:
        canvas.blit(self._poster, (0, 0))
        colour = TITLE_COLOURS[self._spec.name]
        canvas.blit(self._type.text("Dreamcade", 56, colour), (40, 28))
        canvas.blit(self._type.text(f"{self._spec.title}, imagined frame by frame", 16, colour), (43, 94))
        width, height = canvas.get_width() - 80, 120
        layer_at = (40, canvas.get_height() - height - 32)
        canvas.blit(panel(width, height, 12), layer_at)
        self._keys(canvas, layer_at[0] + 24, layer_at[1] + 20)
        self._bar(canvas, pygame.Rect(layer_at[0] + 24, layer_at[1] + height - 24, width - 48, 6))

    def _keys(self, canvas: pygame.Surface, x: int, y: int) -> None:
        for button, keys in self._spec.keys.items():
            for key in keys:
                x = self._cap(canvas, x, y, key) + 4
            word = self._type.text(button.lower(), 13, DIM)
            canvas.blit(word, (x + 4, y + (24 - word.get_height()) // 2))
            x += word.get_width() + 24
        word = self._type.text("P for more", 13, DIM)
        canvas.blit(word, (canvas.get_width() - 64 - word.get_width(), y + 36))

    def _cap(self, canvas: pygame.Surface, x: int, y: int, key: str) -> int:
        """One key as a small plate; returns its right edge."""
        if key in _ARROWS:
            canvas.blit(rounded(24, 24, FAINT, 6), (x, y))
            _arrow(canvas, (x + 12, y + 12), key)
            return x + 24
        label = self._type.text(key if len(key) > 1 else key.upper(), 13, INK)
        width = max(24, label.get_width() + 12)
        canvas.blit(rounded(width, 24, FAINT, 6), (x, y))
        canvas.blit(label, (x + (width - label.get_width()) // 2, y + (24 - label.get_height()) // 2))
        return x + width

    def _bar(self, canvas: pygame.Surface, rect: pygame.Rect) -> None:
        self._shown_fraction += (self.fraction - self._shown_fraction) * 0.2  # glide, do not jump
        canvas.blit(self._type.text(self.stage, 13, INK), (rect.left, rect.top - 24))
        pygame.draw.rect(canvas, FAINT, rect, border_radius=3)
        lit = rect.copy()
        lit.width = max(round(rect.width * self._shown_fraction), 6)
        pygame.draw.rect(canvas, TRUE, lit, border_radius=3)


def _arrow(canvas: pygame.Surface, middle: tuple[int, int], key: str) -> None:
    """The font has no arrows, so they are drawn."""
    x, y = middle
    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[key]
    tip = (x + 5 * dx, y + 5 * dy)
    wings = [(x - 3 * dx + 5 * dy, y - 3 * dy + 5 * dx), (x - 3 * dx - 5 * dy, y - 3 * dy - 5 * dx)]
    pygame.draw.polygon(canvas, INK, [tip, *wings])
