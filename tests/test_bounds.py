"""What a dream tells of itself stays what telemetry can be."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.fast.bounds import OFF, Bounds
from engine.fast.dream import Dream
from engine.fast.static_dream import StaticDream
from engine.fast.static_world import StaticWorld
from engine.fast.torch_backend import TorchStep
from engine.models.telemetry import TelemetryScale
from games import GAMES, simulator
from tests.test_cuda_graph import dreamed, tiny_world

pytestmark = pytest.mark.usefixtures("one_thread")
RACING = GAMES["racing"]
SIN, COS = (RACING.field_index(f"rival_2_{name}") for name in ("sin", "cos"))


def possible() -> np.ndarray:
    """Telemetry of a race on its way, in model's terms, [F]."""
    game = simulator("racing")
    world, drivers = game.World(torch.tensor([7])), game.Drivers(torch.tensor([7]))
    for _ in range(90):
        world.step(drivers.act(world))
    now = world.telemetry()
    return TelemetryScale(RACING.telemetry).scaled(now, now, torch.ones(1))[0].numpy()


def test_all_that_a_race_tells_is_possible_and_stays_as_it_is():
    told = possible()
    assert Bounds(RACING).kept(told) is told
    for sin, cos in RACING.circles:
        pair = told[[RACING.field_index(sin), RACING.field_index(cos)]]
        assert np.hypot(*pair) == pytest.approx(1, abs=1e-5)


def test_a_sine_and_cosine_of_no_angle_are_those_of_the_nearest():
    for radius in (0.4, 1.3):
        told = possible()
        told[SIN], told[COS] = radius * math.sin(2.1), radius * math.cos(2.1)
        before = told.copy()
        kept = Bounds(RACING).kept(told)
        assert (kept[SIN], kept[COS]) == pytest.approx((math.sin(2.1), math.cos(2.1)), abs=1e-6)
        rest = np.delete(np.arange(len(told)), [SIN, COS])
        assert np.array_equal(kept[rest], told[rest]) and np.array_equal(told, before)


def test_a_pair_of_nothing_does_not_become_infinite():
    told = possible()
    told[SIN] = told[COS] = 0
    assert np.isfinite(Bounds(RACING).kept(told)).all()


def test_numbers_end_where_their_range_does():
    speed, progress, lap = (RACING.field_index(name) for name in ("speed", "progress", "lap"))
    told = possible()
    told[speed], told[progress], told[lap] = 1.7, -1.9, 3.0
    kept = Bounds(RACING).kept(told)
    assert (kept[speed], kept[progress], kept[lap]) == (1.0, -1.5, 2.0)
    told = possible()
    told[speed] = 1 + OFF / 2
    assert Bounds(RACING).kept(told) is told, "what is hardly off is not worth a change"


@pytest.mark.parametrize(
    "done, way, model_says, laps",
    [
        (2, 2.5, 0, 0),  # nothing happens
        (2, 2.5, 1, 0),  # a lap that is none
        (2, 3.05, 1, 1),  # a lap
        (2, 3.05, 0, 1),  # one that the model missed
        (3, 2.95, -1, 0),  # who reverses over the line keeps it
    ],
)
def test_a_lap_is_told_where_the_way_is_whole_and_nowhere_else(done, way, model_says, laps):
    progress, lap = (RACING.field_index(name) for name in ("progress", "lap"))
    told, before, totals = possible(), np.zeros(len(RACING.telemetry)), np.zeros(len(RACING.telemetry))
    told[lap], before[lap] = model_says, done
    totals[progress], totals[lap] = way, done + model_says
    given = told.copy(), totals.copy()
    right, counted = Bounds(RACING).counted(told, totals, before)
    assert right[lap] == laps and counted[lap] == done + laps
    rest = np.delete(np.arange(len(told)), lap)
    assert np.array_equal(right[rest], told[rest]) and np.array_equal(counted[rest], totals[rest])
    assert np.array_equal(told, given[0]) and np.array_equal(totals, given[1])
    assert (right is told and counted is totals) == (laps == model_says)


def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("DREAMCADE_WITHOUT", "bounds")
    told = np.full(len(RACING.telemetry), 3.0, np.float32)
    assert Bounds(RACING).kept(told) is told
    same, totals = Bounds(RACING).counted(told, told, np.zeros_like(told))
    assert same is told and totals is told


def test_a_game_without_circles_has_ranges_all_the_same():
    spec = replace(RACING, circles=())
    told = possible()
    told[SIN] = told[COS] = 0.2
    assert Bounds(spec).kept(told) is told
    told[SIN] = -1.2
    assert Bounds(spec).kept(told)[SIN] == -1


def test_a_dream_goes_on_from_what_is_possible_wherever_its_world_is(monkeypatch):
    model = tiny_world()
    with torch.no_grad():
        model.to_telemetry.bias += 0.3  # it tells of more at every step
    made, told = dreamed(Dream("racing", model.config, TorchStep(model, torch.float32)))
    again, told_again = dreamed(StaticDream("racing", StaticWorld(model)))
    np.testing.assert_allclose(again, made, atol=1e-5)
    # What is told goes back in, and some of it counts in hundreds: float32 sums of another order differ in
    # the sixth digit after ten steps.
    np.testing.assert_allclose(told_again, told, rtol=5e-5, atol=1e-4)
    monkeypatch.setenv("DREAMCADE_WITHOUT", "bounds")
    free, _ = dreamed(Dream("racing", model.config, TorchStep(model, torch.float32)))
    assert not np.allclose(free, made, atol=1e-3)


def test_a_dream_whose_world_tells_of_a_lap_at_every_step_counts_none_wherever_its_world_is(monkeypatch):
    model, lap = tiny_world(), RACING.field_index("lap")
    with torch.no_grad():
        model.to_telemetry.bias[lap] += 1
        model.to_telemetry.weight[RACING.field_index("progress")] = 0
    worlds = (
        lambda: Dream("racing", model.config, TorchStep(model, torch.float32)),
        lambda: StaticDream("racing", StaticWorld(model)),
    )
    for world in worlds:
        laps = dreamed(world())[1][:, lap]
        assert np.ptp(laps) == 0
    monkeypatch.setenv("DREAMCADE_WITHOUT", "bounds")
    assert all(np.ptp(dreamed(world())[1][:, lap]) > 3 for world in worlds)
