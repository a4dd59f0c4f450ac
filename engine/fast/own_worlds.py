"""Dreams of several sessions that step one after the other: on a CPU, where a step of two worlds takes as
long as two steps.

Each has its own ring; the compiled model is shared."""

from collections.abc import Callable

from engine.backend import WorldStepper
from engine.errors import EngineError


class OwnWorlds:
    """make: a dream that shares the model with the others. Those that were left are taken again: making one
    allocates a ring of keys and values (9 MiB)."""

    def __init__(self, make: Callable[[], WorldStepper], players: int) -> None:
        self._make, self._players = make, players
        self._taken: list[WorldStepper] = []
        self._left: list[WorldStepper] = []

    def join(self) -> WorldStepper:
        if len(self._taken) == self._players:
            raise EngineError(f"all {self._players} worlds are taken: wait for one to end")
        dream = self._left.pop() if self._left else self._make()
        self._taken.append(dream)
        return dream

    def leave(self, dream: WorldStepper) -> None:
        self._taken.remove(dream)
        self._left.append(dream)
