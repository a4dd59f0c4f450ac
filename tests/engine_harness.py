"""Real engine processes and a test client over real sockets, with the fake backend."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from engine.protocol import (
    PROTOCOL_VERSION,
    Beginning,
    Buttons,
    Command,
    Frame,
    Hello,
    Loading,
    Message,
    Ping,
    Pong,
    TrueStep,
    Welcome,
    pack,
    unpack_to_client,
)
from engine.team import Team

ROOT = Path(__file__).resolve().parents[1]
PASSING = Loading | Frame | Welcome | Beginning | TrueStep
"""What an engine sends without being asked."""


class Engine:
    """`python -m engine.launch` in a directory of its own."""

    def __init__(self, *arguments: str, listen: str = "", fake: bool = True) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="dc-")
        self.directory = Path(self._directory.name)
        self.address = listen or f"ipc://{self.directory}/front.ipc"
        self._stderr = (self.directory / "stderr").open("w+b")
        command = [
            sys.executable,
            "-m",
            "engine.launch",
            "--listen",
            self.address,
            "--until-stdin-closes",
            *arguments,
        ]
        self.process = subprocess.Popen(
            command + ["--fake"] * fake,
            bufsize=0,  # so that `line` sees by select what waits
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(self.directory)},
        )

    @property
    def stderr(self) -> str:
        return (self.directory / "stderr").read_text(encoding="utf-8")

    def processes(self) -> dict[str, int]:
        """Living processes of this engine: name ("gateway", "world", "decoder 1", "launch") -> pid."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                module = next((word for word in words if word.startswith("engine.")), "")
                if alive and module and any(str(self.directory) in word for word in words):
                    ranks = module == "engine.rank"
                    name = rank_name(entry, words) if ranks else module.removeprefix("engine.")
                    found[name] = int(entry.name)
            except (OSError, StopIteration):  # it died meanwhile
                continue
        return found

    def line(self, timeout_s: float = 60.0) -> str:
        """The next line that the engine prints; empty when it ended without one."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        assert ready, f"the engine printed nothing within {timeout_s} s: {self.stderr}"
        return self.process.stdout.readline().decode()

    def wait(self, timeout_s: float = 4.0) -> int:
        return self.process.wait(timeout_s)

    def assert_nothing_left(self, within_s: float = 2.5) -> None:
        until_s = time.monotonic() + within_s
        while (left := self.processes()) and time.monotonic() < until_s:
            time.sleep(0.02)
        files = [file.name for file in self.directory.iterdir() if file.name != "stderr"]
        assert not left and not files, (left, files)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                for pid in self.processes().values():
                    os.kill(pid, signal.SIGKILL)
                self.process.wait(5)
        for pipe in (self.process.stdin, self.process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()
        self._directory.cleanup()


def rank_name(process: Path, words: list[str]) -> str:
    """How the supervisor calls the rank that /proc shows here."""
    facts = (process / "environ").read_bytes().decode(errors="replace").split("\0")
    rank = int(next(fact for fact in facts if fact.startswith("RANK=")).partition("=")[2])
    counts = [int(words[words.index(f) + 1]) for f in ("--world-ranks", "--decoder-ranks", "--bands")]
    return Team(*counts, "--together" in words).seat(rank).name


class Player:
    """A client: keeps what it is told, sends its buttons every 0.05 s while it listens."""

    def __init__(self, address: str, holds: int = 1000) -> None:
        """holds: messages that wait here when nobody receives them."""
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, holds)
        self.socket.setsockopt(zmq.SNDTIMEO, 10_000)
        self.prepare()
        self.socket.connect(address)
        self.seq, self.held = 0, 0
        self._sent_s = 0.0

    def prepare(self) -> None:
        """What the socket still needs before it connects."""

    def send(self, message: Message) -> None:
        self.socket.send(pack(message))

    def hello(self, game: str = "racing", version: int = PROTOCOL_VERSION, **choices) -> None:
        self.send(Hello(version=version, game=game, **choices))

    def hold(self, held: int) -> int:
        """New buttons; returns their sequence number."""
        self.seq, self.held = self.seq + 1, held
        self.send(Buttons(seq=self.seq, held=held))
        return self.seq

    def receive(self, timeout_s: float) -> tuple[Message, bytes] | None:
        """The next message and its pixels; buttons are repeated meanwhile, as a sign of life."""
        until_s = time.monotonic() + timeout_s
        while (left_s := until_s - time.monotonic()) > 0:
            if time.monotonic() - self._sent_s > 0.05:
                self.send(Buttons(seq=self.seq, held=self.held))
                self._sent_s = time.monotonic()
            if self.socket.poll(min(left_s, 0.05) * 1000):
                message, pixels = unpack_to_client(self.socket.recv())
                return message, bytes(pixels)
        return None

    def expect(self, kind: type, timeout_s: float = 30.0):
        """The next message of `kind`; those that come of themselves are skipped."""
        until_s = time.monotonic() + timeout_s
        while (left_s := until_s - time.monotonic()) > 0:
            received = self.receive(left_s)
            if received is not None and isinstance(received[0], kind):
                return received[0]
            assert received is None or isinstance(received[0], PASSING), received[0]
        raise AssertionError(f"no {kind.__name__} within {timeout_s} s")

    def frames(self, seconds: float) -> list[tuple[Frame, bytes]]:
        """Everything shown for a while, counted from the first frame."""
        shown: list[tuple[Frame, bytes]] = []
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            received = self.receive(left_s)
            if received is not None and isinstance(received[0], Frame):
                shown.append((received[0], received[1]))
        return shown

    def join(self, **choices) -> Welcome:
        self.hello(**choices)
        return self.expect(Welcome)

    def bye(self, timeout_s: float = 30.0) -> None:
        """Leave, and wait until the gateway has heard it: a newcomer's hello, which comes over another link,
        may overtake it."""
        self.send(Command(kind="bye"))
        until_s, nonce = time.monotonic() + timeout_s, 0
        while (now_s := time.monotonic()) < until_s:
            nonce += 1
            self.send(Ping(nonce=nonce))  # again, as the answer is dropped where pictures fill the line
            while (received := self.receive(now_s + 0.5 * nonce - time.monotonic())) is not None:
                if received[0] == Pong(nonce=nonce):
                    return
        raise AssertionError(f"the gateway heard no bye within {timeout_s} s")

    def close(self) -> None:
        self._context.destroy(linger=100)


@contextmanager
def engine(*arguments: str, **choices) -> Iterator[Engine]:
    running = Engine(*arguments, **choices)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def player(address: str, **choices) -> Iterator[Player]:
    playing = Player(address, **choices)
    try:
        yield playing
    finally:
        playing.close()
