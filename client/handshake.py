"""From nothing to Welcome: say hello until the engine answers, show its loading meanwhile."""

import time
from collections.abc import Callable

import pygame

from client.connection import Connection
from client.engine_process import EngineProcess
from client.errors import UserError
from client.loading import LoadingScreen
from client.options import PlayOptions
from client.screen import Screen
from engine.protocol import PROTOCOL_VERSION, Ended, Hello, Loading, Refused, ToClient, Welcome

HELLO_S = 0.25
_HELLO_AGAIN_S = 2.0  # once the engine answered; it may have been started anew meanwhile
REMOTE_SILENCE_S = 10.0
LOCAL_SILENCE_S = 120.0  # a cold disk and two busy cores: importing alone can take half a minute
_REDRAW_S = 1 / 30


def hello(options: PlayOptions) -> Hello:
    """What this client asks for; said again unchanged when the link breaks."""
    return Hello(
        version=PROTOCOL_VERSION,
        game=options.game,
        seed=options.seed,
        mode="reference" if options.reference else "dream",
        stride=options.stride,
        record_hashes=options.record is not None,
    )


def refusal(message: Refused) -> UserError:
    """What to tell the player of a Refused."""
    return UserError(
        ": ".join(part.rstrip(" .:") for part in ("the engine refused", message.reason, message.fix) if part)
    )


def obituary(message: Ended) -> UserError:
    """What to tell the player of an Ended; never with exit code 0, because the player did not end it."""
    code = message.exit_code if 0 < message.exit_code < 256 else 1
    return UserError(f"the engine ended ({message.role}): {message.reason}", code)


class Handshake:
    """Runs the loading screen. `run` returns the Welcome, or None when the player left."""

    def __init__(
        self,
        options: PlayOptions,
        connection: Connection,
        screen: Screen,
        loading: LoadingScreen,
        engine: EngineProcess | None,
        stop: Callable[[], bool],
    ) -> None:
        self._options, self._connection, self._screen = options, connection, screen
        self._loading, self._engine, self._stop = loading, engine, stop
        self._welcome: Welcome | None = None
        self._heard_s = time.perf_counter()
        self._answered = False

    def run(self) -> Welcome | None:
        """Raises UserError when refused, when the local engine ends, or when nobody answers."""
        hello_due_s = 0.0
        while self._welcome is None:
            now_s = time.perf_counter()
            if now_s >= hello_due_s:
                self._connection.send(hello(self._options))
                hello_due_s = now_s + (_HELLO_AGAIN_S if self._answered else HELLO_S)
            if not self._draw() or self._stop():
                return None
            self._connection.wait(_REDRAW_S)
            for message in self._connection.drain(time.perf_counter()).control:
                self._take(message)
            self._check(time.perf_counter())
        return self._welcome

    def _take(self, message: ToClient) -> None:
        self._heard_s, self._answered = time.perf_counter(), True
        if isinstance(message, Loading):
            self._loading.progress(message.stage, message.fraction)
        elif isinstance(message, Refused):
            raise refusal(message)
        elif isinstance(message, Ended):
            raise obituary(message)
        elif isinstance(message, Welcome):
            self._accept(message)

    def _accept(self, welcome: Welcome) -> None:
        if welcome.version != PROTOCOL_VERSION:
            raise UserError(
                f"the engine speaks protocol {welcome.version}, this client {PROTOCOL_VERSION}:"
                " install the same version of dreamcade on both sides"
            )
        if welcome.game != self._options.game:
            raise UserError(
                f"the engine plays {welcome.game}: run `dreamcade play {welcome.game}` with this address"
            )
        self._welcome = welcome
        self._loading.progress("the first picture", 1.0)
        self._draw()

    def _draw(self) -> bool:
        """One picture of the title; False when the player wants to leave."""
        self._loading.draw(self._screen.canvas)
        self._screen.flip()
        leaving = (pygame.K_ESCAPE, pygame.K_q)
        return not any(
            event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key in leaving)
            for event in pygame.event.get()
        )

    def _check(self, now_s: float) -> None:
        if self._engine is not None:
            self._engine.check()
        silent_s = now_s - self._heard_s
        if (refused := self._connection.refusal()) is not None and not self._answered:
            raise UserError(f"the engine at {self._options.engine} refused the connection: {refused}")
        if self._engine is None and silent_s > REMOTE_SILENCE_S:
            raise UserError(
                f"no engine answers at {self._options.engine}: check the address, and that `dreamcade serve`"
                " runs there"
            )
        if silent_s > LOCAL_SILENCE_S:
            raise UserError("the engine does not answer: run `dreamcade doctor`")
