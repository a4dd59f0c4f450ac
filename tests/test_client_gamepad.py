"""Gamepads become the game's buttons, whoever plugs one in or out."""

import pygame
import pytest

from client.controls import Controls
from client.gamepad import Gamepads
from games import GAMES
from games.platformer.spec import Buttons as Run
from games.racing.spec import Buttons as Race

Event = pygame.event.Event


def button(which: int, down: bool = True, pad: int = 0) -> Event:
    kind = pygame.CONTROLLERBUTTONDOWN if down else pygame.CONTROLLERBUTTONUP
    return Event(kind, button=which, instance_id=pad)


def axis(which: int, value: float, pad: int = 0) -> Event:
    return Event(pygame.CONTROLLERAXISMOTION, axis=which, value=round(value * 32767), instance_id=pad)


@pytest.fixture
def pads() -> Gamepads:
    return Gamepads(GAMES["racing"])


def test_a_tap_between_two_looks_counts(pads: Gamepads) -> None:
    pads.handle(button(pygame.CONTROLLER_BUTTON_A))
    pads.handle(button(pygame.CONTROLLER_BUTTON_A, down=False))
    assert pads.held == 0 and pads.take_pressed() == Race.THROTTLE and pads.take_pressed() == 0


def test_a_stick_steers_with_a_band_between_on_and_off(pads: Gamepads) -> None:
    held = []
    for value in (0.3, 0.5, 0.3, 0.2, -0.9, 0.0):
        pads.handle(axis(pygame.CONTROLLER_AXIS_LEFTX, value))
        held.append(pads.held)
    assert held == [0, Race.RIGHT, Race.RIGHT, 0, Race.LEFT, 0]


def test_triggers_are_pedals_and_a_gamepad_that_goes_lets_go(pads: Gamepads) -> None:
    pads.handle(axis(pygame.CONTROLLER_AXIS_TRIGGERRIGHT, 1.0, pad=3))
    pads.handle(axis(pygame.CONTROLLER_AXIS_TRIGGERLEFT, 1.0, pad=4))
    assert pads.held == Race.THROTTLE | Race.BRAKE
    pads.handle(Event(pygame.CONTROLLERDEVICEREMOVED, instance_id=3))
    assert pads.held == Race.BRAKE


def test_buttons_that_a_game_does_not_have_do_nothing() -> None:
    pads = Gamepads(GAMES["platformer"])
    pads.handle(button(pygame.CONTROLLER_BUTTON_A))
    pads.handle(axis(pygame.CONTROLLER_AXIS_TRIGGERLEFT, 1.0))
    assert pads.held == Run.JUMP


def test_controls_join_keys_and_gamepads() -> None:
    pygame.display.init()
    try:
        controls = Controls(GAMES["racing"], autopilot=False)
        pygame.event.clear()
        pygame.event.post(button(pygame.CONTROLLER_BUTTON_A))
        pygame.event.post(button(pygame.CONTROLLER_BUTTON_START))
        pygame.event.post(Event(pygame.KEYDOWN, key=pygame.K_LEFT, scancode=pygame.KSCAN_LEFT))
        assert controls.read() == ["pause"]
        due = controls.due(1.0, silent=False)
        assert due is not None and due.message.held == Race.THROTTLE | Race.LEFT
    finally:
        pygame.display.quit()
