"""Many sessions' worlds on one accelerator: each keeps its own clock, stride and buttons, those that are due
step together.

In the way of one frame: it stands where a WorldRole alone does, between the closing of button windows and the
latents' links. A session waits at most for the batch that is under way."""

import time
from collections.abc import Iterable

from engine.fast.slots import Due, WorldSlots
from engine.fast.static_dream import StaticDream
from engine.pacing.session import Window
from engine.world_worker import WorldRole


class WorldBatch:
    """worlds, of each call: the sessions that play now, each with a dream of `slots`."""

    def __init__(self, slots: WorldSlots) -> None:
        self._slots = slots

    def step(self, worlds: Iterable[WorldRole], now_s: float) -> int:
        """Step every world whose window has closed, at once. Returns how many."""
        due = [world for world in worlds if world.seconds_until_due(now_s) <= 0]
        windows = [world.close_window() for world in due]
        begun_s = time.monotonic()
        results = self._slots.step([next_step(*one) for one in zip(due, windows)])
        took_s = time.monotonic() - begun_s
        for world, window, result in zip(due, windows, results):
            world.file(window, result, took_s)
        return len(due)


def next_step(world: WorldRole, window: Window) -> Due:
    assert isinstance(world.dream, StaticDream), "a session of a batch dreams in one of its slots"
    return Due(world.dream, window.share, window.end - window.begin)
