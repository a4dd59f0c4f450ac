"""Several players on one engine: real engine processes, headless clients, each in a game of its own.

    python -m engine.bench.players --players 4 --seconds 10 --device cuda --json [--decoder-ranks 2 ..]

Players of engine/bench/roundtrip.py, a thread each, with seeds of their own. They are measured over the same
seconds, once all are in. Other options are the engine's (python -m engine.launch --help). Prints a line for
each player, what the engine does for all of them together, and ends with one JSON line."""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from engine.bench.roundtrip import Player, Seen, percentiles
from engine.errors import EngineError
from engine.pacing.clock import FPS
from engine.protocol import Welcome
from games import GAMES

_WAIT_S = 0.2  # of play between two looks whether everybody is in
_SETTLE_S = 4.0  # that is not counted: strides come down after three seconds
_FIRST_SEED = 1


@dataclass(frozen=True)
class Played:
    """One player's measured seconds."""

    seed: int
    welcome: Welcome
    seen: Seen


class Gathering:
    """Players who wait for each other, playing."""

    def __init__(self, players: int) -> None:
        self._missing = players
        self._changed = threading.Lock()

    def arrived(self) -> None:
        with self._changed:
            self._missing -= 1

    @property
    def complete(self) -> bool:
        return self._missing <= 0


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--game", choices=tuple(GAMES), default="racing")
    parser.add_argument("--players", type=int, default=2)
    parser.add_argument("--stride", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    options, engine_options = parser.parse_known_args()
    try:
        result = measure(options.game, options.players, options.stride, options.seconds, engine_options)
    except EngineError as error:
        print(f"dreamcade: error: {error}", file=sys.stderr)
        return error.exit_code
    if not options.json:
        print(table(result))
    print(json.dumps(result), flush=True)
    return 0


def measure(
    game: str, players: int, stride: int, seconds: float, engine_options: list[str]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="dc-") as folder:
        address = f"ipc://{folder}/front.ipc"
        command = [sys.executable, "-m", "engine.launch", "--listen", address, "--until-stdin-closes"]
        command += ["--game", game, "--players", str(players), *engine_options]
        engine = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        gathering = Gathering(players)

        def play(seed: int) -> Played:
            return play_one(address, game, seed, stride, seconds, gathering)

        try:
            with ThreadPoolExecutor(players) as threads:
                played = list(threads.map(play, range(_FIRST_SEED, _FIRST_SEED + players)))
        finally:
            assert engine.stdin is not None
            engine.stdin.close()
            engine.wait(10)
    return result_of(game, played, seconds)


def play_one(address: str, game: str, seed: int, stride: int, seconds: float, gathering: Gathering) -> Played:
    player = Player(address, game, seed, stride)
    try:
        welcome = player.welcome()
        gathering.arrived()
        while not gathering.complete:
            player.play(_WAIT_S)
        player.play(_SETTLE_S)
        return Played(seed, welcome, player.play(seconds))
    finally:
        gathering.arrived()  # nobody waits for one that failed
        player.close()


def result_of(game: str, played: list[Played], seconds: float) -> dict[str, Any]:
    players = [one_of(played_one, seconds) for played_one in played]
    welcome = played[0].welcome
    return {
        "bench": "players",
        "game": game,
        "device": welcome.device,
        "backend": welcome.backend,
        "seconds": seconds,
        "players": players,
        "shown_per_s": round(sum(one["shown_fps"] for one in players), 2),
        "true_frames_per_s": round(sum(one["true_frames_per_s"] for one in players), 2),
        "true_steps_per_s": round(sum(one["true_steps_per_s"] for one in players), 2),
    }


def one_of(played: Played, seconds: float) -> dict[str, Any]:
    """A player's figures. Game time is told by the newest true frame that each shown one builds on."""
    shown = played.seen.shown
    true = sum(frame.kind == "true" for frame in shown)
    first, last = (shown[0], shown[-1]) if shown else (None, None)
    steps = frames = 0
    if first is not None and last is not None:
        steps = last.step - first.step
        frames = (last.index - last.ahead) - (first.index - first.ahead)
    return {
        "seed": played.seed,
        "shown_fps": round(len(shown) / seconds, 2),
        "true_frames_per_s": round(true / seconds, 2),
        "true_steps_per_s": round(steps / seconds, 2),
        "real_time_factor": round(frames / FPS / seconds, 4),
        "filled_fraction": round(1 - true / max(1, len(shown)), 4),
        "stride": last.stride if last is not None else 0,
        "lag": last.lag if last is not None else 0,
        "input_to_present_ms": percentiles(played.seen.to_present_ms),
        "input_to_true_ms": percentiles(played.seen.to_true_ms),
    }


def table(result: dict[str, Any]) -> str:
    lines = ["seed  shown/s  true/s  real time  stride  lag  key to picture p50 / p99, ms"]
    for one in result["players"]:
        late = one["input_to_present_ms"]
        lines.append(
            f"{one['seed']:4}  {one['shown_fps']:7.1f}  {one['true_frames_per_s']:6.1f}"
            f"  {one['real_time_factor']:9.3f}  {one['stride']:6}  {one['lag']:3}"
            f"  {late['p50'] or 0:.0f} / {late['p99'] or 0:.0f}"
        )
    lines.append(
        f"all   {result['shown_per_s']:7.1f}  {result['true_frames_per_s']:6.1f}"
        f"  ({result['device']}, {result['backend']})"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
