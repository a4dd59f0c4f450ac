"""A stand-in for the engine: a thread with a ROUTER socket that speaks the protocol and paints plain
pictures."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
import zmq

from engine.protocol import (
    PROTOCOL_VERSION,
    Buttons,
    Command,
    Ended,
    Frame,
    Hello,
    Loading,
    Message,
    Ping,
    Pong,
    Refused,
    StageTimes,
    Welcome,
    pack,
    unpack_to_engine,
)
from games import GAMES


@dataclass
class Script:
    """What the fake does; times in seconds after Welcome unless said otherwise."""

    fps: float = 60.0
    stride: int = 4
    loading: tuple[tuple[str, float], ...] = ()
    refuse: Refused | None = None
    version: int = PROTOCOL_VERSION
    game: str | None = None
    silent: bool = False
    vanish_after_s: float | None = None
    end_after_s: float | None = None
    ended: Ended = field(default_factory=lambda: Ended(role="world", reason="out of memory", exit_code=3))
    telemetry: Callable[[int], list[float]] | None = None
    size: tuple[int, int] = (720, 480)
    garbage: bool = False
    reset_takes_s: float = 0.0
    restart_after_s: float | None = None
    """Forget the session, and what was shown, and wait for another Hello."""


class FakeEngine:
    """Use as a context manager: `address` to connect to, `received` holds every message it got, in order."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.received: list[Message] = []
        self.sent_frames = self.restarts = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.router_handover = 1
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}"
        self._stop, self._restart = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "FakeEngine":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(5)
        self._socket.close()
        self._context.term()

    def restart(self) -> None:
        """As an engine started anew at the same address, soon."""
        self._restart.set()

    def buttons(self) -> list[Buttons]:
        return [m for m in self.received if isinstance(m, Buttons)]

    def commands(self) -> list[str]:
        return [m.kind for m in self.received if isinstance(m, Command)]

    # -- the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._peer, self._welcomed_s = b"", None
        self._epoch = self._index = self._held = self._seq = 0
        self._paused, self._beside, next_s = False, False, 0.0
        while not self._stop.is_set():
            if self._socket.poll(2):
                self._take()
            now_s = time.perf_counter()
            if self._welcomed_s is None or self._gone(now_s - self._welcomed_s):
                continue
            if not self._paused and now_s >= next_s:
                next_s = max(next_s + 1 / self.script.fps, now_s - 0.1)
                self._send_frame()
        while self._socket.poll(100):  # what the client said last travels on when it has gone
            self._take()

    def _gone(self, playing_s: float) -> bool:
        script = self.script
        if script.end_after_s is not None and playing_s > script.end_after_s:
            self._send(script.ended)
            self._welcomed_s = None
            return True
        if script.restart_after_s is not None and playing_s > script.restart_after_s and not self.restarts:
            self.restart()
        if self._restart.is_set():
            self._restart.clear()
            self.restarts += 1
            self._welcomed_s, self._epoch, self._index, self._seq = None, 0, 0, 0
            self._paused = self._beside = False
            return True
        return script.vanish_after_s is not None and playing_s > script.vanish_after_s

    def _take(self) -> None:
        self._peer, part = self._socket.recv_multipart()
        message = unpack_to_engine(part)
        self.received.append(message)
        if isinstance(message, Hello) and self._welcomed_s is None and not self.script.silent:
            self._greet(message)
        elif isinstance(message, Hello) and not self.script.silent:
            self._send(self._welcome)
        elif isinstance(message, Buttons) and message.seq > self._seq:
            self._held, self._seq = message.held, message.seq
        elif isinstance(message, Command):
            self._obey(message)
        elif isinstance(message, Ping):
            self._send(Pong(nonce=message.nonce))

    def _greet(self, hello: Hello) -> None:
        script = self.script
        for stage, fraction in script.loading:
            self._send(Loading(stage=stage, fraction=fraction))
        if script.refuse is not None:
            self._send(script.refuse)
            return
        spec = GAMES[hello.game]
        self.spec = spec
        self._picture = np.full((script.size[1], script.size[0], 3), 90, np.uint8)
        self._welcome = (
            Welcome(
                version=script.version, session=f"s{self.restarts}", game=script.game or hello.game,
                mode=hello.mode,
                seed=hello.seed, width=script.size[0], height=script.size[1], fps=60,
                stride=script.stride, lag=2, device="cpu", backend="fake", decoder="plain",
                weights="0123456789ab",
            )
        )  # fmt: skip
        self._send(self._welcome)
        self._welcomed_s = time.perf_counter()

    def _obey(self, command: Command) -> None:
        if command.kind in ("pause", "resume"):
            self._paused = command.kind == "pause"
        elif command.kind in ("reset", "new_seed"):
            time.sleep(self.script.reset_takes_s)
            self._epoch, self._index = self._epoch + 1, 0
        elif command.kind == "step":
            for _ in range(self.script.stride):
                self._send_frame()
        elif command.kind in ("beside", "alone"):
            self._beside = command.kind == "beside"
        elif command.kind == "bye":
            self._welcomed_s = None

    def _send(self, message: Message, pixels: bytes | memoryview = b"") -> None:
        self._socket.send_multipart([self._peer, pack(message, pixels)], zmq.DONTWAIT)

    def _send_frame(self) -> None:
        script = self.script
        if script.garbage:
            self._socket.send_multipart([self._peer, b"DC\x01\x00\x00\x00\xc1"], zmq.DONTWAIT)
        ahead = self._index % script.stride
        telemetry = script.telemetry(self._index) if script.telemetry else [0.0] * len(self.spec.telemetry)
        frame = (
            Frame(
                epoch=self._epoch, index=self._index, kind="filled" if ahead else "true", ahead=ahead,
                step=self._index // script.stride, stride=script.stride, lag=2, applied_seq=self._seq,
                buttons=self._held, telemetry=telemetry, dropped=0, latent_hash="00" * 8,
                times=StageTimes(world_ms=8.0, extrapolate_ms=1.0, decode_ms=3.0, queue_ms=2.0),
                width=script.size[0], height=script.size[1],
            )
        )  # fmt: skip
        self._send(frame, self._picture.data)
        if self._beside and not ahead:
            self._send(msgspec.structs.replace(frame, beside=True), (self._picture + 60).data)
        self._index += 1
        self.sent_frames += 1
