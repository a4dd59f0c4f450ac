"""The client's look in one place: colours, the typeface, panels. An 8 px grid, nothing that blinks."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pygame

Colour = tuple[int, int, int]

PANEL = (11, 16, 32, 184)  # #0B1020 at 72 %
INK = (242, 246, 250)
DIM = (150, 168, 192)
FAINT = (62, 74, 98)
TRUE = (57, 230, 216)  # #39E6D8, with a filled square
FILLED = (247, 197, 49)  # #F7C531, with a hollow diamond
COIN = (247, 197, 49)
WARN = (242, 92, 84)
GRID = 8
EASE_S = 0.16

_FONT = Path(__file__).resolve().parents[1] / "assets" / "fonts" / "Manrope-Bold.ttf"
_SMOOTH = 4  # shapes are drawn this much larger and scaled down: pygame.draw has no good antialiasing


def ease_out(seconds: float) -> float:
    """0 to 1 over EASE_S, quick first."""
    share = min(max(seconds / EASE_S, 0.0), 1.0)
    return 1.0 - (1.0 - share) ** 3


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` at share 0, `b` at share 1."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def smooth(size: tuple[int, int], draw: Callable[[pygame.Surface, int], None]) -> pygame.Surface:
    """A transparent surface of `size` on which `draw(surface, scale)` drew its shapes at `scale` times the
    size."""
    large = pygame.Surface((size[0] * _SMOOTH, size[1] * _SMOOTH), pygame.SRCALPHA)
    draw(large, _SMOOTH)
    return pygame.transform.smoothscale(large, size)


@lru_cache(maxsize=64)
def panel(width: int, height: int, radius: int = 8) -> pygame.Surface:
    """The translucent dark plate everything is written on. Shared: do not draw on it."""
    return rounded(width, height, PANEL, radius)


@lru_cache(maxsize=256)
def rounded(width: int, height: int, colour: tuple[int, ...], radius: int) -> pygame.Surface:
    """A plain plate with round corners. Shared: do not draw on it."""
    plate = pygame.Surface((width * _SMOOTH, height * _SMOOTH), pygame.SRCALPHA)
    plate.fill((*colour[:3], 0))
    pygame.draw.rect(plate, colour, plate.get_rect(), border_radius=radius * _SMOOTH)
    return pygame.transform.smoothscale(plate, (width, height))


@lru_cache(maxsize=8)
def mark(kind: str, size: int = 8) -> pygame.Surface:
    """The sign of a true frame (filled square) or a filled one (hollow diamond)."""

    def draw(surface: pygame.Surface, scale: int) -> None:
        end = size * scale
        if kind == "true":
            pygame.draw.rect(surface, TRUE, (scale, scale, end - 2 * scale, end - 2 * scale))
            return
        middle, edge = end // 2, scale
        corners = [(middle, edge), (end - edge, middle), (middle, end - edge), (edge, middle)]
        pygame.draw.polygon(surface, FILLED, corners)
        inner = edge + 2 * scale + scale // 2
        hole = [(middle, inner), (end - inner, middle), (middle, end - inner), (inner, middle)]
        pygame.draw.polygon(surface, (*FILLED, 0), hole)

    return smooth((size, size), draw)


class Typeface:
    """The one font, at any size, with its renderings kept. Needs pygame.font to be initialised."""

    def __init__(self) -> None:
        self._fonts: dict[int, pygame.font.Font] = {}
        self._texts: dict[tuple[str, int, Colour, bool], pygame.Surface] = {}

    def text(self, text: str, size: int, colour: Colour = INK) -> pygame.Surface:
        return self._cached(text, size, colour, False)

    def number(self, text: str, size: int, colour: Colour = INK) -> pygame.Surface:
        """Like `text`, with all digits equally wide, so that a changing number stands still."""
        return self._cached(text, size, colour, True)

    def height(self, size: int) -> int:
        return self._font(size).get_height()

    def wrap(self, text: str, size: int, width: int) -> list[str]:
        """`text` broken into lines of at most `width` pixels."""
        font, lines = self._font(size), [""]
        for word in text.split():
            candidate = f"{lines[-1]} {word}".strip()
            if lines[-1] and font.size(candidate)[0] > width:
                lines.append(word)
            else:
                lines[-1] = candidate
        return lines

    def _font(self, size: int) -> pygame.font.Font:
        if size not in self._fonts:
            self._fonts[size] = pygame.font.Font(str(_FONT) if _FONT.is_file() else None, size)
        return self._fonts[size]

    def _cached(self, text: str, size: int, colour: Colour, tabular: bool) -> pygame.Surface:
        key = (text, size, colour, tabular)
        if key not in self._texts:
            if len(self._texts) > 400:
                self._texts.clear()
            font = self._font(size)
            self._texts[key] = _tabular(font, text, colour) if tabular else font.render(text, True, colour)
        return self._texts[key]


def _tabular(font: pygame.font.Font, text: str, colour: Colour) -> pygame.Surface:
    cell = max(font.size(digit)[0] for digit in "023456789") - font.get_height() // 30
    widths = [cell if letter.isdigit() else font.size(letter)[0] for letter in text]
    line = pygame.Surface((max(sum(widths), 1), font.get_height()), pygame.SRCALPHA)
    x = 0
    for letter, width in zip(text, widths, strict=True):
        glyph = font.render(letter, True, colour)
        line.blit(glyph, (x + (width - glyph.get_width()) // 2, 0))
        x += width
    return line
