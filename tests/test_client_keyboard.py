"""Keys become buttons by position, and no tap is lost on the way."""

import pygame
import pytest

from client.keyboard import KEEP_ALIVE_S, ButtonStream, Keyboard, scancode
from games import GAMES

RACING = GAMES["racing"].buttons
PLATFORMER = GAMES["platformer"].buttons


def key(down: bool, name: str, keycode: int = 0) -> pygame.event.Event:
    return pygame.event.Event(pygame.KEYDOWN if down else pygame.KEYUP, key=keycode, scancode=scancode(name))


@pytest.mark.parametrize("game", list(GAMES))
def test_every_key_of_every_game_presses_its_button(game: str) -> None:
    spec = GAMES[game]
    for button, names in spec.keys.items():
        for name in names:
            keyboard = Keyboard(spec)
            assert keyboard.handle(key(True, name))
            assert keyboard.held == spec.buttons[button] == keyboard.take_pressed()


def test_keys_are_bound_by_position_not_by_letter() -> None:
    keyboard = Keyboard(GAMES["racing"])
    # On a French keyboard the key right of Tab says A and sends K_a; it is not the US A.
    french_a = pygame.event.Event(pygame.KEYDOWN, key=pygame.K_a, scancode=pygame.KSCAN_Q)
    assert not keyboard.handle(french_a)
    french_q = pygame.event.Event(pygame.KEYDOWN, key=pygame.K_q, scancode=pygame.KSCAN_A)
    assert keyboard.handle(french_q) and keyboard.held == RACING.LEFT


def test_a_tap_between_two_looks_is_pressed_but_not_held() -> None:
    keyboard = Keyboard(GAMES["platformer"])
    keyboard.handle(key(True, "space"))
    keyboard.handle(key(False, "space"))
    assert keyboard.held == 0
    assert keyboard.take_pressed() == PLATFORMER.JUMP
    assert keyboard.take_pressed() == 0


def test_a_button_with_two_keys_is_held_until_both_are_up() -> None:
    keyboard = Keyboard(GAMES["racing"])
    keyboard.handle(key(True, "left"))
    keyboard.handle(key(True, "a"))
    keyboard.handle(key(False, "left"))
    assert keyboard.held == RACING.LEFT
    keyboard.handle(key(False, "a"))
    assert keyboard.held == 0


def test_key_repeat_is_not_a_press() -> None:
    keyboard = Keyboard(GAMES["racing"])
    keyboard.handle(key(True, "up"))
    keyboard.take_pressed()
    keyboard.handle(key(True, "up"))
    assert keyboard.take_pressed() == 0


def test_losing_the_focus_releases_everything() -> None:
    keyboard = Keyboard(GAMES["racing"])
    for name in ("up", "left", "d"):
        keyboard.handle(key(True, name))
    keyboard.release_all()
    assert keyboard.held == keyboard.take_pressed() == 0


def test_an_unknown_key_name_is_named() -> None:
    with pytest.raises(KeyError, match="nokey"):
        scancode("nokey")


def test_the_stream_numbers_changes_and_taps_and_repeats_the_rest() -> None:
    stream = ButtonStream()
    first = stream.next(1, 1, 0.0)
    assert first is not None and (first.seq, first.held, first.pressed) == (1, 1, 1)
    assert stream.sent(first, 0.0)
    assert stream.next(1, 0, KEEP_ALIVE_S / 2) is None
    again = stream.next(1, 0, KEEP_ALIVE_S)
    assert again == first and not stream.sent(again, KEEP_ALIVE_S)
    tap = stream.next(1, 4, KEEP_ALIVE_S * 1.1)
    assert tap is not None and (tap.seq, tap.held, tap.pressed) == (2, 1, 4)


def test_a_tap_that_could_not_be_sent_comes_with_the_next_message() -> None:
    stream = ButtonStream()
    assert stream.next(0, 2, 0.0) is not None  # never sent
    later = stream.next(0, 4, 0.01)
    assert later is not None and later.seq == 1 and later.pressed == 6
    stream.sent(later, 0.01)
    assert stream.next(0, 0, 0.02) is None
