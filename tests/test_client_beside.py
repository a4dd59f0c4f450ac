"""The window's two halves: what is compared, what is said, how wide the canvas is."""

import dataclasses
from pathlib import Path

import numpy as np
import pygame
import pytest

from client.app import play
from client.beside import BesideView
from client.connection import Picture
from client.options import PlayOptions
from engine.protocol import BesideState
from tests.fake_engine import FakeEngine
from tests.test_client_play import Fingers, keep_environment, press, result  # noqa: F401
from tests.test_client_report import frame


def picture(index: int, beside: bool, grey: int, epoch: int = 0) -> Picture:
    pixels = np.full((480, 720, 3), grey, np.uint8)
    header = frame(index, epoch=epoch, kind="true", ahead=0, beside=beside)
    return Picture(header, pixels.data.cast("B"), received_s=1.0 + index / 60)


def test_pictures_of_the_same_frame_are_compared_and_the_parting_is_said() -> None:
    view = BesideView()
    assert view.toggle() and view.status(frame(0)) == "starting"
    for index in range(0, 200, 4):
        view.dreamed(picture(index, False, 100))
        view.simulated(picture(index, True, 100 if index < 100 else 180))
        alike = view.alike_db
        assert alike is not None and (alike > 50) == (index < 100)
    assert view.parted_at is not None and 100 < view.parted_at < 170
    assert view.status(frame(198)) == "2 frames behind" and view.waiting(frame(198)) is None
    assert "catching up" in (view.waiting(frame(400)) or "")
    view.dreamed(picture(0, False, 100, epoch=1))  # both begin again
    assert view.parted_at is None and view.picture is None
    view.simulated(picture(196, True, 100))  # of the epoch before
    assert view.picture is None


def test_frames_of_different_indices_are_never_compared() -> None:
    view = BesideView()
    view.toggle()
    view.dreamed(picture(4, False, 100))
    view.simulated(picture(8, True, 100))
    assert view.picture is not None and view.alike_db is None


def test_catching_up_is_said_and_a_simulator_that_stopped_is_gone() -> None:
    view = BesideView()
    view.toggle()
    view.told(BesideState(state="catching up", fraction=0.25))
    assert view.status(frame(0)) == "catching up, 25 %"
    view.told(BesideState(state="stopped", reason="gone"))
    assert not view.on


def test_v_asks_for_the_simulator_and_the_picture_shows_both(tmp_path: Path) -> None:
    saved = tmp_path / "both.png"
    options = PlayOptions(game="racing", headless=True, seed=5, seconds=1.0, picture=saved)
    with FakeEngine() as engine:
        Fingers(engine, (0.1, press(pygame.K_v)))
        r = result(play(dataclasses.replace(options, engine=engine.address)))
    assert engine.commands() == ["beside", "bye"]
    assert r["beside"]["frames"] > 3
    image = pygame.image.load(saved)
    assert image.get_size() == (1448, 480)
    assert image.get_at((360, 240))[:3] == (90, 90, 90)  # the fake's dream
    assert image.get_at((728 + 360, 240))[:3] == (150, 150, 150)  # the fake's simulator


@pytest.mark.parametrize("again", [False, True])
def test_v_again_leaves_the_dream_alone(tmp_path: Path, again: bool) -> None:
    options = PlayOptions(game="racing", headless=True, seconds=0.8, beside=True, picture=tmp_path / "p.png")
    with FakeEngine() as engine:
        Fingers(engine, *[(0.2, press(pygame.K_v))] * again)
        result(play(dataclasses.replace(options, engine=engine.address)))
    assert engine.commands() == ["beside", *["alone"] * again, "bye"]
    assert pygame.image.load(tmp_path / "p.png").get_size() == ((720, 480) if again else (1448, 480))
