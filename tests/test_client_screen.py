"""What is drawn: no window needed, every panel at every value."""

import os
from collections.abc import Iterator

import msgspec
import pygame
import pytest

from client.connection import Picture
from client.dashboard import dashboard_for
from client.loading import LoadingScreen
from client.overlay import Overlay
from client.pulse import Pulse
from client.report import Live
from client.screen import Screen, display_available
from client.theme import FILLED, TRUE, WARN, Typeface, ease_out, mark
from client.view import View
from engine.protocol import StageTimes
from games import GAMES
from games.spec import GameSpec
from tests.test_client_report import frame


@pytest.fixture
def screen() -> Iterator[Screen]:
    before = dict(os.environ)
    opened = Screen("test", (720, 480), headless=True)
    yield opened
    opened.close()
    os.environ.clear()
    os.environ.update(before)


def extremes(spec: GameSpec) -> list[list[float]]:
    """Telemetry at its low, middle and high ends, and beyond."""
    return [
        [
            f.low + share * (f.high - f.low) * (40 if f.kind in ("count", "event") else 1)
            for f in spec.telemetry
        ]
        for share in (-0.5, 0.0, 0.3, 0.5, 1.0, 1.5)
    ]


@pytest.mark.parametrize("game", list(GAMES))
def test_dashboards_draw_any_telemetry(screen: Screen, game: str) -> None:
    dashboard = dashboard_for(GAMES[game], Typeface())
    for telemetry in extremes(GAMES[game]):
        screen.canvas.fill((90, 90, 90))
        dashboard.draw(screen.canvas, telemetry)
        assert screen.canvas.get_at((16, 470))[:3] != (90, 90, 90)


@pytest.mark.parametrize("game", list(GAMES))
def test_the_title_shows_progress(screen: Screen, game: str) -> None:
    loading = LoadingScreen(GAMES[game], Typeface())
    loading.progress("compiling", float("nan"))
    loading.draw(screen.canvas)
    loading.progress("compiling", 7.0)
    for _ in range(60):
        loading.draw(screen.canvas)
    assert screen.canvas.get_at((600, 427))[:3] == TRUE


def test_the_picture_is_shown_unchanged_where_nothing_lies_over_it(screen: Screen) -> None:
    pixels = bytes(range(250)) * (720 * 480 * 3 // 250 + 1)
    picture = Picture(frame(1), memoryview(pixels)[: 720 * 480 * 3], 0.0)
    view = View(screen, Typeface(), GAMES["racing"], "backend")
    view.draw(picture, Live(60.0, 15.0, 0.75, None), 0.0)
    at = (360 + 720 * 240) * 3
    assert tuple(screen.canvas.get_at((360, 240)))[:3] == tuple(picture.pixels[at : at + 3])


def test_every_panel_draws(screen: Screen) -> None:
    view = View(screen, Typeface(), GAMES["racing"], "backend")
    picture = Picture(frame(1), memoryview(bytes(720 * 480 * 3)), 0.0)
    live = Live(60.0, 15.0, 0.0, 40.0)
    for state in (
        {"paused": True},
        {"paused": True, "stepping": True},
        {"silent_s": 3.0},
        {"recording": True},
    ):
        view.say("a notice")
        view.draw(picture, live, 1.0, **state)
        view.draw(picture, live, 1.5, **state)
    view.toggle_hud()
    view.toggle_pulse()
    view.draw(picture, live, 2.0)
    view.farewell("the end", picture)
    Overlay(Typeface()).message(screen.canvas, "title", "word " * 60, 1.0)


def beating(typeface: Typeface) -> Pulse:
    """Two seconds of a quick engine: a frame each 1/60 s, every fourth one true, one late by two frames."""
    pulse = Pulse(typeface)
    for index in range(130):
        times = StageTimes(world_ms=9.0, extrapolate_ms=0.0 if index % 4 == 0 else 1.0, decode_ms=7.5)
        kind = "true" if index % 4 == 0 else "filled"
        late = 2 / 60 if index >= 100 else 0.0
        shown = msgspec.structs.replace(frame(index), kind=kind, times=times)
        pulse.note(shown, index / 60 + late)
        pulse.note(shown, index / 60 + late + 0.001)  # the same one, drawn again
    return pulse


def test_the_pulse_tells_frame_times_and_stages(screen: Screen) -> None:
    pulse = beating(Typeface())
    assert pulse.stages == {"step": 9.0, "fill in": 1.0, "decode": 7.5, "key in the engine": 0.0}
    pulse.draw(screen.canvas, 3)
    columns = [[screen.canvas.get_at((x, y))[:3] for y in range(60, 105)] for x in range(20, 20 + 240, 2)]
    tall = [sum(colour == TRUE for colour in column) for column in columns]
    high = [45 - min(i for i, c in enumerate(column) if c in (TRUE, FILLED)) for column in columns]
    assert sum(count > 5 for count in tall) == 30, "a quarter of 120 is true"
    late = high.index(max(high))
    assert late == 119 - 29 and high[late] > 2 * sorted(high)[60], (
        "the late one stands out, 29 before the newest"
    )


def test_a_pause_is_no_wait_between_two_frames() -> None:
    pulse = Pulse(Typeface())
    for index, now_s in enumerate((0.0, 1 / 60, 30.0)):
        pulse.note(frame(index), now_s)
    assert [round(beat.since_ms, 1) for beat in pulse._beats] == [16.7]
    assert Pulse(Typeface()).stages == {}


def test_a_failed_recording_is_red(screen: Screen) -> None:
    view = View(screen, Typeface(), GAMES["racing"], "backend")
    picture = Picture(frame(1), memoryview(bytes(720 * 480 * 3)), 0.0)

    def has_red(**state: bool) -> bool:
        view.draw(picture, Live(60.0, 15.0, 0.75, 40.0), 1.0, **state)
        return any(screen.canvas.get_at((x, y))[:3] == WARN for x in range(580, 712) for y in range(8, 48))

    assert not has_red() and not has_red(recording=True)
    assert has_red(recording_failed=True)


@pytest.mark.parametrize(("silent_s", "kept"), [(2.0, True), (29.0, True), (31.0, False), (59.0, False)])
def test_a_lost_game_is_not_said_to_be_kept(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, silent_s: float, kept: bool
) -> None:
    said: list[str] = []
    monkeypatch.setattr(Overlay, "warning", lambda self, canvas, text: said.append(text))
    view = View(screen, Typeface(), GAMES["racing"], "fake")
    shown = Picture(frame(0), memoryview(bytes(720 * 480 * 3)), 0.0)
    view.draw(shown, Live(60.0, 15.0, 0.75, 20.0), 1.0, silent_s=silent_s, remote=True)
    assert len(said) == 1 and f"{silent_s:.0f} s" in said[0]
    assert ("your game is kept" in said[0]) == kept and ("let go" in said[0]) != kept


def test_true_and_filled_differ_in_colour_and_shape(screen: Screen) -> None:
    true, filled = mark("true", 12), mark("filled", 12)
    assert true.get_at((6, 6))[:3] == TRUE and true.get_at((2, 2)).a > 200
    assert filled.get_at((6, 6)).a == 0 and filled.get_at((2, 2)).a < 60
    assert filled.get_at((6, 2))[:3] == FILLED


def test_changing_numbers_stand_still(screen: Screen) -> None:
    typeface = Typeface()
    assert typeface.number("111", 20).get_width() == typeface.number("888", 20).get_width()


def test_panels_ease_in_within_160_ms() -> None:
    assert ease_out(0.0) == 0.0 and 0.5 < ease_out(0.08) < 1.0 and ease_out(0.16) == 1.0


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "w"}, "linux", True),
        ({"SDL_VIDEODRIVER": "offscreen"}, "linux", True),
        ({"DISPLAY": ""}, "linux", False),
        ({}, "darwin", True),
        ({}, "win32", True),
    ],
)
def test_a_display_is_expected_where_there_can_be_one(
    environment: dict[str, str], platform: str, expected: bool
) -> None:
    assert display_available(environment, platform) is expected


def test_a_screenshot_is_written(screen: Screen, tmp_path) -> None:
    screen.canvas.fill((1, 2, 3))
    screen.save(str(tmp_path / "a.png"))
    assert pygame.image.load(str(tmp_path / "a.png")).get_at((0, 0))[:3] == (1, 2, 3)
