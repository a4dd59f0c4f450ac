"""The models that a rank has loaded: one game's at a time, shared by the roles in its process and kept
between sessions."""

from collections.abc import Callable
from functools import partial
from typing import Any

from engine.backend import Backend, load_backend
from games import GAMES, simulator


class ModelsAtHand:
    """roles: which of "world", "decoder" this process hosts; fake: the test backend and simulator instead."""

    def __init__(
        self, roles: tuple[str, ...], device: str, threads: int, weights: str | None, fake: bool
    ) -> None:
        self._roles, self._device, self._threads, self._weights = roles, device, threads, weights
        self._fake = fake
        self._game = ""
        self._backend: Backend | None = None
        self._parts: dict[str, Any] = {}

    def backend(self, game: str) -> Backend:
        """Loaded now, unless it is already. Raises WeightsError."""
        if self._backend is None or game != self._game:
            self._backend, self._parts = None, {}  # the memory first
            self._backend, self._game = self._load(game), game
        return self._backend

    def part(self, name: str, make: Callable[[], Any]) -> Any:
        """A part of the loaded backend, compiled once."""
        if name not in self._parts:
            self._parts[name] = make()
        return self._parts[name]

    def world_class(self, game: str) -> Callable[..., Any]:
        """The game's simulator, a games.world.World."""
        if self._fake:
            from engine.fake import FakeWorld

            return partial(FakeWorld, GAMES[game])
        return simulator(game).World

    def _load(self, game: str) -> Backend:
        if self._fake:
            from engine.fake import fake_backend

            return fake_backend(game)
        return load_backend(
            game, device=self._device, roles=self._roles, threads=self._threads, weights=self._weights
        )
