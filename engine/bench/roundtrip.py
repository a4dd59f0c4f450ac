"""Paced play as a client sees it: real engine processes, from a key to the first picture that claims it.

    python -m engine.bench.roundtrip --game racing --device cuda --seconds 10 --json [--world-ranks 1 ..]

A player that changes its keys every few tenths of a second, over the same sockets as the real one; pictures
are received and not drawn. Latency is from sending a key to having the first frame that claims it, and the
first true one. Other options are the engine's (python -m engine.launch --help). Ends with one JSON line."""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

import zmq

from engine.errors import EngineError
from engine.protocol import PROTOCOL_VERSION, Buttons, Ended, Frame, Hello, Refused, Welcome, pack
from engine.protocol import unpack_to_client as unpack
from games import GAMES

_LOADING_S = 300.0
_REPEAT_S = 1 / 60
_HELD_S = (0.15, 0.4)
_SETTLE_S = 1.0  # of play that is not counted


@dataclass
class Seen:
    """What a play showed, times in seconds of this process's monotonic clock."""

    sent_s: dict[int, float] = field(default_factory=dict)
    shown: list[Frame] = field(default_factory=list)
    to_present_ms: list[float] = field(default_factory=list)
    to_true_ms: list[float] = field(default_factory=list)
    claimed: dict[str, int] = field(default_factory=lambda: {"present": 0, "true": 0})

    def add(self, frame: Frame, now_s: float) -> None:
        self.shown.append(frame)
        self._claim("present", self.to_present_ms, frame.applied_seq, now_s)
        if frame.kind == "true":
            self._claim("true", self.to_true_ms, frame.applied_seq, now_s)

    def _claim(self, kind: str, took_ms: list[float], seq: int, now_s: float) -> None:
        for one in range(self.claimed[kind] + 1, seq + 1):
            if one in self.sent_s:
                took_ms.append((now_s - self.sent_s[one]) * 1e3)
        self.claimed[kind] = max(self.claimed[kind], seq)


class Player:
    """One client. Raises EngineError when the engine ends or does not begin."""

    def __init__(self, address: str, game: str, seed: int, stride: int) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)
        self._draw, self._mask = random.Random(seed), (1 << GAMES[game].n_buttons) - 1
        self._seq = self._held = 0
        self._sent_s = self._change_s = 0.0
        self._socket.send(pack(Hello(version=PROTOCOL_VERSION, game=game, seed=seed, stride=stride)))

    def close(self) -> None:
        self._context.destroy(linger=0)

    def welcome(self) -> Welcome:
        until_s = time.monotonic() + _LOADING_S
        while time.monotonic() < until_s:
            message = self._next(0.5, None)
            if isinstance(message, Welcome):
                return message
        raise EngineError(f"the engine was not ready within {_LOADING_S:.0f} s")

    def play(self, seconds: float) -> Seen:
        seen, until_s = Seen(), time.monotonic() + seconds
        while time.monotonic() < until_s:
            message = self._next(0.002, seen)
            if isinstance(message, Frame):
                seen.add(message, time.monotonic())
        return seen

    def _next(self, wait_s: float, seen: Seen | None) -> Any:
        now_s = time.monotonic()
        if seen is not None and now_s >= self._change_s:
            self._seq, self._held = self._seq + 1, self._draw.randint(0, self._mask)
            self._change_s, self._sent_s = now_s + self._draw.uniform(*_HELD_S), 0.0
            seen.sent_s[self._seq] = now_s
        if now_s - self._sent_s >= _REPEAT_S:
            self._socket.send(pack(Buttons(seq=self._seq, held=self._held)))
            self._sent_s = now_s
        if not self._socket.poll(max(1, int(wait_s * 1e3))):
            return None
        message, _ = unpack(self._socket.recv())
        if isinstance(message, Ended | Refused):
            raise EngineError(f"the engine ended: {message.reason}")
        return message


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--game", choices=tuple(GAMES), default="racing")
    parser.add_argument("--stride", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    options, engine_options = parser.parse_known_args()
    try:
        result = measure(options.game, options.stride, options.seconds, engine_options)
    except EngineError as error:
        print(f"dreamcade: error: {error}", file=sys.stderr)
        return error.exit_code
    if not options.json:
        for name, value in result.items():
            print(f"{name:22} {value}")
    print(json.dumps(result), flush=True)
    return 0


def measure(game: str, stride: int, seconds: float, engine_options: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="dc-") as folder:
        address = f"ipc://{folder}/front.ipc"
        command = [sys.executable, "-m", "engine.launch", "--listen", address, "--until-stdin-closes"]
        engine = subprocess.Popen(
            [*command, *engine_options], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        player = Player(address, game, seed=1, stride=stride)
        try:
            welcome = player.welcome()
            player.play(_SETTLE_S)
            seen = player.play(seconds)
        finally:
            player.close()
            assert engine.stdin is not None
            engine.stdin.close()
            engine.wait(10)
    return result_of(game, welcome, seen, seconds)


def result_of(game: str, welcome: Welcome, seen: Seen, seconds: float) -> dict[str, Any]:
    steps = [frame.step for frame in seen.shown]
    return {
        "bench": "roundtrip",
        "game": game,
        "device": welcome.device,
        "backend": welcome.backend,
        "seconds": seconds,
        "shown_fps": round(len(seen.shown) / seconds, 2),
        "true_steps_per_s": round((steps[-1] - steps[0]) / seconds, 2) if steps else 0.0,
        "filled_fraction": round(sum(f.kind == "filled" for f in seen.shown) / max(1, len(steps)), 4),
        "stride": seen.shown[-1].stride if steps else 0,
        "lag": seen.shown[-1].lag if steps else 0,
        "input_to_present_ms": percentiles(seen.to_present_ms),
        "input_to_true_ms": percentiles(seen.to_true_ms),
        "keys": len(seen.sent_s),
    }


def percentiles(values: list[float]) -> dict[str, float | None]:
    ordered = sorted(values)
    places = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {
        name: round(ordered[min(len(ordered) - 1, int(place * len(ordered)))], 2) if ordered else None
        for name, place in places.items()
    }


if __name__ == "__main__":
    sys.exit(main())
