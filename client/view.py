"""Everything on the window in play: the picture, the dashboard and measurements over it, panels and
notices."""

import time
from pathlib import Path

import platformdirs
import pygame

from client.beside import BesideView
from client.beside_panel import BETWEEN, GAP_PX, BesidePanel, draw_label
from client.connection import Picture
from client.dashboard import dashboard_for
from client.errors import UserError
from client.hud import Hud, draw_frame_kind
from client.overlay import Overlay
from client.pulse import Pulse
from client.report import Live
from client.screen import Screen
from client.theme import TRUE, Typeface
from engine.protocol import SESSION_KEPT_S, Frame
from games.spec import GameSpec

WARN_S = 1.0
FAREWELL_S = 3.0
_NOTICE_S = 2.0
_REDRAW_S = 1 / 30


class View:
    """Composes and flips. Holds only what concerns looks."""

    def __init__(self, screen: Screen, typeface: Typeface, spec: GameSpec, backend: str) -> None:
        self._screen, self._type = screen, typeface
        self._hud, self._dashboard = Hud(typeface, backend), dashboard_for(spec, typeface)
        self._overlay = Overlay(typeface)
        self._pulse = Pulse(typeface)
        self._show_hud, self._show_pulse = True, False
        self._notice, self._notice_until_s = "", 0.0
        self._size = screen.size
        self._side = BesidePanel(typeface, dashboard_for(spec, typeface))

    def widen(self, wide: bool) -> None:
        """Make room for a second picture beside the first, or take it away."""
        width, height = self._size
        self._screen.resize((2 * width + GAP_PX if wide else width, height))

    def toggle_hud(self) -> None:
        self._show_hud = not self._show_hud

    def toggle_pulse(self) -> None:
        self._show_pulse = not self._show_pulse

    def overlay_gone(self) -> None:
        """The next panel eases in anew."""
        self._overlay.hide()

    def say(self, text: str) -> None:
        """Show `text` for two seconds."""
        self._notice, self._notice_until_s = text, time.perf_counter() + _NOTICE_S

    def save_picture(self, game: str) -> None:
        """Write what is on the window to the pictures folder, or here if there is none, and say where."""
        folder = Path(platformdirs.user_pictures_path())
        name = time.strftime(f"dreamcade-{game}-%Y%m%d-%H%M%S.png")
        path = (folder if folder.is_dir() else Path.cwd()) / name
        try:
            self._screen.save(str(path))
        except UserError as error:
            self.say(str(error))
        else:
            self.say(f"saved {path}")

    def draw(
        self,
        picture: Picture,
        live: Live,
        now_s: float,
        *,
        silent_s: float = 0.0,
        paused: bool = False,
        stepping: bool = False,
        recording: bool = False,
        recording_failed: bool = False,
        remote: bool = False,
        beside: BesideView | None = None,
    ) -> None:
        """One flip. silent_s: how long nothing came from the engine; beside: what the simulator shows."""
        canvas, frame = self._screen.canvas, picture.frame
        game = canvas.subsurface((0, 0), self._size)
        self._screen.blit_picture(picture, game)
        self._dashboard.draw(game, frame.telemetry)
        self._pulse.note(frame, now_s)
        if self._show_pulse:
            self._pulse.draw(game, frame.dropped)
        if self._show_hud:
            self._hud.draw(game, live, frame, now_s, recording, recording_failed)
        if beside is not None and beside.on:
            self._draw_beside(canvas, beside, frame)
        if paused and stepping:
            draw_frame_kind(canvas, self._type, frame.kind, f"{frame.kind}, frame {frame.index}")
        elif paused:
            self._overlay.pause(canvas, now_s)
        if silent_s > WARN_S:
            self._overlay.warning(canvas, _warning(silent_s, remote))
        if now_s < self._notice_until_s:
            self._overlay.notice(canvas, self._notice)
        self._screen.flip()

    def _draw_beside(self, canvas: pygame.Surface, beside: BesideView, dream: Frame) -> None:
        width, height = self._size
        canvas.fill(BETWEEN, (width, 0, GAP_PX, height))
        side = canvas.subsurface((width + GAP_PX, 0), self._size)
        if beside.picture is not None:
            self._screen.blit_picture(beside.picture, side)
        else:
            side.fill(BETWEEN)
        self._side.draw(side, beside, dream)
        draw_label(canvas.subsurface((0, 0), self._size), self._type, "DREAM", TRUE)

    def farewell(self, text: str, picture: Picture | None) -> None:
        """The reason for the end, for a moment or until a key; not where nobody is there to read it."""
        end_s = time.perf_counter() + (0.0 if self._screen.headless else FAREWELL_S)
        while time.perf_counter() < end_s:
            if picture is not None:
                self._screen.blit_picture(picture, self._screen.canvas.subsurface((0, 0), self._size))
            self._overlay.message(self._screen.canvas, "The game has ended", text, time.perf_counter())
            self._screen.flip()
            if any(event.type in (pygame.QUIT, pygame.KEYDOWN) for event in pygame.event.get()):
                return
            time.sleep(_REDRAW_S)


def _warning(silent_s: float, remote: bool) -> str:
    if not remote:
        what = "waiting for the engine"
    elif silent_s <= SESSION_KEPT_S:
        what = "the link is lost; your game is kept"
    else:
        what = "the link is lost and your game let go; a new one begins when it is back"
    return f"no picture for {silent_s:.0f} s: {what}"
