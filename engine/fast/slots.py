"""Many dreams in one static world: each holds a slot, all that are due step at once.

Shapes never change: a dream joins by emptying a slot's ring and placing its opening there, and leaves by
giving the slot back, so a captured graph goes on being replayed. Who is due, at which stride, is data. What a
slot gives does not depend on the others: nothing in a step mixes worlds. A dream may open in another thread
than that of the others' steps; the world does one thing at a time."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.backend import Step, WorldStepper
from engine.errors import EngineError
from engine.fast.sight import Sight
from engine.fast.static_dream import StaticDream
from engine.fast.static_world import World


@dataclass(frozen=True)
class Due:
    """A dream's next step: buttons [N] float32 shares, stride in frames."""

    dream: StaticDream
    buttons: np.ndarray
    stride: int


class SlotDream(StaticDream):
    """turn: held while the world, which others use too, does something."""

    def __init__(self, game: str, world: World, slot: int, turn: threading.Lock, sight: Sight | None) -> None:
        super().__init__(game, world, slot, sight)
        self._turn = turn

    def _advance(self, buttons: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
        with self._turn:
            return super()._advance(buttons, stride)


class WorldSlots:
    """The slots of `world`, all free at first. See engine.backend.Worlds."""

    def __init__(self, game: str, world: World, sight: Sight | None = None) -> None:
        self._game, self._world, self._sight = game, world, sight
        self._free = list(range(world.slots))[::-1]
        self._taken: dict[int, StaticDream] = {}
        self._turn = threading.Lock()

    @property
    def free(self) -> int:
        return len(self._free)

    def join(self) -> StaticDream:
        """A dream that was not opened yet. Raises EngineError when every slot is taken."""
        if not self._free:
            raise EngineError(f"all {self._world.slots} worlds are taken: wait for one to end")
        slot = self._free.pop()
        self._taken[slot] = SlotDream(self._game, self._world, slot, self._turn, self._sight)
        return self._taken[slot]

    def leave(self, dream: WorldStepper) -> None:
        assert isinstance(dream, SlotDream)
        left = self._taken.pop(dream.slot)
        assert left is dream
        self._free.append(dream.slot)

    def step(self, due: Sequence[Due]) -> list[Step]:
        """One step of these, each at most once; the others wait as they are."""
        with self._turn:
            return self._stepped(due)

    def _stepped(self, due: Sequence[Due]) -> list[Step]:
        rows = {one.dream.slot: one.dream.controls(one.buttons, one.stride) for one in due}
        assert len(rows) == len(due) and all(self._taken.get(one.dream.slot) is one.dream for one in due)
        if not rows:
            return []
        controls = np.zeros((self._world.slots, len(next(iter(rows.values())))), np.float32)
        controls[list(rows)] = list(rows.values())
        self._world.step(controls)
        latents, told = self._world.all_made()
        return [one.dream.stepped(latents[one.dream.slot], told[one.dream.slot], one.stride) for one in due]
