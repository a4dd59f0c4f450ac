"""Clips of held-out seeds for judging filled frames: latents' pictures before t, every true frame after.

A clip has the pictures two, one and no stride before t, and every frame up to two strides after. Cases are
told apart per frame ahead: steady (buttons as in the last step all the way), buttons (they changed), events
(a crash, death, respawn or new level in between). Seeds are scouted without pictures first: events are
rare."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.training.data import EVENTS
from games import GAMES, simulator

CASES = ("steady", "buttons", "events")
WARM_UP_FRAMES = 240
"""No clip begins before: not every one shall show a standing start."""


@dataclass(frozen=True)
class Clip:
    """pictures uint8 [3 + 2s, 480, 720, 3]: at t - 2s, t - s, t, then t + 1 to t + 2s. buttons [1 + 2s, N]:
    of frame t and those after. cases: one per frame ahead."""

    pictures: np.ndarray
    buttons: np.ndarray
    cases: tuple[str, ...]
    stride: int

    @property
    def times(self) -> np.ndarray:
        return np.array([-2.0 * self.stride, -1.0 * self.stride, 0.0], np.float32)


@dataclass(frozen=True)
class Scouted:
    """A batch of seeds played without pictures. held int64 [T, B]; eventful bool [T, B]."""

    seeds: Tensor
    held: Tensor
    eventful: Tensor

    def case(self, world: int, t: int, stride: int, ahead: int) -> str:
        """Of the way from t - stride to t + ahead."""
        if bool(self.eventful[t - stride + 1 : t + ahead + 1, world].any()):
            return "events"
        held = self.held[t - stride + 1 : t + ahead + 1, world]
        return "steady" if bool((held == held[0]).all()) else "buttons"


def scout(game: str, seeds: range, frames: int = 900) -> Scouted:
    """Play every seed for so many frames."""
    module, spec = simulator(game), GAMES[game]
    watched = [spec.field_index(name) for name in EVENTS[game]]
    numbers = torch.tensor(list(seeds))
    world, drivers = module.World(numbers), module.Drivers(numbers)
    held, marks = [], [world.telemetry()[:, watched]]
    for _ in range(frames):
        buttons = drivers.act(world)
        world.step(buttons)
        held.append(buttons)
        marks.append(world.telemetry()[:, watched])
    told = torch.stack(marks)
    return Scouted(numbers, torch.stack(held), (told[1:] != told[:-1]).any(-1))


def choose(
    scouted: Scouted, stride: int, quota: dict[str, int]
) -> tuple[list[tuple[int, int]], dict[str, float]]:
    """(world, t) of clips, case by case from worlds in turn, and each case's share of all moments as played.
    A clip's case is that of its first stride; steady ones are so to the end."""
    random = np.random.default_rng(0)
    moments = range(WARM_UP_FRAMES, len(scouted.held) - 2 * stride)
    found: dict[str, list[tuple[int, int]]] = {case: [] for case in CASES}
    counts = dict.fromkeys(CASES, 0)
    for world in range(len(scouted.seeds)):
        seen: dict[str, list[int]] = {case: [] for case in CASES}
        for t in moments:
            case = scouted.case(world, t, stride, stride)
            counts[case] += 1
            if case != "steady" or scouted.case(world, t, stride, 2 * stride) == "steady":
                seen[case].append(t)
        for case, times in seen.items():
            picked = random.permutation(len(times))[: -(-2 * quota[case] // len(scouted.seeds))]
            found[case] += [(world, times[i]) for i in picked]
    chosen: list[tuple[int, int]] = []
    for case, places in found.items():
        chosen += [places[i] for i in random.permutation(len(places))[: quota[case]]]
    total = sum(counts.values())
    return sorted(chosen), {case: round(count / total, 3) for case, count in counts.items()}


def chosen_clips(
    game: str, scouted: Scouted, chosen: Sequence[tuple[int, int]], stride: int
) -> Iterator[tuple[int, list[Clip]]]:
    """What `choose` chose: a world's number and its clips, one world after the other."""
    for world in sorted({world for world, _ in chosen}):
        times = [t for place, t in chosen if place == world]
        yield world, clips_of(game, scouted, world, times, stride)


def clips_of(game: str, scouted: Scouted, world: int, times: Sequence[int], stride: int) -> list[Clip]:
    """One world played again, with pictures where clips of `times` need them."""
    module, bits = simulator(game), [int(b) for b in GAMES[game].buttons]
    seeds = scouted.seeds[world : world + 1]
    needed = {t: [t - 2 * stride, t - stride, *range(t, t + 2 * stride + 1)] for t in times}
    wanted = {frame for frames in needed.values() for frame in frames}
    played, pictures = module.World(seeds), {}
    for frame in range(max(wanted) + 1):
        played.step(scouted.held[frame, world : world + 1])
        if frame in wanted:
            pictures[frame] = played.render()[0].numpy()
    held = scouted.held[:, world, None].numpy()
    return [
        Clip(
            np.stack([pictures[frame] for frame in frames]),
            ((held[t : t + 2 * stride + 1] & np.array(bits)) != 0).astype(np.float32),
            tuple(scouted.case(world, t, stride, k) for k in range(1, 2 * stride + 1)),
            stride,
        )
        for t, frames in needed.items()
    ]
