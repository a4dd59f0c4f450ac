"""One process of the engine as its supervisor sees it: control pipe, status pipe, when it was last heard."""

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.supervision.lifeline import LOADING_S, Beat, Ending, Failed, Listening, read_status, write_line

Report = Beat | Failed | Listening


@dataclass(frozen=True)
class Event:
    """Something a child said; report None: it ended."""

    child: "Child"
    report: Report | None


class Child:
    """One process of the engine: its control pipe, its status pipe, when it was last heard."""

    def __init__(
        self, name: str, arguments: list[str], environment: dict[str, str], pass_fds: tuple[int, ...] = ()
    ):
        self.name = name
        self.patience_s = LOADING_S
        self.heard_s = time.monotonic()
        self._command = [sys.executable, "-m", *arguments, "--parent", str(os.getpid())]
        # A process group of its own: Ctrl-C in the terminal is the supervisor's to answer.
        group: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | environment,
            pass_fds=pass_fds,
            **group,
        )

    def report_to(self, events: "queue.SimpleQueue[Event]") -> None:
        threading.Thread(target=self._read, args=(events,), daemon=True, name=f"{self.name} status").start()

    def order(self, ending: Ending) -> None:
        """Tell it through its control pipe; it may be gone."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(write_line(ending) + b"\n")
            self.process.stdin.flush()

    def stop(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def is_stopped(self) -> bool:
        """By a signal or a debugger; False where the system does not say."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[:1] in (["T"], ["t"])

    def last_words(self) -> str:
        """How it ended, for a human."""
        try:
            code = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "closed its status pipe"
        if code == -9:
            return "ended unexpectedly (signal 9): killed from outside, or by the system for lack of memory"
        if code < 0:
            return (
                f"ended unexpectedly (signal {-code}): it crashed; please report it with the messages above"
            )
        return f"ended unexpectedly (exit code {code}): please report it with the messages above"

    def _read(self, events: "queue.SimpleQueue[Event]") -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            events.put(Event(self, read_status(line)))
        events.put(Event(self, None))
