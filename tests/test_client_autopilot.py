"""The scripted player finishes what it starts, also when its keys act late."""

import math
from collections import deque
from collections.abc import Iterator
from itertools import groupby

import pytest

from client.autopilot import Autopilot
from client.foresight import PIT, WIDTH, Foe, Hero, Piece
from client.lessons import Lessons
from client.senses import Senses
from client.way import Track, Way
from games import GAMES, simulator

torch = pytest.importorskip("torch")

FIRST_SEED = 1_000_000
STRIDE = 4  # frames from one telemetry to the next
NOTHING_NEAR = {
    "x": 20.0, "y": 3.0, "vx": 7.5, "grounded": 1.0, "alive": 1.0,
    "gap_ahead": 10.0, "wall_ahead": 10.0, "enemy_ahead": 10.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A handful of worlds is too little work to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def finished(game: str, field: str, goal: float, seconds: int, count: int, delay: int) -> int:
    """How many of `count` held-out seeds bring telemetry `field` to `goal` when a button acts `delay`
    frames late."""
    world = simulator(game).World(torch.arange(FIRST_SEED, FIRST_SEED + count))
    pilots = [Autopilot(GAMES[game]) for _ in range(count)]
    keys = [deque([0] * delay) for _ in range(count)]
    at, done = GAMES[game].field_index(field), set()
    for frame in range(seconds * 60):
        for i, telemetry in enumerate(world.telemetry().tolist()):
            keys[i].append(pilots[i].decide(telemetry, frame, delay))
            if telemetry[at] >= goal:
                done.add(i)
        if len(done) == count:
            break
        world.step(torch.tensor([queue.popleft() for queue in keys]))
    return len(done)


def told(**things: float) -> list[float]:
    """Platformer telemetry of a hero at full speed on flat ground, but for `things`."""
    assert set(things) <= {f.name for f in GAMES["platformer"].telemetry}
    return [(NOTHING_NEAR | things).get(f.name, 0.0) for f in GAMES["platformer"].telemetry]


def plan(latency_frames: float = 0.0, **things: float) -> list[str]:
    """Names of the buttons that a new pilot presses in the frames after he was `told` these things."""
    spec = GAMES["platformer"]
    pilot, telemetry = Autopilot(spec), told(**things)
    masks = [pilot.decide(telemetry, frame, latency_frames + frame) for frame in range(30)]
    return ["+".join(b.name or "" for b in spec.buttons if mask & b) for mask in masks]


def deaths(seconds: int, count: int, error: float) -> int:
    """Of `count` held-out platformer worlds in so many seconds, with telemetry every STRIDE frames that is
    off by `error` tiles."""
    spec = GAMES["platformer"]
    world = simulator("platformer").World(torch.arange(FIRST_SEED, FIRST_SEED + count))
    pilots, lives = [Autopilot(spec) for _ in range(count)], spec.field_index("lives")
    dice, off = (
        torch.Generator().manual_seed(1),
        torch.tensor([error * (f.unit == "tiles") for f in spec.telemetry]),
    )
    died = 0
    for frame in range(seconds * 60):
        if frame % STRIDE == 0:
            true = world.telemetry()
            seen = true + torch.randn(true.shape, generator=dice) * off * (true != 10)
        masks = [p.decide(t, frame, frame % STRIDE) for p, t in zip(pilots, seen.tolist(), strict=True)]
        before = world.telemetry()[:, lives]
        world.step(torch.tensor(masks))
        died += int((world.telemetry()[:, lives] < before).sum())
    return died


@pytest.mark.parametrize(("error", "most"), [(0.0, 2), (0.1, 5)])
def test_platformer_autopilot_seldom_dies(error: float, most: int) -> None:
    assert deaths(seconds=40, count=8, error=error) <= most


def test_runner_only_runs_where_nothing_is_near() -> None:
    assert plan()[:STRIDE] == ["RIGHT"] * STRIDE


def test_runner_holds_the_jump_longer_over_a_wider_pit() -> None:
    held = [sum("JUMP" in keys for keys in plan(gap_ahead=0.1, gap_width=width)) for width in (1.0, 3.0, 4.0)]
    assert 0 < held[0] < held[1] < held[2]


def test_runner_jumps_earlier_when_its_keys_act_late() -> None:
    pit = {"gap_ahead": 0.8, "gap_width": 3.0}
    assert "RIGHT+JUMP" in plan(8, **pit)
    assert "RIGHT+JUMP" not in plan(0, **pit)


def test_runner_brakes_in_the_air_before_a_pit_that_it_would_fall_into() -> None:
    falling = {"y": 6.0, "vy": -8.0, "grounded": 0.0, "gap_width": 4.0}
    assert plan(**falling, gap_ahead=0.5)[:STRIDE] == ["LEFT"] * STRIDE
    assert plan(**falling, gap_ahead=6.0)[:STRIDE] == ["RIGHT"] * STRIDE


def test_runner_remembers_the_pit_while_it_faces_left() -> None:
    spec = GAMES["platformer"]
    pilot = Autopilot(spec)
    falling = told(y=6.0, vy=-8.0, grounded=0.0, gap_ahead=0.5, gap_width=4.0)
    assert [pilot.decide(falling, frame, frame) for frame in range(STRIDE)] == [spec.buttons["LEFT"]] * STRIDE
    nothing_left = told(x=20.4, y=5.3, vx=4.0, vy=-11.5, grounded=0.0)
    assert pilot.decide(nothing_left, STRIDE) == spec.buttons["LEFT"]


def test_speed_is_told_from_places_and_forgotten_for_another_thing() -> None:
    track = Track()
    for look in range(12):
        track = track.after(STRIDE).seen(
            5.0 - 0.02 * STRIDE * look + 0.02 * (-1) ** look, 3.0, STRIDE, memory=8
        )
    assert track.vx == pytest.approx(-0.02, abs=0.004)
    assert track.seen(9.0, 3.0, STRIDE, memory=8).vx == 0


@pytest.mark.parametrize(("running", "rides"), [(0.0, True), (7.5, False)])
def test_who_is_moved_without_running_rides(running: float, rides: bool) -> None:
    way, senses = Way(), Senses(GAMES["platformer"])
    for look in range(8):
        senses.look(told(x=20.0 + (0.02 + running / 60) * STRIDE * look, vx=running))
        way.look(senses, Hero(x=senses.x, y=senses.y, stands=True), STRIDE)
    assert way.ride() == pytest.approx((0.02 if rides else 0.0, 0.0), abs=0.002)


def test_runner_falls_onto_a_walker_but_not_onto_spikes() -> None:
    above = {"y": 6.0, "vy": -10.0, "vx": 4.0, "grounded": 0.0}
    enemy = {"enemy_ahead": 0.3, "enemy_height": -3.0}
    assert plan(**above, **enemy)[:STRIDE] == ["RIGHT"] * STRIDE
    assert plan(**above, **enemy, enemy_spiked=1.0)[0] == "LEFT"


def test_runner_jumps_over_spikes_that_come_near() -> None:
    assert any("JUMP" in keys for keys in plan(enemy_ahead=1.0, enemy_spiked=1.0)[:STRIDE])


def test_runner_stops_before_a_pit_that_is_too_wide() -> None:
    keys = plan(vx=2.0, gap_ahead=0.6, gap_width=6.5)
    assert not any("JUMP" in key for key in keys)
    assert keys[-1] == ""


@pytest.mark.parametrize("delay", [0, 3])
def test_platformer_autopilot_reaches_the_flag(delay: int) -> None:
    assert finished("platformer", "level", 1, seconds=45, count=8, delay=delay) >= 7


def test_racing_autopilot_completes_a_lap() -> None:
    assert finished("racing", "lap", 1, seconds=90, count=8, delay=2) >= 7


@pytest.mark.parametrize("delay", [0, 2, 5])
def test_racer_knows_where_the_true_wheel_is_however_late_it_is_told(delay: int) -> None:
    """Telemetry every STRIDE frames, keys that act late, the simulator's own wheel: nothing to correct."""
    world, spec = simulator("racing").World(torch.tensor([FIRST_SEED])), GAMES["racing"]
    pilot, keys, off, turned = Autopilot(spec), deque([0] * delay), 0.0, 0.0
    for frame in range(900):
        if frame % STRIDE == 0:
            told = world.telemetry()[0].tolist()
        keys.append(pilot.decide(told, frame, delay + frame % STRIDE))
        wheel = float(world.state.steer[0])
        off = max(off, abs(pilot._player._wheels[-1 - delay] - wheel)) if frame > delay else 0.0
        turned = max(turned, abs(wheel))
        world.step(torch.tensor([keys.popleft()]))
    assert turned > 0.5 and off < 0.06  # one frame of a key


def test_racer_goes_by_the_wheel_that_is_told() -> None:
    """A dreamed wheel may turn less than the keys say: who went by keys alone would steer too little."""
    spec = GAMES["racing"]
    start = simulator("racing").World(torch.tensor([FIRST_SEED])).telemetry()[0].tolist()
    here = dict(zip((field.name for field in spec.telemetry), start))

    def held(wheel: float) -> int:
        """Frames out of the last 30 in which RIGHT is held, where `wheel` is told all the time."""
        pilot = Autopilot(spec)
        told = list((here | {"speed": 20.0, "lateral": -1.0, "steer": wheel}).values())
        masks = [pilot.decide(told, frame) for frame in range(60)]
        return sum(bool(mask & int(spec.buttons["RIGHT"])) for mask in masks[30:])

    assert held(0.3) == 30 and held(1.0) < 15


@pytest.mark.parametrize("game", list(GAMES))
def test_autopilot_never_presses_opposite_directions_or_unknown_buttons(game: str) -> None:
    spec, pilot = GAMES[game], Autopilot(GAMES[game])
    buttons = spec.buttons
    for frame in range(300):
        telemetry = [
            f.low + (f.high - f.low) * ((frame * (i + 3)) % 17) / 16 for i, f in enumerate(spec.telemetry)
        ]
        mask = pilot.decide(telemetry, frame)
        assert mask & ~sum(buttons) == 0
        assert mask & (buttons["LEFT"] | buttons["RIGHT"]) != buttons["LEFT"] | buttons["RIGHT"]


def test_autopilot_starts_afresh_when_the_index_goes_back() -> None:
    spec = GAMES["platformer"]
    still = [0.0] * len(spec.telemetry)
    pilot = Autopilot(spec)
    for frame in range(0, 400):
        pilot.decide(still, frame)
    assert pilot.decide(still, 0) == Autopilot(spec).decide(still, 0)


def test_a_hero_that_creeps_on_against_a_step_jumps_then_backs_up_and_jumps() -> None:
    spec = GAMES["platformer"]
    left, right, jump = (int(spec.buttons[name]) for name in ("LEFT", "RIGHT", "JUMP"))
    pilot, pressed = Autopilot(spec), []
    for frame in range(270):
        pressed.append(pilot.decide(told(x=20.0 + frame / 180, vx=0.7, wall_ahead=3.5), frame))
    ways = [mask for mask, _ in groupby(pressed)]
    assert ways[:6] == [right, right | jump, right, left, right, right | jump]
    assert pressed.index(right | jump) < 2 * 60 and pressed.count(left) == 36


def test_a_hero_who_runs_against_something_does_not_wait_for_an_enemy_behind_it() -> None:
    spec = GAMES["platformer"]
    left, right, jump = (int(spec.buttons[name]) for name in ("LEFT", "RIGHT", "JUMP"))
    pilot, pressed = Autopilot(spec), []
    for frame in range(90):
        pressed.append(
            pilot.decide(told(x=20.0 - frame / 2000, vx=0.5, wall_ahead=3.5, enemy_ahead=4.5), frame)
        )
    assert 30 < pressed.index(right | jump) < 60 and left not in pressed


def test_a_way_out_ends_where_the_hero_dies() -> None:
    spec = GAMES["platformer"]
    pilot, frame = Autopilot(spec), 0
    while not pilot.decide(told(x=20.0, wall_ahead=3.5), frame) & spec.buttons["JUMP"]:
        frame += 1
    masks = [pilot.decide(told(x=20.0, alive=0.0), frame + t) for t in (1, 2)]
    assert not any(mask & spec.buttons["JUMP"] for mask in masks)


def lived(lessons: Lessons, *looks: dict[str, float]) -> None:
    """The lessons of who saw these things one after the other."""
    senses, hero = Senses(GAMES["platformer"]), Hero()
    for things in looks:
        senses.look(told(**things))
        if senses.alive > 0.5:
            hero.correct(senses, STRIDE)
        lessons.look(senses, hero)


STOOD = {"x": 20.0}
FELL = {"x": 23.0, "y": 0.5, "vy": -17.0, "grounded": 0.0, "wall_ahead": 0.8, "wall_height": 3.5}
DEAD = {"x": 23.0, "y": -1.0, "vy": -18.0, "grounded": 0.0, "alive": 0.0}


def test_who_fell_before_a_wall_knows_where_the_far_side_is() -> None:
    lessons = Lessons()
    lived(lessons, STOOD, FELL, DEAD)
    flat = [Piece(-math.inf, 3.0), Piece(22.0, PIT), Piece(23.0, 3.0)]  # what the dream tells
    ground = sorted(lessons.ground(flat, front=20.0))
    edge, far = 20.0 + WIDTH, 23.0 + WIDTH + 0.8
    assert [piece.x for piece in ground] == pytest.approx([-math.inf, edge, far])
    assert [piece.y for piece in ground] == pytest.approx([3.0, PIT, 4.0])
    assert lessons.ground(flat, front=20.0 - 20) == flat, "too far away to matter"
    lived(lessons, STOOD, FELL, DEAD)
    assert max(lessons.ground(flat, front=20.0)).x > far, "once more: it is farther than thought"
    lived(lessons, {"x": 26.0, "y": 4.0})
    assert lessons.ground(flat, front=20.0) == flat, "got over it"


def test_who_was_touched_knows_of_something_there_until_past_it() -> None:
    lessons, nothing = Lessons(), Foe()
    assert lessons.foe(nothing, 20.0) is nothing
    lived(lessons, {"x": 24.0}, {"x": 24.2, "alive": 0.0, "vy": 12.0}, STOOD)
    known = lessons.foe(nothing, 20.0)
    assert (known.x, known.y) == pytest.approx((24.0 + WIDTH, 3.0))
    near = Foe(x=22.0, y=3.0)
    assert lessons.foe(near, 20.0) is near
    lived(lessons, {"x": 27.0})
    assert lessons.foe(nothing, 20.0) is nothing


def test_a_runner_that_died_of_what_it_was_not_told_jumps_the_next_time() -> None:
    spec = GAMES["platformer"]
    pilot, frame = Autopilot(spec), 0
    near = told(x=23.0)
    assert not any(mask & spec.buttons["JUMP"] for mask in (pilot.decide(near, t, t) for t in range(STRIDE)))
    for things in ({"x": 23.5}, {"x": 23.9, "alive": 0.0, "vy": 12.0, "grounded": 0.0}, {"x": 15.0}):
        frame += STRIDE
        pilot.decide(told(**things), frame)
    masks = [pilot.decide(told(x=22.7), frame + 4 + t, t) for t in range(STRIDE)]
    assert any(mask & spec.buttons["JUMP"] for mask in masks)
