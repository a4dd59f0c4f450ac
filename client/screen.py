"""The window: one 720x480 canvas, scaled by SDL with its aspect kept, and what is drawn on it each flip."""

import contextlib
import os
import sys
import warnings

import pygame

from client.connection import Picture
from client.errors import UserError

NO_DISPLAY = "no display found; add --headless to play without a window"
_SHARE_OF_DESKTOP = 0.85
_INVISIBLE = ("dummy", "offscreen", "evdev")
"""Drivers that SDL falls back to when no display can be opened, and that show nothing."""


def display_available(environment: dict[str, str], platform: str) -> bool:
    """Whether a window can be expected: always but on Linux and the like without any display variable."""
    if environment.get("SDL_VIDEODRIVER"):
        return True
    if platform in ("win32", "darwin", "cygwin"):
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def _display_name() -> str:
    return os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY") or "a window"


class Screen:
    """Opens the window on construction; `canvas` is what to draw on, `flip` shows it."""

    def __init__(
        self, title: str, size: tuple[int, int], headless: bool = False, fullscreen: bool = False
    ) -> None:
        """size: of the canvas in pixels. Raises UserError when there is no display."""
        if headless:
            os.environ["SDL_VIDEODRIVER"] = "dummy"
            os.environ["SDL_AUDIODRIVER"] = "dummy"
        elif not display_available(dict(os.environ), sys.platform):
            raise UserError(NO_DISPLAY)
        os.environ.setdefault("SDL_RENDER_SCALE_QUALITY", "linear")
        # pygame-ce reads this one by this very name: any scale, not whole multiples only.
        os.environ.setdefault("SDL_HINT_RENDER_SCALE_QUALITY", "1")
        self.headless = headless or os.environ.get("SDL_VIDEODRIVER") == "dummy"
        self.size = size
        try:
            pygame.display.init()
            if not self.headless and pygame.display.get_driver() in _INVISIBLE:
                raise pygame.error(f"cannot open {_display_name()}")
            pygame.font.init()
            pygame.display.set_caption(title)
            self.canvas = self._open(fullscreen)
        except pygame.error as error:
            pygame.quit()
            raise UserError(f"{NO_DISPLAY} ({error})") from None
        pygame.mouse.set_visible(not fullscreen)

    def _open(self, fullscreen: bool) -> pygame.Surface:
        if self.headless:
            return pygame.display.set_mode(self.size)
        flags = pygame.SCALED | pygame.RESIZABLE | (pygame.FULLSCREEN if fullscreen else 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "no fast renderer available": it still works, only slower
            try:
                canvas = pygame.display.set_mode(self.size, flags, vsync=1)
            except pygame.error:
                canvas = pygame.display.set_mode(self.size, flags)
            if not fullscreen:
                self._take_a_fair_size()
        return canvas

    def _take_a_fair_size(self) -> None:
        """SCALED makes the window as large as the desktop: in steps of half the canvas, leave some of it."""
        room = (
            min(d / s for d, s in zip(pygame.display.get_desktop_sizes()[0], self.size)) * _SHARE_OF_DESKTOP
        )
        scale = room // 0.5 * 0.5 if room >= 1.0 else room
        window = pygame.Window.from_display_module()
        window.size = (round(self.size[0] * scale), round(self.size[1] * scale))
        window.position = pygame.WINDOWPOS_CENTERED

    def resize(self, size: tuple[int, int]) -> None:
        """Another canvas, in the same window, which keeps its height as far as the desktop is wide enough."""
        if size == self.size:
            return
        full = not self.headless and pygame.display.is_fullscreen()
        self.size = size
        self.canvas = self._open(full)

    def toggle_fullscreen(self) -> None:
        if self.headless:
            return
        with contextlib.suppress(pygame.error):  # not every video driver can
            pygame.display.toggle_fullscreen()
        pygame.mouse.set_visible(not pygame.display.is_fullscreen())

    def blit_picture(self, picture: Picture, on: pygame.Surface | None = None) -> None:
        """Copy a picture onto the canvas or a part of it, scaled only if it has another size."""
        frame, on = picture.frame, on or self.canvas
        image = pygame.image.frombuffer(picture.pixels, (frame.width, frame.height), "RGB")
        if image.get_size() != on.get_size():
            image = pygame.transform.smoothscale(image, on.get_size())
        on.blit(image, (0, 0))

    def flip(self) -> None:
        pygame.display.flip()

    def save(self, path: str) -> None:
        """Write the canvas as PNG. Raises UserError if it cannot."""
        try:
            pygame.image.save(self.canvas, path)
        except (pygame.error, OSError) as error:
            raise UserError(f"cannot write {path}: {error}") from None

    def close(self) -> None:
        pygame.quit()
