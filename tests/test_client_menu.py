"""The title menu: two games, chosen by keys, gamepad or mouse."""

import os
from collections.abc import Iterator

import pygame
import pytest

from client.menu import Menu, _place
from client.screen import Screen
from client.theme import Typeface
from tests.test_client_play import press

Event = pygame.event.Event


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    before = dict(os.environ)
    opened = Screen("menu", (720, 480), headless=True)
    pygame.event.clear()
    yield opened
    opened.close()
    os.environ.clear()
    os.environ.update(before)


def chosen(screen: Screen, *events: Event) -> str | None:
    for event in events:
        pygame.event.post(event)
    return Menu(screen, Typeface(), stop=lambda: False).run()


ENTER = press(pygame.K_RETURN)


@pytest.mark.parametrize(
    ("events", "game"),
    [
        ((ENTER,), "racing"),
        ((press(pygame.K_RIGHT), ENTER), "platformer"),
        ((press(pygame.K_RIGHT), press(pygame.K_RIGHT), press(pygame.K_SPACE)), "racing"),
        ((press(pygame.K_LEFT), ENTER), "platformer"),
        ((press(pygame.K_ESCAPE),), None),
        ((Event(pygame.QUIT),), None),
        ((Event(pygame.MOUSEBUTTONDOWN, pos=_place(1).center, button=1),), "platformer"),
        (
            (
                Event(pygame.CONTROLLERAXISMOTION, axis=0, value=30000, instance_id=0),
                Event(pygame.CONTROLLERBUTTONDOWN, button=0, instance_id=0),
            ),
            "platformer",
        ),
    ],
)
def test_a_game_is_chosen(screen: Screen, events: tuple[Event, ...], game: str | None) -> None:
    assert chosen(screen, *events) == game


def test_a_click_beside_the_cards_chooses_nothing(screen: Screen) -> None:
    beside = Event(pygame.MOUSEBUTTONDOWN, pos=(5, 5), button=1)
    assert chosen(screen, beside, press(pygame.K_q)) is None


def test_the_chosen_card_is_lit(screen: Screen) -> None:
    menu = Menu(screen, Typeface(), stop=lambda: True)
    menu.draw(now_s=100.0)
    edges = [screen.canvas.get_at((_place(i).left - 4, _place(i).centery))[:3] for i in range(2)]
    assert edges[0] != edges[1]
