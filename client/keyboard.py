"""Keys to buttons: bound by position, edges counted, so that no tap is lost.

Way of one frame: pygame events -> Keyboard (what is held, what was tapped) -> ButtonStream -> Buttons on
the wire.
"""

import pygame

from engine.protocol import Buttons
from games.spec import GameSpec

KEEP_ALIVE_S = 0.1


def scancode(name: str) -> int:
    """The physical key that carries `name` on a US keyboard, e.g. "left", "a", "space"."""
    code = getattr(pygame, f"KSCAN_{name.upper()}", None)
    if code is None:
        raise KeyError(f"no key is called {name!r}")
    return code


class Keyboard:
    """What the player's fingers do, as button masks."""

    def __init__(self, spec: GameSpec) -> None:
        self._bits = {
            scancode(key): int(spec.buttons[button]) for button, keys in spec.keys.items() for key in keys
        }
        self._down: set[int] = set()
        self._pressed = 0

    @property
    def held(self) -> int:
        """Mask of the buttons held now; a button with two keys is held until both are up."""
        mask = 0
        for code in self._down:
            mask |= self._bits[code]
        return mask

    def handle(self, event: pygame.event.Event) -> bool:
        """Take a key event; True if the key belongs to the game."""
        if event.type not in (pygame.KEYDOWN, pygame.KEYUP):
            return False
        code = getattr(event, "scancode", -1)
        if code not in self._bits:
            return False
        if event.type == pygame.KEYUP:
            self._down.discard(code)
        elif code not in self._down:
            self._down.add(code)
            self._pressed |= self._bits[code]
        return True

    def take_pressed(self) -> int:
        """Mask of the buttons pressed since the last call, also those released again meanwhile."""
        pressed, self._pressed = self._pressed, 0
        return pressed

    def release_all(self) -> None:
        """The window lost the focus: key-up events will not come."""
        self._down.clear()
        self._pressed = 0


class ButtonStream:
    """Decides when a Buttons message is due: on every change or tap, with a new seq, and as a keep-alive with
    the same seq (which the engine treats as a repetition, so its edges do not act twice)."""

    def __init__(self) -> None:
        self._last = Buttons(seq=0, held=0)
        self._unsent_pressed = 0
        self._sent_s = float("-inf")

    @property
    def seq(self) -> int:
        return self._last.seq

    def next(self, held: int, pressed: int, now_s: float) -> Buttons | None:
        """The message to send now, or None. Call `sent` once it is on its way; otherwise its taps come
        again."""
        self._unsent_pressed |= pressed
        if held != self._last.held or self._unsent_pressed:
            return Buttons(seq=self._last.seq + 1, held=held, pressed=self._unsent_pressed)
        return self._last if now_s - self._sent_s >= KEEP_ALIVE_S else None

    def sent(self, message: Buttons, now_s: float) -> bool:
        """Note that `message` was sent; True if it was a new one."""
        new = message.seq != self._last.seq
        self._last, self._sent_s = message, now_s
        self._unsent_pressed = 0
        return new
