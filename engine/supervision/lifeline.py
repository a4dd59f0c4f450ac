"""What ties a process of the engine to its supervisor: it lives no longer than that one, and shows that it
lives.

    stdin    the control pipe: lines from the supervisor; its closing means stop
    stdout   the status pipe: one JSON line per message, a Beat every 0.1 s from the main loop
    Linux    also a parent-death signal, for the case that the main loop and the control thread are stuck

Anything else the process or its libraries print goes to stderr.
"""

import ctypes
import io
import os
import queue
import signal
import sys
import threading
import time

import msgspec

BEAT_S = 0.1
PATIENCE_S = 2.0  # for the next beat, where nothing is known that takes longer
CREW_PATIENCE_S = 3.0  # the same where ranks wait for each other: the one that idles hung is found first
LOADING_S = 300.0  # the same while models load and compile
GRACE_S = 1.5  # from the order to stop until the process is ended whatever it does
_PR_SET_PDEATHSIG = 1


class Status(msgspec.Struct, frozen=True, tag=True):
    pass


class Beat(Status, frozen=True, tag=True):
    """The main loop turns, and will again within `patience_s`: more before something known to take long."""

    patience_s: float


class Failed(Status, frozen=True, tag=True):
    """About to exit because of something the user can change."""

    reason: str
    exit_code: int


class Listening(Status, frozen=True, tag=True):
    """The gateway is bound to `address` (with the port the system chose, if it did)."""

    address: str


class Ending(msgspec.Struct, frozen=True, tag=True):
    """Supervisor -> gateway: tell the clients, then exit. user_error: not a crash, so a client that has no
    session yet is refused with this reason."""

    role: str
    reason: str
    exit_code: int
    user_error: bool = False


read_status = msgspec.json.Decoder(Beat | Failed | Listening).decode
write_line = msgspec.json.Encoder().encode
_read_ending = msgspec.json.Decoder(Ending).decode


class Lifeline:
    """parent: the supervisor's process id; 0 where nobody of ours supervises (torchrun does in its own
    way)."""

    def __init__(self, parent: int, death_signal: signal.Signals = signal.SIGTERM) -> None:
        self.stopping = False
        self.orders: queue.SimpleQueue[Ending] = queue.SimpleQueue()
        self._beaten_s = -1.0
        self._patience_s = LOADING_S
        self._status = -1
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the supervisor, which ends us in order
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        if parent:
            die_with_parent(parent, death_signal)
            self._status = os.dup(sys.stdout.fileno())
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
            threading.Thread(target=self._follow_orders, daemon=True, name="control").start()

    def stop(self) -> None:
        """The main loop is to return; if it does not within the grace time, the process ends without it."""
        if not self.stopping:
            self.stopping = True
            threading.Thread(target=_exit_later, daemon=True, name="grace").start()

    def beat(self, patience_s: float = PATIENCE_S) -> None:
        """Only the main loop calls it, so that it proves progress: every turn, and before anything that takes
        long with how long that may be."""
        now_s = time.monotonic()
        if now_s - self._beaten_s >= BEAT_S or patience_s > self._patience_s:
            self._beaten_s, self._patience_s = now_s, patience_s
            self.tell(Beat(patience_s))

    def stops_within(self, seconds: float) -> bool:
        """Beats meanwhile. Whether the order to stop came: then an error was only another's death, which the
        supervisor names."""
        until_s = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < until_s:
            self.beat()
            time.sleep(0.02)
        return self.stopping

    def tell(self, status: Status) -> None:
        if self._status >= 0:
            try:
                os.write(self._status, write_line(status) + b"\n")
            except BrokenPipeError:
                self.stop()

    def _follow_orders(self) -> None:
        control = io.FileIO(0, closefd=False)  # not sys.stdin: its lock, held here, would abort the exit
        for line in iter(control.readline, b""):
            self.orders.put(_read_ending(line))
        self.stop()


def _exit_later() -> None:
    time.sleep(GRACE_S)
    os._exit(1)


def die_with_parent(parent: int, death_signal: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if hasattr(os, "getppid") and sys.platform != "win32" and os.getppid() != parent:
        os._exit(1)  # it died before the signal was asked for
