"""What is heard follows from the telemetry; without a device there is silence."""

import numpy as np
import pygame
import pytest

from client.sound import RATE, Listener, Sound, _effects, hum, rumble
from games import GAMES

RACING, PLATFORMER = GAMES["racing"], GAMES["platformer"]


def heard(game: str, *frames: dict[str, float], epochs: tuple[int, ...] = ()) -> list[list[str]]:
    """The sounds of each frame; fields that are not given are 0, or what they were."""
    spec, values = GAMES[game], dict.fromkeys((f.name for f in GAMES[game].telemetry), 0.0)
    listener, sounds = Listener(spec), []
    for i, changes in enumerate(frames):
        values |= changes
        sounds.append(listener.hear(list(values.values()), epochs[i] if epochs else 0))
    return sounds


def test_a_jump_a_coin_and_a_landing() -> None:
    assert heard(
        "platformer",
        {"grounded": 1, "alive": 1},
        {"grounded": 0, "vy": 9},
        {"coins": 1.1, "vy": 3},
        {"grounded": 0.9},
        {"alive": 0},
    ) == [[], ["jump"], ["coin"], ["land"], ["fall"]]


def test_a_walk_over_an_edge_is_no_jump() -> None:
    assert heard("platformer", {"grounded": 1}, {"grounded": 0, "vy": -1}) == [[], []]


def test_telemetry_that_flickers_makes_no_noise() -> None:
    frames = [{"grounded": 0.55 + 0.09 * (i % 2), "coins": 3 + 0.4 * (i % 2)} for i in range(20)]
    assert heard("platformer", *frames) == [[]] * 20
    up_and_down = [{"coins": 3 + i % 2} for i in range(20)]
    assert sum(map(len, heard("platformer", *up_and_down))) == 1


def test_another_beginning_is_not_an_event() -> None:
    sounds = heard("racing", {"lap": 3}, {"lap": 0}, {"lap": 1}, epochs=(0, 1, 1))
    assert sounds == [[], [], ["goal"]]
    assert heard("racing", {}, {"collision": 1}, {}) == [[], ["bump"], []]


def test_loops_meet_and_nothing_clips() -> None:
    for wave in (hum(0), hum(19), rumble(1.0, 60)):
        usual = np.abs(np.diff(wave)).max()
        assert abs(wave[0] - wave[-1]) <= 1.5 * usual
    for name, (wave, _) in _effects().items():
        assert np.abs(wave).max() <= 1.01 and len(wave) < 0.6 * RATE, name
        assert abs(wave[0]) < 0.2 and abs(wave[-1]) < 0.2, name


@pytest.fixture
def dummy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    yield
    pygame.mixer.quit()


def test_the_hum_follows_the_speed_and_m_mutes_it(dummy: None) -> None:
    sound = Sound(RACING, muted=False)
    assert sound.available
    telemetry = [0.0] * len(RACING.telemetry)
    for speed in (0.0, 12.0, 60.0, 0.5):
        telemetry[RACING.field_index("speed")] = speed
        sound.hear(telemetry, 0)
        assert pygame.mixer.get_busy()
    assert not sound.toggle() and not pygame.mixer.get_busy()
    sound.hear(telemetry, 0)
    assert not pygame.mixer.get_busy()
    assert sound.toggle()
    sound.hear(telemetry, 0)
    assert pygame.mixer.get_busy()


def test_without_a_device_there_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise pygame.error("no such audio device")

    monkeypatch.setattr(pygame.mixer, "init", none)
    sound = Sound(PLATFORMER, muted=False)
    assert not sound.available
    sound.hear([0.0] * len(PLATFORMER.telemetry), 0)
    sound.hush()
    assert not sound.toggle()
