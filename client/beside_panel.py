"""The simulator's half of the window: its picture's dashboard, its label, and how the two worlds compare."""

import pygame

from client.beside import BesideView
from client.dashboard import Dashboard
from client.theme import COIN, DIM, GRID, INK, WARN, Colour, Typeface, panel
from engine.protocol import Frame

GAP_PX = 8
BETWEEN = (11, 16, 32)
_HEIGHT = 40


class BesidePanel:
    """Draws over the simulator's picture."""

    def __init__(self, typeface: Typeface, dashboard: Dashboard) -> None:
        self._type, self._dashboard = typeface, dashboard

    def draw(self, side: pygame.Surface, beside: BesideView, dream: Frame) -> None:
        """side: the half of the canvas; dream: the frame that is shown in the other half."""
        if beside.picture is not None:
            self._dashboard.draw(side, beside.picture.frame.telemetry)
        side.blit(panel(side.get_width() - 2 * GRID, _HEIGHT), (GRID, GRID))
        x = self._cell(side, 3 * GRID, 176, "same keys, same frames", beside.status(dream))
        frame = beside.picture.frame.index if beside.picture is not None else 0
        x = self._cell(side, x, 96, "frame", f"{frame:,}")
        x = self._cell(side, x, 128, "since the start", f"{frame / 60:.0f} s")
        alike = "–" if beside.alike_db is None else f"{beside.alike_db:.1f} dB"
        self._cell(side, x, 120, "pictures alike", alike)
        draw_label(side, self._type, "SIMULATOR", COIN)
        if (waiting := beside.waiting(dream)) is not None:
            self._middle(side, "The real game, played by your keys", waiting)
        if beside.parted_at is not None:
            text = f"after {beside.parted_at / 60:.0f} s the worlds had parted; R begins both again"
            self._strip(side, text)

    def _middle(self, side: pygame.Surface, title: str, text: str) -> None:
        """While there is no picture of now."""
        upper, lower = self._type.text(title, 22, INK), self._type.text(text, 15, DIM)
        width = max(upper.get_width(), lower.get_width()) + 64
        x, y = (side.get_width() - width) // 2, side.get_height() // 2 - 48
        side.blit(panel(width, 96, 12), (x, y))
        side.blit(upper, (x + (width - upper.get_width()) // 2, y + 18))
        side.blit(lower, (x + (width - lower.get_width()) // 2, y + 56))

    def _cell(self, side: pygame.Surface, x: int, width: int, label: str, value: str) -> int:
        side.blit(self._type.text(label, 12, DIM), (x, 10))
        side.blit(self._type.number(value, 15, INK), (x, 25))
        return x + width

    def _strip(self, side: pygame.Surface, text: str) -> None:
        label = self._type.text(text, 13, INK)
        width = label.get_width() + 40
        x = (side.get_width() - width) // 2
        side.blit(panel(width, 32), (x, 56))
        pygame.draw.rect(side, WARN, (x + 10, 64, 4, 16), border_radius=2)
        side.blit(label, (x + 24, 56 + (32 - label.get_height()) // 2))


def draw_label(part: pygame.Surface, typeface: Typeface, text: str, colour: Colour) -> None:
    """What a half of the window shows, bottom centre."""
    label = typeface.text(text, 15, colour)
    width = label.get_width() + 32
    x, y = (part.get_width() - width) // 2, part.get_height() - 40
    part.blit(panel(width, 32), (x, y))
    part.blit(label, (x + 16, y + (32 - label.get_height()) // 2))
