"""The racing game: determinism, driving, telemetry's signs, masks, pictures."""

import hashlib
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from games import simulator
from games.noise import hash_bits
from games.racing import physics
from games.racing.driver import STYLES, Drivers
from games.racing.physics import wrap_angle
from games.racing.render import rival_paint
from games.racing.scenery import gate_places
from games.racing.spec import AHEAD_M, APART_M, COMPASS, RETURNS_M, SPEC, Buttons, rival_gap_m
from games.racing.track import MIN_RADIUS_M, build_tracks
from games.racing.world import World


@pytest.fixture(autouse=True)
def _one_thread():
    """Most of this is many small operations, which threads only slow down."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Race:
    """Track and state alone: driving without pictures or scenery."""

    def __init__(self, seeds: torch.Tensor) -> None:
        self.seeds, self.track = seeds, build_tracks(seeds)
        self.state = physics.start(seeds, self.track)

    def step(self, buttons: torch.Tensor) -> None:
        self.state = physics.step(self.state, buttons, self.track, self.seeds)


def drive(world: World, frames: int, mask: int = 15) -> None:
    """Random buttons, the same for a seed in any batch."""
    for frame in range(frames):
        world.step(hash_bits(world.seeds, 7, frame // 9) & mask | int(Buttons.THROTTLE))


def digest(seed: int) -> str:
    world = World(torch.tensor([seed]))
    drive(world, 60)
    return hashlib.sha256(world.render().numpy().tobytes()).hexdigest()


def test_same_bytes_in_another_process():
    code = "from tests.test_games_racing import digest; print(digest(4))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(4)


def test_world_does_not_depend_on_its_batch_and_rendering_changes_nothing():
    batch, alone = World(torch.tensor([11, 12, 13])), World(torch.tensor([12]))
    for _ in range(3):
        drive(batch, 50)
        drive(alone, 50)
        picture, classes = batch.render_classes()
        assert torch.equal(picture, batch.render())
    assert picture.shape == (3, 480, 720, 3) and picture.dtype == torch.uint8
    assert torch.equal(picture[1:2], alone.render())
    assert torch.equal(classes[1:2], alone.render_classes()[1])
    assert torch.equal(batch.telemetry()[1:2], alone.telemetry())


def test_large_batches_give_the_same_numbers():
    batch, alone = World(torch.arange(33)), World(torch.tensor([17]))
    drive(batch, 40)
    drive(alone, 40)
    assert torch.equal(batch.telemetry()[17:18], alone.telemetry())


def test_restart_equals_a_fresh_world_and_inactive_worlds_stand_still():
    world = World(torch.tensor([1, 2]))
    drive(world, 30)
    before = world.telemetry()
    world.step(torch.tensor([4, 4]), active=torch.tensor([False, True]))
    assert torch.equal(world.telemetry()[0], before[0])
    world.restart(torch.tensor([True, False]), torch.tensor([9, 9]))
    fresh = World(torch.tensor([9]))
    drive(fresh, 20)
    kept = world.telemetry()[1]
    assert not torch.equal(kept, fresh.telemetry()[0])
    for frame in range(20):
        world.step(hash_bits(world.seeds, 7, frame // 9) & 15 | int(Buttons.THROTTLE))
    assert torch.equal(world.telemetry()[0], fresh.telemetry()[0])
    assert torch.equal(world.render()[:1], fresh.render())


def test_tracks_close_bend_gently_and_locate_their_own_points():
    track = build_tracks(torch.arange(12))
    assert float(track.length.min()) > 850 and float(track.length.max()) < 2500
    assert float(1 / track.curvature.abs().amax()) > 0.75 * MIN_RADIUS_M
    s = torch.arange(400) / 400 * track.length[:, None]
    lateral = torch.linspace(-9, 9, 400).expand(12, 400)
    found = track.locate(*track.point(s, lateral))
    assert float((found.lateral - lateral).abs().max()) < 0.08
    assert float(physics.wrap_gap(found.s - s, track.length[:, None]).abs().max()) < 0.4
    turned = wrap_angle(torch.diff(torch.atan2(track.tx, track.ty), dim=1)).sum(1)
    assert torch.allclose(turned.abs(), torch.full((12,), 2 * math.pi), atol=0.1)


def test_skilled_driver_laps_without_leaving_the_road():
    seeds = torch.tensor([41, 28, 52])  # short tracks of about a kilometre, to keep this quick
    race = Race(seeds)
    drivers = Drivers(seeds, style="skilled")
    off = torch.zeros(3)
    for _ in range(2400):
        race.step(drivers.act(race))
        off += race.state.lateral.abs() > race.track.half_width
    assert bool((race.state.lap >= 1).all())
    assert float(off.max()) < 60


def test_telemetry_signs():
    world = World(torch.tensor([3, 3, 3]))
    i = SPEC.field_index
    for frame in range(110):
        steer = int(Buttons.RIGHT) if frame >= 80 else 0
        world.step(torch.tensor([4, 4 | steer, 4 | (int(Buttons.LEFT) if steer else 0)]))
    t = world.telemetry()
    assert float(t[0, i("speed")]) > 8 and float(t[0, i("progress")]) > 0.005
    assert t[2, i("heading_error")] < t[0, i("heading_error")] < t[1, i("heading_error")]
    assert t[2, i("lateral")] < t[0, i("lateral")] < t[1, i("lateral")]


def test_telemetry_tells_what_moves_the_picture():
    world, drivers = World(torch.arange(8) + 20), Drivers(torch.arange(8) + 20)
    at, state = SPEC.field_index, world.state
    for _ in range(400):
        world.step(drivers.act(world))
    told, state = world.telemetry(), world.state
    assert torch.equal(told[:, at("steer")], state.steer) and torch.equal(told[:, at("pitch")], state.pitch)
    lag = wrap_angle(state.view - state.heading)
    assert torch.equal(told[:, at("view")], lag) and float(lag.abs().max()) > 0.005
    for metres in (24, 12):
        wave = torch.stack([told[:, at(f"pattern_{metres}_{name}")] for name in ("sin", "cos")])
        torch.testing.assert_close(wave.square().sum(0), torch.ones(8))
    for times in COMPASS:
        sin, cos = (told[:, at(f"compass_{times}_{name}")] for name in ("sin", "cos"))
        turned = wrap_angle(torch.atan2(sin, cos) - state.view * times)
        torch.testing.assert_close(turned, torch.zeros(8), atol=1e-4, rtol=0)
    assert torch.equal(told[:, at("slip")], state.slip) and float(state.slip.abs().max()) > 0.05
    assert torch.equal(told[:, at("half_width")], world.track.half_width)
    here = world.track.at(world.track.curvature, state.s[:, None])[:, 0]
    assert torch.equal(told[:, at("curvature_here")], here) and float(here.abs().max()) > 0.005
    inside = told >= torch.tensor([f.low for f in SPEC.telemetry])
    inside[:, at("slip")] |= state.bump > 0  # a scrape throws a car further aside than it is told
    assert bool(inside.all())


def test_every_rival_is_told_wherever_it_is_and_never_leaps():
    world = World(torch.tensor([3]))
    half, at = float(world.track.half_width), SPEC.field_index

    def told(rival: int, gap: float) -> dict[str, float]:
        places = [300.0] * 4
        places[rival] = 100.0 + gap
        world.state = replace(
            world.state,
            s=torch.tensor([100.0]),
            rival_s=torch.tensor([places]) % float(world.track.length),
            rival_lateral=torch.full((1, 4), 0.5 * half),
            rival_speed=torch.full((1, 4), 25.0),
        )
        row = world.telemetry()[0]
        names = ("near", "sin", "cos", "lateral", "speed", "drift")
        return {name: float(row[at(f"rival_{rival}_{name}")]) for name in names}

    for rival in range(4):
        for gap in (-120.0, -5.0, 0.5, 30.0, 200.0):
            seen = told(rival, gap)
            assert rival_gap_m(rival, seen["sin"], seen["cos"]) == pytest.approx(gap, abs=0.01)
            assert seen["near"] == pytest.approx(gap * math.exp(-abs(gap) / 25), abs=1e-3)
            assert (seen["lateral"], seen["speed"]) == (pytest.approx(0.5), 25.0)
        behind, ahead = told(rival, -RETURNS_M), told(rival, AHEAD_M + APART_M * rival)
        assert ahead == pytest.approx(behind, abs=0.6), "who falls behind comes back ahead"
        assert told(rival, 420.0) == pytest.approx(ahead, abs=0.6), "and stays there out of sight"


def test_gates_are_told_on_the_way_to_them_and_where_they_are_passed():
    world = World(torch.tensor([3, 4]))
    at, length = SPEC.field_index, world.track.length
    first = gate_places(world.seeds[:, None], world.track)[:, 0]
    for gap in (-10.0, -0.1, 0.1, 10.0):
        world.state = replace(world.state, s=torch.remainder(first - gap, length))
        told = world.telemetry()
        expected = torch.full((2,), gap * math.exp(-abs(gap) / 25))
        torch.testing.assert_close(told[:, at("gate_near")], expected, atol=1e-3, rtol=0)
        assert bool((told[:, at("gate_cos")] > 0.97).all())
        assert bool((told[:, at("gate_sin")].sign() == -torch.tensor(gap).sign()).all())


def test_the_first_rivals_paint_is_told():
    world, at = World(torch.arange(12)), SPEC.field_index
    flags = world.telemetry()[:, [at(f"paint_{paint}") for paint in range(3)]]
    assert torch.equal(flags.argmax(1), rival_paint(world.seeds)) and bool((flags.sum(1) == 1).all())
    assert len(set(flags.argmax(1).tolist())) == 3


def test_tap_steers_less_than_hold_and_the_wheel_centres_itself():
    race = Race(torch.tensor([3, 3]))
    for frame in range(90):
        hold = int(Buttons.RIGHT) if 60 <= frame < 80 else 0
        tap = int(Buttons.RIGHT) if 60 <= frame < 66 else 0
        race.step(torch.tensor([4 | hold, 4 | tap]))
        if frame == 79:
            assert race.state.steer[0] > 0.8 > 0.35 > race.state.steer[1] >= 0
    for _ in range(30):
        race.step(torch.tensor([4, 4]))
    assert torch.equal(race.state.steer, torch.zeros(2))


def test_nothing_breaks_under_random_buttons():
    seeds = torch.arange(6)
    race = Race(seeds)
    for frame in range(2000):
        bits = hash_bits(seeds, 8, frame // 12) & 15
        race.step(torch.where(seeds % 2 == 0, bits, bits & 7 | 4))
    for name, value in vars(race.state).items():
        assert bool(torch.isfinite(value).all()), name
    assert float((race.state.lateral.abs() / race.track.half_width).max()) < 3.0
    assert float(race.state.speed.max()) < 60 and float(race.state.speed.min()) > -10


def test_masks_are_where_they_should_be():
    world = World(torch.tensor([8]))
    for _ in range(40):
        world.step(torch.tensor([4]))
    _, classes = world.render_classes()
    share = [(classes == k).float().mean() for k in range(1, 5)]
    assert 0.02 < share[0] < 0.06 and share[1] > 0.005 and 0.01 < share[2] < 0.2 and share[3] > 0.002
    rows, columns = (classes[0] == 1).nonzero().unbind(1)
    assert 300 < float(columns.float().mean()) < 420 and 300 < float(rows.float().mean()) < 420
    assert not bool((classes[0, :150] == 3).any())


def test_brake_lights_show():
    world = World(torch.tensor([8]))
    for _ in range(60):
        world.step(torch.tensor([4]))
    calm = world.render()
    for _ in range(6):
        world.step(torch.tensor([8]))
    red = world.render()[0, 340:400, 280:440, 0].float().mean() - calm[0, 340:400, 280:440, 0].float().mean()
    assert red > 4


@pytest.mark.parametrize("style", [None, *STYLES])
def test_every_style_gives_buttons(style):
    seeds = torch.arange(4)
    race = Race(seeds)
    drivers = simulator("racing").Drivers(seeds, style=style)
    seen = torch.zeros(4, dtype=torch.int64)
    for _ in range(40):
        buttons = drivers.act(race)
        seen |= buttons
        race.step(buttons)
    assert bool(((seen >= 0) & (seen < 16)).all())


def test_displaced_cars_are_beside_the_road_and_drive_back_whatever_the_batch():
    seeds = torch.arange(40, 56)
    many, one = World(seeds), World(seeds[5:6])
    many.displace(torch.ones(16, dtype=torch.bool), 3)
    one.displace(torch.ones(1, dtype=torch.bool), 3)
    assert torch.equal(many.telemetry()[5:6], one.telemetry())
    off = SPEC.field_index("off_road")
    assert many.telemetry()[:, off].mean() > 0.4
    drivers = Drivers(seeds, style="skilled")
    for _ in range(600):
        many.step(drivers.act(many))
    assert many.telemetry()[:, off].mean() < 0.1
