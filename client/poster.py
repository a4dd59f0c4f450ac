"""The title's pictures: a travel poster for each game, drawn from the art direction's flat shapes."""

import math

import pygame

from client.theme import Colour, mix

_SMOOTH = 2


TITLE_COLOURS: dict[str, Colour] = {"racing": (255, 241, 222), "platformer": (38, 62, 132)}
"""What stands out against each poster's sky."""


def poster(game: str, size: tuple[int, int]) -> pygame.Surface:
    """The poster of `game`, `size` in pixels."""
    large = pygame.Surface((size[0] * _SMOOTH, size[1] * _SMOOTH))
    {"racing": _draw_racing, "platformer": _draw_platformer}[game](large)
    return pygame.transform.smoothscale(large, size)


def _sky(surface: pygame.Surface, top: Colour, bottom: Colour, until: float) -> None:
    width, height = surface.get_size()
    end = round(height * until)
    for y in range(end):
        pygame.draw.line(surface, mix(top, bottom, y / end), (0, y), (width, y))


def _ridge(
    surface: pygame.Surface, colour: Colour, base: float, waves: tuple[tuple[float, float, float], ...]
) -> None:
    """A line of hills. base: its height as a share of the picture; waves: (amplitude share, periods,
    phase)."""
    width, height = surface.get_size()
    points = [(0, height)]
    for x in range(0, width + 8, 8):
        lift = sum(a * math.sin(2 * math.pi * (n * x / width + phase)) for a, n, phase in waves)
        points.append((x, round(height * (base - lift))))
    pygame.draw.polygon(surface, colour, [*points, (width, height)])


def _draw_racing(surface: pygame.Surface) -> None:
    """Desert dusk: a low sun ahead, and the road running into it."""
    width, height = surface.get_size()
    horizon = round(height * 0.56)
    _sky(surface, (59, 44, 102), (247, 166, 99), 0.56)
    sun = (round(width * 0.62), round(height * 0.44))
    for radius, share in ((0.21, 0.25), (0.16, 0.5), (0.115, 1.0)):
        pygame.draw.circle(surface, mix((240, 150, 102), (255, 233, 199), share), sun, round(height * radius))
    _ridge(surface, (140, 79, 115), 0.50, ((0.05, 1.6, 0.1), (0.02, 4.3, 0.3)))
    _ridge(surface, (92, 53, 96), 0.545, ((0.03, 2.3, 0.55), (0.012, 6.1, 0.2)))
    for y in range(horizon, height):
        share = (y - horizon) / (height - horizon)
        near = mix((240, 164, 119), (201, 130, 77), min(1.0, share * 1.6))
        pygame.draw.line(surface, near, (0, y), (width, y))
    _road(surface, sun[0], horizon)


def _road(surface: pygame.Surface, vanish_x: int, horizon: int) -> None:
    width, height = surface.get_size()
    bands = 9
    for i in range(bands):
        # equal lengths of road, seen in perspective: the depth of a band's edge goes with 1 / distance
        near, far = 1 / (1 + 0.55 * i), 1 / (1 + 0.55 * (i + 1))
        top, bottom = horizon + (height - horizon) * far, horizon + (height - horizon) * near
        kerb = (184, 59, 75) if i % 2 else (251, 227, 191)
        haze = min(0.8, 0.1 * i)
        for half, colour in ((0.46, kerb), (0.42, (75, 64, 72))):
            _band(
                surface,
                vanish_x,
                (top, bottom),
                (half * far * width, half * near * width),
                mix(colour, (240, 164, 119), haze),
            )
        if i % 2 == 0:
            line = mix((255, 233, 199), (240, 164, 119), haze)
            _band(surface, vanish_x, (top, bottom), (0.012 * far * width, 0.012 * near * width), line)
    _band(
        surface,
        vanish_x,
        (horizon, horizon + (height - horizon) * far),
        (0, 0.42 * far * width),
        mix((75, 64, 72), (240, 164, 119), 0.8),
    )


def _band(
    surface: pygame.Surface,
    vanish_x: int,
    ys: tuple[float, float],
    halves: tuple[float, float],
    colour: Colour,
) -> None:
    """A slice of road between two heights; its middle drifts from the vanishing point to the picture's
    middle."""
    width, height = surface.get_size()
    horizon = height * 0.56

    def middle(y: float) -> float:
        return vanish_x + (width * 0.5 - vanish_x) * ((y - horizon) / (height - horizon)) ** 0.7

    (top, bottom), (far, near) = ys, halves
    a, b = middle(max(top, horizon)), middle(max(bottom, horizon))
    pygame.draw.polygon(
        surface, colour, [(a - far, top), (a + far, top), (b + near, bottom), (b - near, bottom)]
    )


def _draw_platformer(surface: pygame.Surface) -> None:
    """Meadow: three rows of hills, ground with a gap, coins over it, and the hero before the jump."""
    width, height = surface.get_size()
    _sky(surface, (121, 199, 242), (233, 248, 238), 0.8)
    for x, y, r in (
        (0.68, 0.16, 0.05),
        (0.73, 0.13, 0.07),
        (0.79, 0.17, 0.05),
        (0.93, 0.3, 0.035),
        (0.97, 0.28, 0.05),
    ):
        pygame.draw.circle(surface, (244, 252, 250), (round(x * width), round(y * height)), round(r * height))
    _ridge(surface, (191, 227, 218), 0.44, ((0.06, 1.3, 0.2), (0.02, 3.1, 0.0)))
    _ridge(surface, (140, 203, 168), 0.51, ((0.05, 1.9, 0.65), (0.02, 4.2, 0.4)))
    _ridge(surface, (95, 174, 123), 0.575, ((0.03, 2.6, 0.1), (0.015, 5.3, 0.7)))
    unit, floor = height // 8, round(height * 0.58)
    for y in range(floor, height):  # the pit grows dark below
        shade = mix((95, 174, 123), (38, 84, 82), min(1.0, (y - floor) / (height * 0.12)))
        pygame.draw.line(surface, shade, (round(0.5 * width), y), (round(0.7 * width), y))
    for left, right in ((0.0, 0.52), (0.68, 1.0)):
        _ground(surface, round(left * width), round(right * width), floor, unit)
    for i in range(3):
        x, y = width * (0.54 + 0.06 * i), height * (0.33 - 0.05 * (1 - abs(i - 1)))
        pygame.draw.circle(surface, (201, 142, 24), (x, y), unit * 0.32)
        pygame.draw.circle(surface, (247, 197, 49), (x, y), unit * 0.25)
    _hero(surface, round(width * 0.42), floor, unit)


def _ground(surface: pygame.Surface, left: int, right: int, top: int, unit: int) -> None:
    height = surface.get_height()
    pygame.draw.rect(surface, (185, 130, 85), (left, top, right - left, height - top))
    pygame.draw.rect(surface, (87, 185, 86), (left, top, right - left, unit // 4), border_radius=unit // 12)


def _hero(surface: pygame.Surface, x: int, floor: int, unit: int) -> None:
    """Feet at (x, floor), one and a quarter tiles tall, scarf trailing to the left."""
    body, scarf = (45, 75, 154), (242, 92, 84)
    legs = unit // 5
    for dx, lean in ((-legs, -legs), (legs, legs)):
        pygame.draw.line(
            surface, body, (x + dx // 2, floor - unit // 2), (x + dx + lean // 2, floor - legs // 2), legs
        )
    pygame.draw.rect(
        surface,
        body,
        (x - unit * 0.26, floor - unit * 0.85, unit * 0.52, unit * 0.55),
        border_radius=unit // 5,
    )
    neck = floor - unit * 0.82
    pygame.draw.polygon(
        surface,
        scarf,
        [(x, neck), (x - unit * 0.95, neck - unit * 0.2), (x - unit * 0.85, neck + unit * 0.12)],
    )
    pygame.draw.rect(
        surface,
        scarf,
        (x - unit * 0.26, neck - unit * 0.07, unit * 0.52, unit * 0.16),
        border_radius=unit // 12,
    )
    pygame.draw.circle(surface, body, (x, floor - unit * 1.08), unit * 0.3)
    pygame.draw.circle(surface, (255, 240, 222), (x + unit * 0.12, floor - unit * 1.1), unit * 0.1)
