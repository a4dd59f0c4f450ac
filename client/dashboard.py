"""What the player looks at besides the picture: speed and laps, coins, lives and the way to the goal.

The dreamed picture holds no text and no meters; these come from the telemetry in every frame.
"""

import math

import pygame

from client.theme import COIN, DIM, FAINT, GRID, INK, PANEL, Typeface, panel, smooth
from games.spec import GameSpec

_KMH_PER_MS = 3.6
_STANDING_KMH = 5.0  # a dream reads its own speed about this well


class Dashboard:
    """Base of the two: reads telemetry by name."""

    def __init__(self, spec: GameSpec, typeface: Typeface) -> None:
        self._at = {field.name: i for i, field in enumerate(spec.telemetry)}
        self._type = typeface

    def draw(self, canvas: pygame.Surface, telemetry: list[float]) -> None:
        raise NotImplementedError

    def _value(self, telemetry: list[float], name: str) -> float:
        return telemetry[self._at[name]]


class RacingDashboard(Dashboard):
    """Speed as a big number in a thin arc, bottom right; lap and its progress, bottom left."""

    _DIAL = 128
    _TOP_KMH = 250.0

    def __init__(self, spec: GameSpec, typeface: Typeface) -> None:
        super().__init__(spec, typeface)
        self._dials: dict[int, pygame.Surface] = {}

    def draw(self, canvas: pygame.Surface, telemetry: list[float]) -> None:
        self._draw_speed(canvas, self._value(telemetry, "speed") * _KMH_PER_MS)
        self._draw_lap(canvas, self._value(telemetry, "lap"), self._value(telemetry, "progress"))

    def _draw_speed(self, canvas: pygame.Surface, kmh: float) -> None:
        left = canvas.get_width() - self._DIAL - GRID
        top = canvas.get_height() - self._DIAL - GRID
        canvas.blit(self._dial(min(abs(kmh) / self._TOP_KMH, 1.0)), (left, top))
        standing = abs(kmh) < _STANDING_KMH
        number = self._type.number("0" if standing else f"{abs(kmh):.0f}", 40, INK)
        middle = left + self._DIAL // 2
        canvas.blit(number, (middle - number.get_width() // 2, top + 34))
        unit = self._type.text("reverse" if kmh < -_STANDING_KMH else "km/h", 13, DIM)
        canvas.blit(unit, (middle - unit.get_width() // 2, top + 82))

    def _dial(self, share: float) -> pygame.Surface:
        """Disc, track and arc; `share` of the arc lit, in steps of two degrees so that few are ever drawn."""
        step = round(share * 135)
        if step not in self._dials:
            self._dials[step] = smooth(
                (self._DIAL, self._DIAL), lambda s, scale: _draw_dial(s, scale, step / 135)
            )
        return self._dials[step]

    def _draw_lap(self, canvas: pygame.Surface, lap: float, progress: float) -> None:
        top = canvas.get_height() - 56 - GRID
        canvas.blit(panel(144, 56), (GRID, top))
        canvas.blit(self._type.text("lap", 13, DIM), (24, top + 14))
        canvas.blit(self._type.number(str(max(round(lap), 0) + 1), 22, INK), (50, top + 6))
        share = progress - math.floor(progress)
        percent = self._type.number(f"{share * 100:.0f} %", 13, DIM)
        canvas.blit(percent, (GRID + 144 - 16 - percent.get_width(), top + 14))
        _bar(canvas, pygame.Rect(24, top + 40, 112, 4), share)


class PlatformerDashboard(Dashboard):
    """Lives and coins as little pictures, bottom left; the level as a path with a flag, bottom right."""

    _MOST_LIVES_DRAWN = 5

    def __init__(self, spec: GameSpec, typeface: Typeface) -> None:
        super().__init__(spec, typeface)
        self._hero = smooth((24, 24), _draw_hero)
        self._coin = smooth((24, 24), _draw_coin)
        self._flag = smooth((16, 24), _draw_flag)

    def draw(self, canvas: pygame.Surface, telemetry: list[float]) -> None:
        top = canvas.get_height() - 40 - GRID
        self._draw_purse(
            canvas, top, round(self._value(telemetry, "lives")), round(self._value(telemetry, "coins"))
        )
        self._draw_path(
            canvas, top, round(self._value(telemetry, "level")), self._value(telemetry, "progress")
        )

    def _draw_purse(self, canvas: pygame.Surface, top: int, lives: int, coins: int) -> None:
        heads = min(max(lives, 0), self._MOST_LIVES_DRAWN)
        number = self._type.number(str(max(coins, 0)), 20, INK)
        canvas.blit(panel(28 * heads + 72 + number.get_width(), 40), (GRID, top))
        x = 2 * GRID
        for _ in range(heads):
            canvas.blit(self._hero, (x, top + 8))
            x += 28
        x += GRID
        canvas.blit(self._coin, (x, top + 8))
        canvas.blit(number, (x + 32, top + 6))

    def _draw_path(self, canvas: pygame.Surface, top: int, level: int, progress: float) -> None:
        left = canvas.get_width() - 240 - GRID
        canvas.blit(panel(240, 40), (left, top))
        canvas.blit(self._type.text(f"level {max(level, 0) + 1}", 13, DIM), (left + 16, top + 11))
        way = pygame.Rect(left + 80, top + 18, 120, 4)
        share = min(max(progress, 0.0), 1.0)
        _bar(canvas, way, share)
        pygame.draw.circle(canvas, INK, (way.left + round(share * way.width), way.centery), 5)
        canvas.blit(self._flag, (way.right + 8, top + 8))


def dashboard_for(spec: GameSpec, typeface: Typeface) -> Dashboard:
    kinds: dict[str, type[Dashboard]] = {"racing": RacingDashboard, "platformer": PlatformerDashboard}
    return kinds[spec.name](spec, typeface)


def _bar(canvas: pygame.Surface, rect: pygame.Rect, share: float) -> None:
    pygame.draw.rect(canvas, FAINT, rect, border_radius=2)
    if share > 0:
        lit = pygame.Rect(rect.left, rect.top, max(round(rect.width * share), 3), rect.height)
        pygame.draw.rect(canvas, INK, lit, border_radius=2)


def _draw_dial(surface: pygame.Surface, scale: int, share: float) -> None:
    size = surface.get_width()
    middle = size // 2
    pygame.draw.circle(surface, PANEL, (middle, middle), middle)
    ring = middle - 9 * scale
    for lit, until in ((False, 1.0), (True, share)):
        dots = round(270 * until * 2)
        for i in range(dots + 1 if until > 0 else 0):
            angle = math.radians(135 + i / 2)
            spot = (middle + ring * math.cos(angle), middle + ring * math.sin(angle))
            pygame.draw.circle(surface, INK if lit else FAINT, spot, round((2 if lit else 1.5) * scale))


def _draw_hero(surface: pygame.Surface, scale: int) -> None:
    """The hero's head and scarf; a light rim, because the panel is as dark as the hero."""
    pygame.draw.circle(surface, (233, 241, 247), (11 * scale, 11 * scale), 9 * scale)
    pygame.draw.circle(surface, (45, 75, 154), (11 * scale, 11 * scale), 7 * scale + scale // 2)
    pygame.draw.circle(surface, (255, 240, 222), (14 * scale, 10 * scale), 2 * scale)
    scarf = [(4, 17), (17, 17), (18, 21), (10, 21), (2, 23), (1, 19)]
    pygame.draw.polygon(surface, (242, 92, 84), [(x * scale, y * scale) for x, y in scarf])


def _draw_coin(surface: pygame.Surface, scale: int) -> None:
    pygame.draw.circle(surface, (201, 142, 24), (12 * scale, 12 * scale), 10 * scale)
    pygame.draw.circle(surface, COIN, (12 * scale, 12 * scale), 8 * scale)
    pygame.draw.rect(
        surface, (255, 233, 160), (10 * scale, 7 * scale, 3 * scale, 10 * scale), border_radius=scale
    )


def _draw_flag(surface: pygame.Surface, scale: int) -> None:
    pygame.draw.rect(surface, INK, (2 * scale, 2 * scale, 2 * scale, 20 * scale), border_radius=scale)
    pygame.draw.polygon(
        surface, (242, 92, 84), [(4 * scale, 3 * scale), (15 * scale, 7 * scale), (4 * scale, 12 * scale)]
    )
