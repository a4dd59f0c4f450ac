"""A local engine: started as its own process, watched, and stopped with everything it started.

The pipe on its standard input is the leash: when this process ends for whatever reason, the pipe closes and
the engine stops by itself.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from importlib.util import find_spec
from pathlib import Path

from client.errors import UserError

ERROR_PREFIX = "dreamcade: error: "
PACKAGE_ROOT = Path(__file__).resolve().parents[1]
_STOP_S = 3.0
_MAX_IPC_PATH = 100  # the kernel's limit on a socket's path is 108 bytes


def require_engine_installed(purpose: str) -> None:
    """Raises UserError if the engine's libraries are missing, without importing them."""
    if find_spec("torch") is None:
        raise UserError(
            f"{purpose} needs the engine: pip install '.[engine]' in the clone"
            " (or attach to a remote one: dreamcade play GAME --engine tcp://host:port)"
        )


def engine_environment() -> dict[str, str]:
    """Environment in which `python -m engine...` finds this installation, whatever the working directory
    holds."""
    environment = dict(os.environ, PYTHONSAFEPATH="1")
    path = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([str(PACKAGE_ROOT), path] if path else [str(PACKAGE_ROOT)])
    return environment


def engine_command(module: str, arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


class EngineProcess:
    """`python -m engine.launch` on this machine, listening where only this user can reach it."""

    def __init__(self, arguments: list[str]) -> None:
        """arguments: of engine.launch, without --listen."""
        self._directory, self.address = _private_address()
        self._lines: deque[str] = deque(maxlen=200)
        # A session of its own: Ctrl-C in the terminal reaches the client alone, which then stops the engine.
        self._process = subprocess.Popen(
            engine_command("engine.launch", [*arguments, "--listen", self.address, "--until-stdin-closes"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=engine_environment(),
            start_new_session=os.name == "posix",
        )
        self._reader = threading.Thread(target=self._read, name="engine-output", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises UserError with the engine's own last word if it has ended."""
        code = self._process.poll()
        if code is None:
            return
        self._reader.join(timeout=1.0)
        lines = list(self._lines)
        errors = [line for line in lines if line.startswith(ERROR_PREFIX)]
        if errors:
            text = errors[-1].removeprefix(ERROR_PREFIX)
        elif code < 0:
            text = f"the engine's launcher was killed (signal {-code}); play again"
        else:
            text = f"the engine stopped (exit code {code})" + (f": {lines[-1]}" if lines else "")
        raise UserError(text, code if 0 < code < 256 else 1)

    def wait(self, timeout_s: float) -> None:
        """Give the engine time to end by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def close(self) -> None:
        """Stop the engine: by closing its pipe, then by asking, then by force. Returns within seven
        seconds."""
        process = self._process
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        self.wait(_STOP_S)
        if process.poll() is None:
            process.terminate()
            self.wait(_STOP_S)
        if process.poll() is None:
            self._kill()
            process.wait()
        self._reader.join(timeout=1.0)
        self._show_crash()
        if process.stdout is not None and not self._reader.is_alive():
            process.stdout.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _show_crash(self) -> None:
        """What the engine printed when it crashed, for a report; expected failures print no traceback."""
        lines = list(self._lines)
        crash = next((i for i, line in enumerate(lines) if line.startswith("Traceback")), len(lines))
        for line in lines[crash:]:
            print(f"engine: {line}", file=sys.stderr)

    def _kill(self) -> None:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # the group that start_new_session made
        else:
            self._process.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self._lines.append(text)


def _private_address() -> tuple[Path | None, str]:
    """A directory only this user may enter and an ipc address in it; loopback TCP where ipc is missing."""
    if os.name != "posix":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return None, f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    directory = Path(tempfile.mkdtemp(prefix="dreamcade-"))
    if len(str(directory)) > _MAX_IPC_PATH:
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="dreamcade-", dir="/tmp"))
    return directory, f"ipc://{directory}/front.ipc"


def run_in_foreground(module: str, arguments: list[str]) -> int:
    """Run an engine module on this terminal until it ends; its exit code.

    Its input is a pipe of ours, kept open: the engine stops when it closes, also without a terminal (a
    service).
    """
    process = subprocess.Popen(
        engine_command(module, arguments), stdin=subprocess.PIPE, env=engine_environment()
    )
    previous = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        while True:
            try:
                code = process.wait()
                return code if code >= 0 else 128 - code
            except KeyboardInterrupt:
                continue  # Ctrl-C reached the engine too; wait for its own clean end
    finally:
        signal.signal(signal.SIGTERM, previous)
        if process.stdin is not None:
            process.stdin.close()
