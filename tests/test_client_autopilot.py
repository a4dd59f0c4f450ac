"""The scripted player finishes what it starts, also when its keys act late."""

from collections import deque
from collections.abc import Iterator

import pytest

from client.autopilot import Autopilot
from games import GAMES, simulator

torch = pytest.importorskip("torch")

FIRST_SEED = 1_000_000


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


@pytest.mark.parametrize("delay", [0, 3])
def test_platformer_autopilot_reaches_the_flag(delay: int) -> None:
    assert finished("platformer", "level", 1, seconds=45, count=8, delay=delay) >= 7


def test_racing_autopilot_completes_a_lap() -> None:
    assert finished("racing", "lap", 1, seconds=90, count=8, delay=2) >= 7


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


def test_a_hero_that_creeps_on_against_a_step_backs_up_and_jumps() -> None:
    spec = GAMES["platformer"]
    ahead = {"x": 20.0, "y": 3.0, "vx": 0.7, "grounded": 1.0, "alive": 1.0, "wall_ahead": 1.5}
    pilot, pressed = Autopilot(spec), set()
    for frame in range(240):
        told = [ahead.get(f.name, 0.0) + (frame / 120 if f.name == "x" else 0.0) for f in spec.telemetry]
        pressed.add(pilot.decide(told, frame))
    assert int(spec.buttons["LEFT"]) in pressed
