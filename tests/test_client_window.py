"""A real window on a display without a monitor: real keys, real pictures, the fake dream behind them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from client.theme import TRUE
from tests.engine_harness import ROOT, Engine, engine
from tests.virtual_display import MISSING, VirtualDisplay, virtual_display
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"needs {' and '.join(MISSING)} (Debian: apt-get install xvfb xdotool)"
)


@pytest.fixture(scope="module")
def display() -> Iterator[VirtualDisplay]:
    with virtual_display() as opened:
        yield opened


@pytest.fixture(scope="module")
def dream() -> Iterator[Engine]:
    with engine("--together", "yes", "--stride", "4") as running:
        yield running


class Window:
    """`dreamcade play` in a window of its own, played by the keys that `press` and `hold` move."""

    def __init__(self, display: VirtualDisplay, address: str, directory: Path, *arguments: str) -> None:
        self.display = display
        self.log = (directory / "stderr").open("w+b")
        command = [
            sys.executable,
            "-m",
            "client.cli",
            "play",
            "racing",
            "--engine",
            address,
            "--json",
            *arguments,
        ]
        environment = display.environment | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, env=environment, cwd=directory, stdout=subprocess.PIPE, stderr=self.log
        )

    def begin(self) -> None:
        """Wait until it has the keyboard and shows the game."""
        try:
            self.id = self.display.focused_window(self.process)
        except AssertionError as error:
            raise AssertionError(f"{error}; it said: {Path(self.log.name).read_text()!r}") from None
        wait_for(self.hud_is_there, 40.0, "the game did not begin")

    def canvas(self) -> np.ndarray:
        """The window's inside now, uint8 [h, w, 3]."""
        told = self.display.do("getwindowgeometry", "--shell", self.id).split()
        at = {name: int(value) for name, value in (line.split("=") for line in told)}
        rows, columns = slice(at["Y"], at["Y"] + at["HEIGHT"]), slice(at["X"], at["X"] + at["WIDTH"])
        return self.display.picture()[rows, columns]

    def extent(self) -> tuple[int, int]:
        """Width and height of what is lit at times; the fake dream's upper edge may stay dark."""
        lit = np.any([self.display.picture().max(axis=2) > 24 for _ in range(12)], axis=0)
        return int(np.ptp(np.flatnonzero(lit.any(0)))) + 1, int(np.ptp(np.flatnonzero(lit.any(1)))) + 1

    def hud_is_there(self) -> bool:
        """The line of measurements has the share of true frames in its colour; the title has it far below."""
        canvas = self.canvas()
        top = canvas[: len(canvas) // 10].astype(int)
        return bool((np.abs(top - TRUE).max(axis=2) < 12).any())

    def throttle_token(self) -> int:
        """Brightness of the fake dream's block of the throttle, which changes with the frames it was held."""
        canvas = self.canvas()
        assert canvas.shape == (480, 720, 3)
        return int(canvas[24, 48 * 2 + 24, 0])

    def press(self, *keys: str) -> None:
        self.display.do("key", *keys)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.log.close()


@contextmanager
def window(*arguments: object) -> Iterator[Window]:
    opened = Window(*arguments)  # type: ignore[arg-type]
    try:
        opened.begin()
        yield opened
    finally:
        opened.close()


def test_a_key_changes_the_picture_and_q_ends_the_play(
    display: VirtualDisplay, dream: Engine, tmp_path: Path
):
    with window(display, dream.address, tmp_path) as play:
        play.press("h")  # the measurements lie over the fake dream's row of buttons
        wait_for(lambda: not play.hud_is_there(), 10.0, "H did not hide the measurements")
        assert play.throttle_token() == 0
        display.do("keydown", "Up")
        wait_for(lambda: play.throttle_token() != 0, 10.0, "the throttle did not show")
        display.do("keyup", "Up")
        play.press("p")
        play.press("q")  # in a pause it quits at once
        out, _ = play.process.communicate(timeout=20)
        result = json.loads(out)
        assert play.process.returncode == 0 and result["frames"] > 2
        assert result["input_to_present_ms"]["p50"] > 0 and result["bad_messages"] == 0


def test_the_picture_keeps_its_aspect_in_a_window_of_any_size(
    display: VirtualDisplay, dream: Engine, tmp_path: Path
):
    with window(display, dream.address, tmp_path) as play:
        for size, expected in (((1080, 600), (900, 600)), ((600, 700), (600, 400)), ((720, 480), (720, 480))):
            display.do("windowsize", "--sync", play.id, *map(str, size))

            def fits(expected: tuple[int, int] = expected) -> bool:
                width, height = play.extent()
                return abs(width - expected[0]) <= 2 and -24 <= height - expected[1] <= 2

            wait_for(fits, 10.0, f"no picture of {expected} in a window of {size}: {play.extent()}")
        play.press("f")
        play.press("f")
        wait_for(play.hud_is_there, 10.0, "no measurements after a change to the full screen and back")
        play.press("q", "q")
        assert play.process.wait(20) == 0


def test_losing_the_engine_is_told_and_ends_the_play(display: VirtualDisplay, tmp_path: Path):
    with engine("--together", "yes") as dying, window(display, dying.address, tmp_path) as play:
        dying.process.kill()
        assert play.process.wait(20) == 1
        said = (tmp_path / "stderr").read_text()
        assert said.startswith("dreamcade: error: the engine ") and said.count("\n") == 1


def test_a_display_that_is_not_there_is_said_plainly(tmp_path: Path):
    command = [sys.executable, "-m", "client.cli", "play", "racing", "--engine", "tcp://127.0.0.1:1"]
    environment = VirtualDisplay.environment_for(":2147") | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stdout == ""
    assert "no display found; add --headless" in done.stderr and "Traceback" not in done.stderr
