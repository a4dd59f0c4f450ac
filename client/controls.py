"""The player's side of the loop: window events and the autopilot, to button masks and commands.

Way of one frame: pygame events -> Controls (what is held and tapped, by whom, since when) -> Buttons on the
wire.
"""

import time
from dataclasses import dataclass

import pygame

from client.autopilot import Autopilot
from client.gamepad import COMMANDS as PAD_COMMANDS
from client.gamepad import Gamepads
from client.keyboard import ButtonStream, Keyboard
from engine.protocol import Buttons, Frame
from games.spec import GameSpec

COMMANDS = {
    pygame.K_p: "pause",
    pygame.K_ESCAPE: "pause",
    pygame.K_q: "leave",
    pygame.K_r: "reset",
    pygame.K_n: "new_seed",
    pygame.K_PERIOD: "step",
    pygame.K_F11: "fullscreen",
    pygame.K_f: "fullscreen",
    pygame.K_h: "hud",
    pygame.K_g: "pulse",
    pygame.K_t: "autopilot",
    pygame.K_v: "beside",
    pygame.K_m: "mute",
    pygame.K_F2: "picture",
}


@dataclass(frozen=True)
class Due:
    """A Buttons message to send, and when the key that it stands for moved."""

    message: Buttons
    key_s: float


class Controls:
    """Keys and gamepads win over the autopilot. Taps wait until a message could be sent."""

    def __init__(self, spec: GameSpec, autopilot: bool) -> None:
        self._spec = spec
        self._keyboard, self._pads, self._stream = Keyboard(spec), Gamepads(spec), ButtonStream()
        self.news = ""
        """What to say about a gamepad that came or went; whoever says it empties it."""
        self._autopilot = Autopilot(spec) if autopilot else None
        self._auto_mask = self._auto_pressed = 0
        self._decided_s = 0.0
        self._looked_s = self._key_s = time.perf_counter()

    def read(self) -> list[str]:
        """Take all window events; the commands among them, "quit" for the window's closing. A key's own time
        is not known to SDL's queue here: the middle between the last two looks stands for it, which is right
        on average even when a flip blocked in between."""
        before_s, self._looked_s = self._looked_s, time.perf_counter()
        self._key_s = (before_s + self._looked_s) / 2
        commands = []
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                commands.append("quit")
            elif event.type == pygame.WINDOWFOCUSLOST:
                self.release_all()
            elif event.type == pygame.CONTROLLERBUTTONDOWN and event.button in PAD_COMMANDS:
                commands.append(PAD_COMMANDS[event.button])
            elif not self._keyboard.handle(event) and event.type == pygame.KEYDOWN:
                commands += [COMMANDS[event.key]] if event.key in COMMANDS else []
            self.news = self._pads.handle(event) or self.news
        return commands

    def due(self, now_s: float, silent: bool) -> Due | None:
        """The message to send now, if any. silent: the game stands still, so nothing is held."""
        held, key_s = self._keyboard.held | self._pads.held, self._key_s
        pressed = self._keyboard.take_pressed() | self._pads.take_pressed()
        if not held and not pressed and self._autopilot is not None:
            held, pressed, key_s = self._auto_mask, self._auto_pressed, self._decided_s
        self._auto_pressed = 0
        if silent:
            held = pressed = 0
        message = self._stream.next(held, pressed, now_s)
        return None if message is None else Due(message, key_s)

    def sent(self, due: Due, now_s: float) -> bool:
        """Note that the message went out; True if it was a new one."""
        return self._stream.sent(due.message, now_s)

    def release_all(self) -> None:
        self._keyboard.release_all()
        self._pads.release_all()

    def toggle_autopilot(self) -> bool:
        """True if it plays now."""
        self._autopilot = None if self._autopilot else Autopilot(self._spec)
        self._auto_mask = self._auto_pressed = 0
        return self._autopilot is not None

    def watch(self, frame: Frame, delay_frames: float) -> None:
        """A frame is on the screen: the autopilot decides. delay_frames: from what it tells until a button
        acts."""
        if self._autopilot is not None:
            mask = self._autopilot.decide(frame.telemetry, frame.index, delay_frames)
            self._auto_pressed |= mask & ~self._auto_mask
            self._auto_mask = mask
            self._decided_s = time.perf_counter()
