"""The supervisor: starts the gateway and the ranks, watches them, and leaves nothing behind.

    python -m engine.launch --listen ipc:///tmp/front.ipc [--game racing]
    python -m engine.launch --listen tcp://127.0.0.1:7878 --together no --players 2

The gateway comes first and answers at once; ranks load while clients watch the progress. One end is
everybody's end: when a process dies, hangs or is told to stop, clients are told why, the rest is stopped, and
the exit code says it.
"""

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from engine.errors import EngineError
from engine.supervision.auto_layout import auto_layout
from engine.supervision.child import Child, Event
from engine.supervision.launch_options import parse
from engine.supervision.lifeline import GRACE_S, Beat, Ending, Failed, Listening
from engine.supervision.placement import (
    child_environment,
    free_port,
    gateway_arguments,
    loopback_listener,
    players_of,
    rank_arguments,
    rank_environment,
    team_of,
)
from engine.team import Team

_STOP_S = GRACE_S + 0.2  # for everybody to end after being told, before being killed
_LOOK_S = 0.1


class Supervisor:
    """`run` returns the exit code. options: checked command line."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._team = options, chosen_team(options)
        self._players = players_of(options.players, options.device, self._team)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stop_asked = threading.Event()
        self._inner = Path(tempfile.mkdtemp(prefix="dreamcade-")) if os.name == "posix" else None
        self._children: list[Child] = []
        self._failed: dict[Child, Failed] = {}
        self._looked_s = time.monotonic()

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stop_asked.set())
        if self._options.until_stdin_closes:
            threading.Thread(target=self._follow_stdin, daemon=True, name="stdin").start()
        try:
            self._start()
            while (ending := self.step()) is None:
                pass
        except BaseException:
            self._close()
            raise
        if ending.exit_code:
            say_error(ending.reason)
        self._end(ending)
        self._close()
        return ending.exit_code

    def step(self) -> Ending | None:
        """Hear the children for a moment; returns how it ends, when it does."""
        if self._stop_asked.is_set():
            return Ending("engine", "the engine was stopped", 0)
        try:
            event = self._events.get(timeout=_LOOK_S)
        except queue.Empty:
            return self._hung()
        event.child.heard_s = time.monotonic()
        match event.report:
            case Beat(patience_s):
                event.child.patience_s = patience_s
            case Listening(address):
                print(f"dreamcade: listening on {address}", flush=True)
            case Failed() as failed:
                self._failed[event.child] = failed
            case None:
                return self._ended(event.child)
        return self._hung()

    def _ended(self, child: Child) -> Ending:
        if (failed := self._failed.get(child)) is not None:
            return Ending(child.name, failed.reason, failed.exit_code, user_error=True)
        return Ending(child.name, f"the {title(child.name)} {child.last_words()}", 1)

    def _hung(self) -> Ending | None:
        """Silent children, unless it was this process that slept (suspend, Ctrl-Z): then all get their time
        again."""
        now_s = time.monotonic()
        slept, self._looked_s = now_s - self._looked_s > 1.0, now_s
        if slept:
            for child in self._children:
                child.heard_s = now_s
        child = min(self._children, key=lambda one: one.heard_s + one.patience_s)
        if now_s - child.heard_s <= child.patience_s:
            return None
        # Ranks of a crew wait for each other: one that the system stopped is why the others are silent.
        child = next((one for one in self._children if one.is_stopped()), child)
        child.process.kill()
        silent = f"stopped answering for {child.patience_s:.0f} s and was killed"
        return Ending(child.name, f"the {title(child.name)} {silent}; start the engine again", 1)

    # -- starting -------------------------------------------------------------------------------------

    def _start(self) -> None:
        """The gateway first, so that clients see progress; ranks connect to it when they are up."""
        options, team = self._options, self._team
        inner = f"ipc://{self._inner}" if self._inner else f"tcp://127.0.0.1:{free_port()}"
        gateway = gateway_arguments(
            options.listen, inner, team, self._players, options.game, options.stride, options.fake
        )
        self._add(Child("gateway", gateway, child_environment()))
        store = loopback_listener() if team.size > 1 and os.name == "posix" else None
        port = store.getsockname()[1] if store is not None else free_port()
        arguments = rank_arguments(options, team, inner, self._players)
        for seat in team.seats():
            environment = rank_environment(options, seat.rank, team.size, port)
            pass_fds: tuple[int, ...] = ()
            if store is not None and seat.rank == 0:
                environment["MASTER_LISTEN_FD"] = str(store.fileno())
                pass_fds = (store.fileno(),)
            self._add(Child(seat.name, arguments, environment, pass_fds))
        if store is not None:
            store.close()

    def _add(self, child: Child) -> None:
        self._children.append(child)
        child.report_to(self._events)

    def _follow_stdin(self) -> None:
        while os.read(0, 4096):  # not sys.stdin: a thread inside its lock makes the interpreter's exit abort
            pass
        self._stop_asked.set()

    # -- ending ---------------------------------------------------------------------------------------

    def _end(self, ending: Ending) -> None:
        """Clients are told first; then everybody stops."""
        gateway = self._children[0]
        if gateway.process.poll() is None:
            gateway.order(ending)
        elif ending.exit_code and not ending.user_error:
            from engine.lobby.farewell import write_epitaph

            write_epitaph(self._options.listen, ending)

    def _close(self) -> None:
        """No process, no socket file, no directory is left."""
        for child in self._children:
            child.stop()
        until_s = time.monotonic() + _STOP_S
        for child in self._children:
            try:
                child.process.wait(max(0.0, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        if self._inner is not None:
            shutil.rmtree(self._inner, ignore_errors=True)


def chosen_team(options: argparse.Namespace) -> Team:
    """The ranks asked for, or with --layout auto the planner's, said aloud. Raises UsageError."""
    if options.layout == "auto":
        layout = auto_layout(options)
        print(f"dreamcade: layout: {layout.why}", flush=True)
        if layout.team is not None:
            return layout.team
    return team_of(options)


def title(name: str) -> str:
    """How a child is called in a sentence: "world 1" is the world rank 1."""
    role, _, number = name.partition(" ")
    return name if name == "gateway" else f"{role.replace(',', ' and ')} rank {number}".rstrip()


def say_error(reason: str) -> None:
    print(f"dreamcade: error: {reason}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> None:
    try:
        options = parse(argv)
        code = Supervisor(options).run()
    except EngineError as error:
        say_error(str(error))
        code = error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
