"""Many dreams in one static world: joined, left, each at its own stride, none knowing of the others."""

import time
from itertools import count

import numpy as np
import pytest
import torch

from engine.backend import Step
from engine.errors import EngineError
from engine.fast.dream import Dream
from engine.fast.slots import Due, WorldSlots
from engine.fast.static_dream import StaticDream
from engine.fast.static_world import StaticWorld
from engine.fast.torch_backend import TorchBackend, TorchStep
from engine.hosting.links import MemoryLink
from engine.hosting.models_at_hand import ModelsAtHand
from engine.hosting.world_batch import WorldBatch
from engine.inner import Begin, Input, Start
from engine.world_worker import WorldRole
from tests.test_cuda_graph import opening, tiny_world
from tests.tiny import store_tiny

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 11  # the tiny ring holds 5


@pytest.fixture(scope="module")
def model():
    return tiny_world()


def plan_of(seed: int) -> list[tuple[np.ndarray, int]]:
    """Buttons and strides of a session's steps."""
    random = np.random.default_rng(100 + seed)
    return [(random.random(4).astype(np.float32), int(random.integers(1, 9))) for _ in range(STEPS)]


def alone(model, seed: int, slots: int = 1, slot: int = 0) -> list[Step]:
    world = WorldSlots("racing", StaticWorld(model, slots))
    dream = [world.join() for _ in range(slot + 1)][slot]
    dream.open(opening(model.config, seed=seed), noise_seed=seed)
    return [dream.step(*one) for one in plan_of(seed)]


def assert_same(made: list[Step], expected: list[Step], atol: float) -> None:
    assert len(made) == len(expected)
    for one, other in zip(made, expected):
        np.testing.assert_allclose(one.latent, other.latent, atol=atol)
        np.testing.assert_allclose(one.telemetry, other.telemetry, atol=50 * atol, rtol=1e-4)


def test_a_session_dreams_the_same_whoever_else_is_there(model):
    """Three sessions join at different times, skip different turns; one leaves and another takes its slot."""
    slots, made = WorldSlots("racing", StaticWorld(model, 3)), {seed: [] for seed in range(4)}
    dreams, plans = {}, {seed: iter(plan_of(seed)) for seed in range(4)}
    for turn in count():
        for seed, first in enumerate((0, 2, 5, 14)):
            if turn == first:
                dreams[seed] = slots.join()
                dreams[seed].open(opening(model.config, seed=seed), noise_seed=seed)
        stepping = [s for s in dreams if len(made[s]) < STEPS and (turn + s) % (s + 1) == 0]
        due = [Due(dreams[seed], *next(plans[seed])) for seed in stepping]
        for seed, step in zip(stepping, slots.step(due)):
            made[seed].append(step)
        if len(made[0]) == STEPS and dreams.get(0) is not None and turn < 14:
            slots.leave(dreams.pop(0))
        if turn > 14 and all(len(steps) == STEPS for steps in made.values()):
            break
    place = {0: 0, 1: 1, 2: 2, 3: 0}  # the last one takes the slot that the first one left
    assert all(dream.slot == place[seed] for seed, dream in dreams.items())
    for seed, steps in made.items():
        assert_same(steps, alone(model, seed), atol=2e-5)
        for one, other in zip(steps, alone(model, seed, slots=3, slot=place[seed])):
            assert np.array_equal(one.latent, other.latent), "in the same slot the same bytes"


def test_a_slot_dreams_what_the_readable_model_dreams(model):
    plain = Dream("racing", model.config, TorchStep(model, torch.float32))
    plain.open(opening(model.config, seed=1), noise_seed=1)
    assert_same(alone(model, 1, slots=2), [plain.step(*one) for one in plan_of(1)], atol=2e-5)


def test_a_full_world_says_so_and_a_slot_that_was_left_can_be_taken(model):
    slots = WorldSlots("racing", StaticWorld(model, 2))
    first, _ = slots.join(), slots.join()
    assert slots.free == 0
    with pytest.raises(EngineError, match="all 2 worlds are taken"):
        slots.join()
    slots.leave(first)
    assert slots.free == 1 and slots.join().slot == first.slot
    assert slots.step([]) == []


class Slotted(ModelsAtHand):
    """Gives each session a dream of its own in the same world."""

    def __init__(self, backend: TorchBackend, slots: WorldSlots) -> None:
        super().__init__(("world",), "cpu", 1, None, fake=True)
        self._torch, self._slots = backend, slots

    def backend(self, game: str):
        return self._torch

    def part(self, name, make):
        return make()

    def dream(self, game: str) -> StaticDream:
        return self._slots.join()

    def world_class(self, game: str):
        from games import simulator

        return simulator(game).World


def test_sessions_with_their_own_clocks_and_strides_step_together(tmp_path):
    store_tiny(tmp_path)
    backend = TorchBackend("racing", tmp_path, "cpu", 1)
    slots, links, worlds = backend.slots(3), [], []
    models = Slotted(backend, slots)
    begun_s = time.monotonic() + 1000.0  # a time that never comes: the test moves the clocks
    for session, stride in ((1, 3), (2, 4), (3, 6)):
        links.append(MemoryLink())
        world = WorldRole(models, links[-1], lambda: 0.0, lambda stage, fraction: None)
        start = Start(session=session, game="racing", seed=session, mode="dream", stride=stride,
                      record_hashes=False)  # fmt: skip
        world.open(start)
        world.begin(Begin(session=session, lag=0), begun_s)
        worlds.append(world)
    batch, together, now_s = WorldBatch(slots), [], begun_s
    worlds[1].input(Input(session=2, seq=5, held=1, pressed=1), begun_s)
    got = {1: [], 2: [], 3: []}
    while now_s < begun_s + 11.5 / 60:
        now_s += max(0.0, min(world.seconds_until_due(now_s) for world in worlds)) + 1e-6
        together.append(batch.step(worlds, now_s))
        for session, link in zip(got, links):
            got[session] += link.drain()
    assert {s: [one.index for one in sent] for s, sent in got.items()} == {
        1: [0, 3, 6, 9, 12], 2: [0, 4, 8, 12], 3: [0, 6, 12]
    }  # fmt: skip
    assert together == [1, 1, 2, 1, 1, 3], "3, 4, 6, 8, 9, 12: those that are due step at once"
    assert [one.seq for one in got[2]][1:] == [5, 5, 5] and {one.seq for one in got[1]} == {0}
