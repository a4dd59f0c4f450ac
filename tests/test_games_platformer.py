"""The platformer: rules, determinism, pictures and masks, telemetry good enough to play by."""

import hashlib
import subprocess
import sys
from functools import cache

import pytest
import torch
from torch import Tensor

from games.platformer.sections import SOLID
from games.platformer.spec import LAYERS_TOLD, SPEC, Buttons
from games.platformer.state import CHEER, DEAD, PLAY
from games.platformer.units import COLUMNS, GAIT, PARALLAX, PERIOD, ROWS, SUB, TILE
from games.platformer.world import Drivers, World

LEFT, RIGHT, JUMP = (int(b) for b in (Buttons.LEFT, Buttons.RIGHT, Buttons.JUMP))
FLOOR = 2 * TILE


@pytest.fixture(autouse=True)
def _few_threads():
    torch.set_num_threads(1)  # tensors of a few worlds: more threads only wait for each other


def world_of(*seeds: int) -> World:
    return World(torch.tensor(seeds))


def arena(seed: int = 0) -> World:
    """A world whose level is flat ground 2 tiles high, with nobody and nothing in it."""
    world = world_of(seed)
    tiles = torch.zeros(1, ROWS, COLUMNS, dtype=torch.int64)
    tiles[:, :2] = SOLID
    level = world.level
    level.tiles, level.art = tiles.flatten(1), tiles.flatten(1)
    level.surface = torch.full_like(level.surface, FLOOR)
    level.base = torch.full_like(level.base, 2)
    for things in (level.enemy, level.coin, level.platform):
        things.zero_()
    put(world, 300, FLOOR)
    return world


def put(world: World, x: int, y: int) -> None:
    """Stand the hero's left edge at x px, his feet at y px."""
    s = world.state
    s.x, s.y = torch.tensor([x * SUB]), torch.tensor([y * SUB])
    s.vx, s.vy = torch.zeros_like(s.x), torch.zeros_like(s.x)


def hold(world: World, buttons: int, frames: int) -> None:
    for _ in range(frames):
        world.step(torch.full_like(world.seeds, buttons))


def dig(world: World, first: int, last: int) -> None:
    """A pit over columns first..last."""
    for row in range(2):
        world.level.tiles[:, row * COLUMNS + first : row * COLUMNS + last + 1] = 0
    world.level.surface[:, first : last + 1] = -1


def field(world: World, name: str) -> float:
    return world.telemetry()[0, SPEC.field_index(name)].item()


def digest(*tensors: Tensor) -> str:
    h = hashlib.sha256()
    for tensor in tensors:
        h.update(tensor.contiguous().numpy().tobytes())
    return h.hexdigest()


def play_digest() -> str:
    """A fingerprint of 200 driven frames: pictures now and then, telemetry always."""
    world, drivers, seen = world_of(3, 4), Drivers(torch.tensor([8, 9])), []
    for frame in range(200):
        world.step(drivers.act(world))
        seen.append(world.telemetry())
        if frame % 50 == 49:
            seen.extend(world.render_classes())
    return digest(*seen)


def test_same_bytes_in_another_process():
    code = "import torch, tests.test_games_platformer as t; torch.set_num_threads(1); print(t.play_digest())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == play_digest()


def test_result_does_not_depend_on_the_batch():
    alone, crowd = world_of(6), world_of(5, 6, 7)
    one, many = Drivers(torch.tensor([2])), Drivers(torch.tensor([1, 2, 3]))
    for _ in range(240):
        alone.step(one.act(alone))
        crowd.step(many.act(crowd))
    assert torch.equal(alone.telemetry()[0], crowd.telemetry()[1])
    assert torch.equal(alone.render()[0], crowd.render()[1])


def test_rendering_changes_nothing():
    watched, blind = world_of(11), world_of(11)
    for frame in range(40):
        buttons = torch.tensor([RIGHT | (JUMP if frame % 20 < 8 else 0)])
        watched.render_classes()
        watched.telemetry()
        watched.step(buttons)
        blind.step(buttons)
    states = [digest(w.render(), *vars(w.state).values()) for w in (watched, blind)]
    assert states[0] == states[1]


def test_restart_equals_fresh():
    used, fresh = world_of(1, 2), world_of(1, 77)
    hold(used, RIGHT, 50)
    used.restart(torch.tensor([False, True]), torch.tensor([0, 77]))
    for name, value in vars(used.state).items():
        assert torch.equal(value[1], getattr(fresh.state, name)[1]), name
    assert torch.equal(used.level.tiles[1], fresh.level.tiles[1])
    assert used.state.time[0] == 50


def test_inactive_worlds_stay_as_they_are():
    world = world_of(1, 2)
    before = {k: v.clone() for k, v in vars(world.state).items()}
    for _ in range(5):
        world.step(torch.tensor([RIGHT, RIGHT]), torch.tensor([True, False]))
    assert all(torch.equal(v[1], before[k][1]) for k, v in vars(world.state).items())
    assert world.state.x[0] > before["x"][0]


def test_no_two_levels_are_alike():
    world = World(torch.arange(64))
    assert len({digest(t) for t in world.level.tiles}) == 64
    lengths = world.level.length
    assert lengths.min() >= 100 and lengths.max() <= 160
    assert set(world.level.look.tolist()) == {0, 1, 2}


def test_skilled_driver_finishes_levels():
    world = World(torch.arange(8) + 1_000_000)
    drivers = Drivers(torch.arange(8), style="skilled")
    for _ in range(1800):
        world.step(drivers.act(world))
        if (world.state.finished >= 1).sum() >= 7:
            return
    raise AssertionError(f"only {world.state.finished.tolist()}")


class Reactive:
    """A player who sees telemetry alone, and remembers how high he last stood or saw a step."""

    def __init__(self, worlds: int) -> None:
        self.held, self.floor = torch.full((worlds,), -1), torch.zeros(worlds)

    def buttons(self, t: Tensor) -> Tensor:
        f = {field.name: t[:, i] for i, field in enumerate(SPEC.telemetry)}
        gap_end = f["gap_ahead"] + f["gap_width"]
        climbing = (f["grounded"] < 1) & (f["wall_height"] > 0) & (f["wall_ahead"] < 1.5)
        self.floor = torch.where(climbing, f["y"] + f["wall_height"], self.floor)
        self.floor = torch.where(f["grounded"] > 0, f["y"], self.floor)
        speed = f["vx"].clamp(min=2.5)
        gap = (f["gap_width"] > 0) & (f["gap_ahead"] < 0.25)
        wall = (f["wall_height"] > 0) & (f["wall_ahead"] < 0.3 + speed * 0.14)
        wall &= (f["wall_ahead"] < f["gap_ahead"]) | gap
        enemy = (f["enemy_height"].abs() < 1.2) & (f["enemy_ahead"] < 0.5 + speed * 0.18)
        up = f["wall_height"] * (f["wall_ahead"] < gap_end + 1)
        need = torch.where(gap, ((gap_end + 0.6) / speed * 60 - 21) * 0.6 + 2, 0.0)
        climb = 6 + 7 * up + gap * (4 + 4 * f["gap_width"])
        need = torch.maximum(need, torch.where((wall | gap) & (up > 0), climb, 0.0))
        need = torch.maximum(need, torch.where(enemy, 4 + 14 * f["enemy_spiked"], 0.0)).clamp(2, 25)
        start = (gap | wall | enemy) & (f["grounded"] > 0) & (self.held < 0)
        self.held = torch.where(start, need.long(), self.held - 1).clamp(min=-1)
        direction = torch.where(self.brakes(f, gap_end), LEFT, RIGHT)
        return direction + torch.where(self.held > 0, JUMP, 0)

    def brakes(self, f: dict[str, Tensor], gap_end: Tensor) -> Tensor:
        """In the air over ground, when the landing will be in the pit behind it or below its far edge."""
        g = 0.72 * 3600 / TILE
        height = (f["y"] - self.floor).clamp(min=0)
        time = (f["vy"] + (f["vy"] ** 2 + 2 * g * height).sqrt()) / g
        lands = f["vx"] * time
        later = f["wall_ahead"] / f["vx"].clamp(min=0.5)
        low = (f["wall_height"] > 0) & (f["wall_ahead"] >= f["gap_ahead"]) & (f["wall_ahead"] < gap_end + 1)
        low &= f["vy"] * later - g / 2 * later**2 < f["wall_height"]
        into = (lands > f["gap_ahead"] + 0.15) & ((lands < gap_end - 0.1) | low)
        return into & (f["grounded"] < 1) & (f["gap_ahead"] > 0) & (f["gap_width"] > 0) & (f["vx"] > 0.5)


def test_telemetry_is_enough_to_finish_levels():
    world, player = World(torch.arange(8) + 2_000_000), Reactive(8)
    reached = torch.zeros(8, dtype=torch.bool)
    for _ in range(2400):
        world.step(player.buttons(world.telemetry()))
        reached |= world.state.finished > 0
        if reached.sum() >= 7:
            return
    raise AssertionError(f"{reached.sum()} of 8 finished")


def test_longer_hold_jumps_higher():
    tops = []
    for frames in (1, 6, 12, 30):
        world = arena()
        hold(world, 0, 2)
        top = 0.0
        for frame in range(60):
            hold(world, JUMP if frame < frames else 0, 1)
            top = max(top, field(world, "y"))
        tops.append(top - 2)
    assert tops == sorted(tops) and len(set(tops)) == 4
    assert 0.6 < tops[0] < 1.3 and 3.6 < tops[-1] < 4.0


def test_coyote_time_and_jump_buffer():
    late = arena()
    dig(late, 10, 20)
    put(late, 9 * TILE + 40, FLOOR)
    hold(late, RIGHT, 1)
    while field(late, "grounded"):
        hold(late, RIGHT, 1)
    hold(late, RIGHT, 3)
    hold(late, RIGHT | JUMP, 1)
    assert field(late, "vy") > 10
    early = arena()
    put(early, 300, FLOOR + 20)
    hold(early, 0, 3)
    hold(early, JUMP, 5)
    assert max(field(early, "vy"), early.state.vy.item()) > 0


def test_stomp_kills_and_bounces():
    bounces = []
    for buttons in (0, JUMP):
        world = arena()
        world.level.enemy[0, 0] = torch.tensor([300, 310, FLOOR, 1, 0])
        put(world, 300, FLOOR + 90)
        hold(world, buttons, 30)
        assert world.state.enemy[0, 0] > 0 and world.state.mode == PLAY
        bounces.append(field(world, "y"))
    assert bounces[1] > bounces[0] > 2


def test_touches_kill():
    for kind, height in ((1, 0), (2, 0), (2, 90)):
        world = arena()
        world.level.enemy[0, 0] = torch.tensor([300, 310, FLOOR, kind, 0])
        put(world, 300, FLOOR + height)
        hold(world, 0, 30)
        assert world.state.mode == DEAD and field(world, "lives") == 4 and field(world, "alive") == 0
        assert world.state.enemy[0, 0] == 0


def test_coin_counts_once_and_disappears():
    world = arena()
    world.level.coin[0, 0] = torch.tensor([400, FLOOR, 1])
    coin = 1 + SPEC.masks.index("coin")
    assert (world.render_classes()[1] == coin).sum() > 500
    hold(world, RIGHT, 60)
    assert field(world, "coins") == 1
    hold(world, LEFT, 60)
    assert field(world, "coins") == 1
    assert (world.render_classes()[1] == coin).sum() == 0


def test_fall_costs_a_life_and_respawns():
    world = arena()
    dig(world, 10, 14)
    start = world.state.checkpoint.item()
    hold(world, RIGHT, 110)
    assert field(world, "lives") == 4
    world = arena()
    dig(world, 10, 14)
    put(world, 11 * TILE, FLOOR)
    hold(world, 0, 90)
    assert field(world, "alive") == 1 and field(world, "grounded") == 1 and world.state.checkpoint == start


def test_last_life_begins_the_first_level():
    world = arena()
    world.state.lives = torch.tensor([1])
    world.state.number = torch.tensor([3])
    dig(world, 5, 30)
    hold(world, 0, 120)
    assert field(world, "lives") == 5 and world.state.number == 0
    assert torch.equal(world.level.tiles, world_of(0).level.tiles)


def test_platform_carries_the_hero():
    for dx, dy in ((400, 0), (0, 200)):
        world = arena()
        dig(world, 5, 30)
        world.level.platform[0, 0] = torch.tensor([480, FLOOR, dx, dy, 256, 1])
        left = (480, FLOOR)
        put(world, left[0] + 50, left[1] + dy + 20)
        hold(world, 0, 60)
        before = (field(world, "x"), field(world, "y"))
        hold(world, 0, 45)
        assert field(world, "grounded") == 1 and field(world, "alive") == 1
        now = (field(world, "x"), field(world, "y"))
        assert (now[0] != before[0]) == (dx > 0) and (now[1] != before[1]) == (dy > 0)


def test_flag_leads_to_the_next_level():
    world = arena()
    length = world.level.length.item()
    put(world, (length - 6) * TILE, FLOOR)
    hold(world, RIGHT, 30)
    assert world.state.mode == CHEER
    hold(world, 0, 60)
    assert field(world, "level") == 1 and length <= field(world, "x") < length + 4
    assert not torch.equal(world.level.tiles, world_of(0).level.tiles)


def test_telemetry_describes_the_way_ahead():
    world = arena()
    dig(world, 10, 12)
    world.level.enemy[0, 0] = torch.tensor([390, 400, FLOOR, 2, 0])
    put(world, 300, FLOOR)
    hold(world, 0, 2)
    assert field(world, "gap_ahead") == pytest.approx((480 - 336) / 48)
    assert field(world, "gap_width") == pytest.approx(3)
    assert field(world, "enemy_spiked") == 1
    assert field(world, "enemy_ahead") == pytest.approx((390 - 336) / 48, abs=0.3)
    assert field(world, "wall_ahead") == 10 and field(world, "wall_height") == 0


def test_telemetry_tells_where_the_picture_is():
    world = arena()
    for frame in range(70):
        world.step(torch.tensor([RIGHT if frame < 40 else LEFT | JUMP]))
    assert field(world, "faces_right") == 0 and field(world, "camera_height") >= 0
    _, classes = world.render_classes()
    rows, columns = (classes[0] == 1 + SPEC.masks.index("player")).nonzero().T
    middle = float(columns.float().mean())
    assert middle == pytest.approx(360 - field(world, "camera_ahead") * TILE, abs=12)
    feet = (field(world, "y") - field(world, "camera_height")) * TILE
    assert 480 - float(rows.max()) == pytest.approx(feet, abs=6)


def test_telemetry_tells_which_hills_are_seen():
    """By angles: whoever is told the same ones sees the same hills."""
    world, drivers = World(torch.arange(6) + 70), Drivers(torch.arange(6) + 70)
    for _ in range(500):
        world.step(drivers.act(world))
    told, state = world.telemetry(), world.state
    hills = [(f"layer_{layer}", state.camera_x * p // 100, PERIOD) for layer, p in enumerate(PARALLAX)]
    angles = [(f"{name}_{times}", at * times, period) for name, at, period in hills for times in LAYERS_TOLD]
    angles += [("tile", state.camera_x, TILE), ("gait", state.x // SUB, GAIT), ("coin", state.time, 28)]
    for name, place, period in angles:
        pair = [told[:, SPEC.field_index(f"{name}_{wave}")] for wave in ("sin", "cos")]
        turn = torch.atan2(*pair) / (2 * torch.pi)
        off = (turn - place / period + 0.5) % 1 - 0.5
        assert float(off.abs().max()) < 1e-4, name
    assert set(SPEC.circles) == {(f"{a}_sin", f"{a}_cos") for a, *_ in angles}


@cache
def random_play() -> tuple[Tensor, Tensor]:
    """Telemetry [F, B, T] and lives of 2,000 frames of hashed buttons."""
    from games.noise import hash_bits

    world, seen = World(torch.arange(6) + 50), []
    for frame in range(2000):
        world.step(hash_bits(world.seeds, frame // 9) & 7 | (2 if frame % 90 < 60 else 0))
        seen.append(world.telemetry())
    return torch.stack(seen), world.render()


def test_random_buttons_keep_telemetry_in_range():
    seen, picture = random_play()
    assert torch.isfinite(seen).all() and picture.shape == (6, 480, 720, 3)
    for i, f in enumerate(SPEC.telemetry):
        if f.kind in ("value", "flag"):
            assert seen[..., i].min() >= f.low and seen[..., i].max() <= f.high, f.name
    assert (seen[-1, :, 0] > 1).any()


def test_masks_are_where_things_are():
    world = arena()
    world.level.enemy[0, 0] = torch.tensor([500, 510, FLOOR, 1, 0])
    world.level.coin[0, 0] = torch.tensor([400, FLOOR + 60, 1])
    world.level.platform[0, 0] = torch.tensor([150, FLOOR + 150, 0, 0, 0, 1])
    picture, classes = world.render_classes()
    assert torch.equal(picture, world.render())
    camera = world.state.camera_x.item()
    middles = {"player": (318, FLOOR + 25), "enemy": (519, FLOOR + 15), "coin": (418, FLOOR + 78)}
    middles["platform"] = (222, FLOOR + 140)
    for k, name in enumerate(SPEC.masks):
        x, y = middles[name]
        assert classes[0, 480 - y + world.state.camera_y.item() // SUB, x - camera] == k + 1, name
        assert 150 < (classes == k + 1).sum() < 7000


def test_every_driver_style_plays():
    for style in Drivers.STYLES:
        world, drivers = world_of(21, 22, 23, 24), Drivers(torch.arange(4), style=style)
        for _ in range(50):
            buttons = drivers.act(world)
            assert ((buttons >= 0) & (buttons < 8)).all()
            world.step(buttons)
        assert (style == "idle") == bool(field(world, "x") < 1.5) or style in ("back_runner", "masher"), style


def test_drivers_change_their_style():
    drivers, world = Drivers(torch.arange(32)), World(torch.arange(32))
    first = drivers.act(world) * 0 + drivers.style
    for _ in range(1000):
        drivers._frame += 1
        drivers._choose_style()
    assert len(set(first.tolist())) > 4 and (first != drivers.style).any()
