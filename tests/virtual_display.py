"""A real X display without a monitor: Xvfb, with fingers (xdotool) and eyes (its framebuffer as a file)."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.waiting import wait_for

NEEDED = ("Xvfb", "xdotool")
MISSING = [program for program in NEEDED if shutil.which(program) is None]
_XWD_FIELDS = 25  # big-endian uint32 each, see XWDFile.h


class VirtualDisplay:
    """`environment` makes programs open their windows here."""

    def __init__(self, directory: Path, width: int = 1280, height: int = 800) -> None:
        self._framebuffer = directory / "Xvfb_screen0"
        reading, writing = os.pipe()
        # Without -noreset it starts again when its last window closes, and refuses who comes just then.
        self._process = subprocess.Popen(
            [
                *f"Xvfb -noreset -displayfd {writing} -nolisten tcp".split(),
                *f"-screen 0 {width}x{height}x24 -fbdir".split(),
                str(directory),
            ],
            pass_fds=(writing,),
            stderr=subprocess.DEVNULL,
        )
        os.close(writing)
        with os.fdopen(reading) as pipe:
            number = pipe.readline().strip()  # a free one, once it listens there
        assert number, "Xvfb did not start"
        self.name = f":{number}"
        self.environment = self.environment_for(self.name)

    @staticmethod
    def environment_for(display: str) -> dict[str, str]:
        """This process's environment, with windows on `display` and no sound."""
        others = ("WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
        kept = {key: value for key, value in os.environ.items() if key not in others}
        return kept | {"DISPLAY": display, "SDL_AUDIODRIVER": "dummy"}

    def picture(self) -> np.ndarray:
        """The whole screen now, uint8 [H, W, 3]."""
        data = self._framebuffer.read_bytes()
        header = np.frombuffer(data, ">u4", _XWD_FIELDS)
        width, height, bytes_per_line, colours = (int(header[i]) for i in (4, 5, 12, 19))
        start = int(header[0]) + 12 * colours
        rows = np.frombuffer(data, np.uint8, bytes_per_line * height, start).reshape(height, -1, 4)
        return np.ascontiguousarray(rows[:, :width, 2::-1])

    def do(self, *arguments: str) -> str:
        """Run xdotool; what it printed."""
        done = self._run(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout.strip()

    def focused_window(self, process: "subprocess.Popen[bytes]", timeout_s: float = 40.0) -> str:
        """The id of a process's visible window, once there is one and it has the keyboard. SDL may open
        another in place of its first one: a window that is gone before it is focused is looked for anew."""

        def focused() -> str:
            assert process.poll() is None, f"the process ended with {process.returncode}"
            found = self._run("search", "--onlyvisible", "--pid", str(process.pid)).stdout.split("\n")[0]
            return found if found and self._run("windowfocus", "--sync", found).returncode == 0 else ""

        return wait_for(focused, timeout_s, "no window was opened")

    def _run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["xdotool", *arguments], env=self.environment, capture_output=True, text=True, timeout=20
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@contextmanager
def virtual_display(**size: int) -> Iterator[VirtualDisplay]:
    with tempfile.TemporaryDirectory(prefix="dc-x-") as directory:
        display = VirtualDisplay(Path(directory), **size)
        try:
            yield display
        finally:
            display.close()
