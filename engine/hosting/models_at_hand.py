"""The models that a rank has loaded: one game's at a time, shared by the roles in its process and kept
between sessions."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.backend import Backend, Worlds, WorldStepper, load_backend
from engine.process_group import Crew
from games import GAMES, simulator

if TYPE_CHECKING:
    from engine.fast.shared_backend import SharedBackend


class ModelsAtHand:
    """roles: which of "world", "decoder" this process hosts; fake: the test backend and simulator instead;
    crew: the ranks that share its work; players: how many dreams there may be at once."""

    def __init__(
        self,
        roles: tuple[str, ...],
        device: str,
        threads: int,
        weights: str | None,
        fake: bool,
        crew: Crew | None = None,
        players: int = 1,
    ) -> None:
        self._roles, self._device, self._threads, self._weights = roles, device, threads, weights
        self._fake, self._crew, self._players = fake, crew, players
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

    def dream(self, game: str) -> WorldStepper:
        """A session's own, until it gives it back; where one plays at a time it is the same each time."""
        if self._players == 1:
            return self.part("world", self.backend(game).world)
        return self.worlds(game).join()

    def worlds(self, game: str) -> Worlds:
        """Where the dreams of several sessions are."""
        return self.part("worlds", lambda: self.backend(game).worlds(self._players))

    @property
    def worlds_at_hand(self) -> Worlds | None:
        """The same, where they are loaded."""
        return self._parts.get("worlds")

    def give_back(self, dream: WorldStepper) -> None:
        if "worlds" in self._parts:
            self._parts["worlds"].leave(dream)

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
        if self._crew is not None:
            return self.shared_backend(game)
        return load_backend(
            game, device=self._device, roles=self._roles, threads=self._threads, weights=self._weights
        )

    def shared_backend(self, game: str) -> "SharedBackend":
        """Raises WeightsError."""
        from engine.fast.choose import weights_directory
        from engine.fast.shared_backend import SharedBackend

        assert self._crew is not None
        directory = weights_directory(game, self._weights)
        return SharedBackend(game, directory, self._device, self._threads, self._crew)
