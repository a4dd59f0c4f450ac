"""Gamepads to buttons, through SDL's database of controllers, plugged in and out at any time.

Way of one frame: pygame events -> Gamepads (what is held and tapped) -> Controls -> Buttons on the wire.
"""

from typing import Any

import pygame

from games.spec import GameSpec

_PRESSED = 0.4  # of the way of a stick or trigger; it is let go again below _RELEASED
_RELEASED = 0.25
_BUTTONS: dict[int, tuple[str, ...]] = {
    pygame.CONTROLLER_BUTTON_DPAD_LEFT: ("LEFT",),
    pygame.CONTROLLER_BUTTON_DPAD_RIGHT: ("RIGHT",),
    pygame.CONTROLLER_BUTTON_DPAD_UP: ("THROTTLE", "JUMP"),
    pygame.CONTROLLER_BUTTON_DPAD_DOWN: ("BRAKE",),
    pygame.CONTROLLER_BUTTON_A: ("THROTTLE", "JUMP"),
    pygame.CONTROLLER_BUTTON_B: ("BRAKE", "JUMP"),
    pygame.CONTROLLER_BUTTON_X: ("BRAKE",),
}
_AXES: dict[tuple[int, int], tuple[str, ...]] = {
    (pygame.CONTROLLER_AXIS_LEFTX, -1): ("LEFT",),
    (pygame.CONTROLLER_AXIS_LEFTX, 1): ("RIGHT",),
    (pygame.CONTROLLER_AXIS_TRIGGERRIGHT, 1): ("THROTTLE",),
    (pygame.CONTROLLER_AXIS_TRIGGERLEFT, 1): ("BRAKE",),
}
COMMANDS = {
    pygame.CONTROLLER_BUTTON_START: "pause",
    pygame.CONTROLLER_BUTTON_BACK: "reset",
    pygame.CONTROLLER_BUTTON_Y: "beside",
}

_Source = tuple[int, int, int]  # controller, button or axis, 0 for a button or the axis's direction


class Gamepads:
    """What all gamepads do, as button masks. Names of buttons that a game does not have do nothing there."""

    def __init__(self, spec: GameSpec) -> None:
        self._bits = {button.name or "": int(button) for button in spec.buttons}
        self._open: dict[int, Any] = {}
        self._down: dict[_Source, int] = {}
        self._pressed = 0
        try:
            from pygame._sdl2 import controller

            controller.init()
            self._controllers: Any = controller
        except (ImportError, pygame.error):  # no gamepads on this system; keys still work
            self._controllers = None

    @property
    def held(self) -> int:
        mask = 0
        for bits in self._down.values():
            mask |= bits
        return mask

    def take_pressed(self) -> int:
        """Mask of the buttons pressed since the last call, also those released again meanwhile."""
        pressed, self._pressed = self._pressed, 0
        return pressed

    def release_all(self) -> None:
        self._down.clear()
        self._pressed = 0

    def handle(self, event: pygame.event.Event) -> str | None:
        """Take an event of a gamepad; what to say about one that came or went, else None."""
        if event.type == pygame.CONTROLLERDEVICEADDED:
            return self._add(event.device_index)
        if event.type == pygame.CONTROLLERDEVICEREMOVED:
            return self._remove(event.instance_id)
        if event.type in (pygame.CONTROLLERBUTTONDOWN, pygame.CONTROLLERBUTTONUP):
            bits = self._mask(_BUTTONS.get(event.button, ()))
            self._set((event.instance_id, event.button, 0), bits, event.type == pygame.CONTROLLERBUTTONDOWN)
        elif event.type == pygame.CONTROLLERAXISMOTION:
            self._move(event.instance_id, event.axis, event.value / 32767)
        return None

    def _move(self, pad: int, axis: int, value: float) -> None:
        for direction in (-1, 1):
            source = (pad, axis + 100, direction)
            threshold = _RELEASED if source in self._down else _PRESSED
            self._set(source, self._mask(_AXES.get((axis, direction), ())), value * direction > threshold)

    def _set(self, source: _Source, bits: int, down: bool) -> None:
        if not down:
            self._down.pop(source, None)
        elif bits and source not in self._down:
            self._down[source] = bits
            self._pressed |= bits

    def _mask(self, names: tuple[str, ...]) -> int:
        mask = 0
        for name in names:
            mask |= self._bits.get(name, 0)
        return mask

    def _add(self, index: int) -> str | None:
        if self._controllers is None or not self._controllers.is_controller(index):
            return None
        pad = self._controllers.Controller(index)
        self._open[pad.id] = pad  # events come while it is held
        return f"{pad.name} is ready"

    def _remove(self, instance: int) -> str | None:
        self._down = {source: bits for source, bits in self._down.items() if source[0] != instance}
        pad = self._open.pop(instance, None)
        return f"{pad.name} is gone" if pad is not None else None
