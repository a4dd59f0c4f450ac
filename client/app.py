"""One play from the title to the report: start or find the engine, show its loading, play, sum up.

outcome = play(PlayOptions(game="racing", autopilot=True, headless=True, seconds=5))
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from client.connection import Connection
from client.engine_process import EngineProcess, require_engine_installed
from client.handshake import Handshake
from client.loading import LoadingScreen
from client.loop import Play
from client.options import PlayOptions
from client.processes import process_age_s, tree_rss_mib
from client.recorder import Recorder, require_empty
from client.screen import Screen
from client.theme import Typeface
from engine.protocol import Welcome
from games import GAMES


@dataclass(frozen=True)
class Outcome:
    """How a play ended. result: the JSON of play, None when no picture was ever shown; error: one line or
    None; unsaved: a line for each file that was asked for and is not whole."""

    exit_code: int
    result: dict[str, Any] | None
    error: str | None
    unsaved: tuple[str, ...] = ()


class StopSignal:
    """Remembers SIGINT or SIGTERM instead of dying of it, so that recordings and engines are closed
    properly."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> bool:
        return self.number != 0

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        previous = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.number = number


def play(options: PlayOptions) -> Outcome:
    """Play once. Raises UserError for what went wrong before the first picture."""
    process_started_s = time.perf_counter() - (process_age_s() or 0.0)
    if options.record is not None:
        require_empty(options.record)
    if options.engine is None:
        require_engine_installed("playing on this machine")
    spec, stop = GAMES[options.game], StopSignal()
    with contextlib.ExitStack() as stack:
        stack.enter_context(stop.installed())
        screen = Screen(
            f"Dreamcade: {spec.title}", (spec.width, spec.height), options.headless, options.fullscreen
        )
        stack.callback(screen.close)
        engine = None
        if options.engine is None:
            engine = EngineProcess(options.engine_arguments())
            stack.callback(engine.close)
        connection = Connection(options.engine or engine.address)  # type: ignore[union-attr]
        stack.callback(connection.close)
        typeface = Typeface()
        loading = LoadingScreen(spec, typeface)
        welcome = Handshake(options, connection, screen, loading, engine, stop).run()
        if welcome is None:  # the player closed the window
            return Outcome(128 + stop.number if stop() else 0, None, None)
        recorder = None
        if options.record is not None:
            recorder = Recorder(options.record, spec, options.mode, options.seed, welcome)
            stack.callback(recorder.close)
        session = Play(options, connection, screen, typeface, welcome, engine, recorder, stop)
        session.run()
        return _outcome(session, welcome, process_started_s, engine is not None, recorder, stop)


def choose_game(fullscreen: bool) -> str | None:
    """The title menu; None when the player left. Raises UserError when there is no display."""
    from client.menu import choose

    stop = StopSignal()
    with stop.installed():
        return choose(stop, fullscreen)


def _outcome(
    session: Play,
    welcome: Welcome,
    process_started_s: float,
    has_local_engine: bool,
    recorder: Recorder | None,
    stop: StopSignal,
) -> Outcome:
    """Sum up while the engine still runs: its memory is part of the result."""
    error, unsaved = session.error, _unsaved(session, recorder)
    code = error.exit_code if error is not None else 128 + stop.number if stop() else int(bool(unsaved))
    first_shown_s = session.report.first_shown_s
    if first_shown_s is None:
        return Outcome(code, None, None if error is None else str(error), unsaved)
    result = session.report.result(welcome)
    result["startup_s"] = round(first_shown_s - process_started_s, 3)
    result["rss_mib"] = tree_rss_mib(os.getpid()) if has_local_engine else None
    result["bad_messages"] = session.bad_messages
    if session.beside.shown:
        result["beside"] = session.beside.result()
    if recorder is not None:
        result["recording"] = recorder.summary()
    if error is not None:
        result["error"] = str(error)
    return Outcome(code, result, None if error is None else str(error), unsaved)


def _unsaved(session: Play, recorder: Recorder | None) -> tuple[str, ...]:
    """Closes the recording: only then it is known whether all of it reached the disk."""
    failures = [session.picture_failure]
    if recorder is not None:
        recorder.close()
        if recorder.failure is not None:
            whole = f"{recorder.directory} is not whole; replay shows what reached the disk"
            failures.append(f"{recorder.failure}; {whole}")
    return tuple(failure for failure in failures if failure is not None)
