"""Long play is judged rightly: freezing, looping, fading and blur on plays that are made up."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine.training.evaluation.judge import (  # noqa: E402
    Verdict,
    by_minute,
    drivable,
    judge,
    sharpness_ratio,
    summary,
    walked,
)
from engine.training.evaluation.long_play import Trace  # noqa: E402
from engine.training.reader import Readings  # noqa: E402
from games import GAMES  # noqa: E402

STRIDE = 4
SPEC = GAMES["racing"]


def trace_of(looks: list[float], held: bool = True) -> Trace:
    """A race at a steady pace, every picture of one grey."""
    trace = Trace("racing", STRIDE)
    for t, grey in enumerate(looks):
        trace.small.append(torch.full((3, 60, 90), int(grey), dtype=torch.uint8))
        telemetry = np.zeros(len(SPEC.telemetry), np.float32)
        telemetry[SPEC.field_index("speed")] = 20
        trace.telemetry.append(telemetry)
        trace.moving.append(held)
        trace.sharp.append(1.0 if t < len(looks) / 2 else 0.5)
        trace.spread.append(float("nan"))
    return trace


def test_a_freeze_counts_only_while_a_button_should_move_things() -> None:
    looks = [t % 200 for t in range(0, 120, 2)] + [7] * 30
    assert judge(trace_of(looks), None).freeze_max_s == pytest.approx(29 * STRIDE / 60)
    assert judge(trace_of(looks, held=False), None).freeze_max_s == 0


def test_a_loop_is_found_and_a_way_onward_is_none() -> None:
    assert judge(trace_of([(t % 20) * 10 for t in range(200)]), None).looped_fraction > 0.8
    assert judge(trace_of([t * 1.2 for t in range(200)]), None).looped_fraction == 0


def test_colours_that_fade_and_pictures_that_blur_are_seen() -> None:
    verdict = judge(trace_of([100.0] * 450 + [151.0] * 450), None)
    assert verdict.colour_drift == pytest.approx(0.2, abs=0.001)
    assert verdict.sharpness_last == pytest.approx(0.5)
    assert verdict.detected_fraction is None and verdict.spread_last is None
    assert verdict.drivable_fraction is None, "without a reader nobody has looked at the picture"


def levels_of(dreamed: bool) -> Trace:
    """Four minutes of the platformer, a level a minute: meadow, city, meadow, city, told and seen alike."""
    spec, trace = GAMES["platformer"], Trace("platformer", STRIDE)
    for t in range(4 * 900):
        look, grey = (("look_meadow", 100), ("look_city", 151))[t // 900 % 2]
        trace.small.append(torch.full((3, 60, 90), grey, dtype=torch.uint8))
        telemetry = np.zeros(len(spec.telemetry), np.float32)
        telemetry[[spec.field_index("alive"), spec.field_index(look)]] = 1
        trace.note(telemetry, [0], 1.0, 1.0 if dreamed else float("nan"))
    return trace


def test_levels_of_the_simulator_differ_in_look_and_those_of_a_dream_are_all_the_openings() -> None:
    assert judge(levels_of(dreamed=False), None).colour_drift == pytest.approx(0, abs=1e-6)
    assert judge(levels_of(dreamed=True), None).colour_drift == pytest.approx(0.2, abs=0.001)


def test_worst_freeze_and_mean_of_the_rest() -> None:
    verdicts = [Verdict(1.0, s, 0.0, None, 0.5 + s, 1.0, None, None) for s in (0.1, 0.3)]
    total = summary(verdicts)
    assert total["freeze_max_s"] == 0.3 and total["drivable_fraction"] == pytest.approx(0.7)
    assert total["colour_drift"] is None


def test_sharpness_is_held_against_the_simulators_at_the_same_time_of_play() -> None:
    minute = 3600 // STRIDE
    real, dreamed = trace_of([100.0] * (minute + 1)), trace_of([100.0] * (minute + 1))
    real.sharp = [2.0] * (minute + 1)
    # Half a minute at full sharpness, then at 0.7 of it; measured once a second.
    dreamed.sharp = [
        (2.0 if t <= minute // 2 else 1.4) if dreamed.measured(t) else float("nan") for t in range(minute + 1)
    ]
    ratios = sharpness_ratio([judge(dreamed, None)], [judge(real, None)])
    assert ratios == {10: 1.0, 60: pytest.approx(0.7), 600: None}
    assert "gradient_energy" not in summary([judge(real, None)])


def test_whole_minutes_show_when_a_dream_decays() -> None:
    minute = 3600 // STRIDE
    held = torch.tensor([1.0] * minute + [float("nan")] * minute + [0.0, 1.0] * (minute // 2) + [1.0])
    minutes = by_minute(held, STRIDE)
    assert minutes == (1, None, 0.5)
    other = by_minute(torch.zeros(3 * minute + 1), STRIDE)
    verdicts = [Verdict(1.0, 0.1, 0.0, None, 1.0, 1.0, None, None, (), of) for of in (minutes, other)]
    assert summary(verdicts)["drivable_by_minute"] == [0.5, 0, 0.25]


def test_one_can_go_on_where_the_road_is_and_things_move() -> None:
    speed, lateral = torch.full((200,), 20.0), torch.zeros(200)
    lateral[:50] = 2.0
    speed[120:] = 0.0
    fine = drivable("racing", {"speed": speed, "lateral": lateral}, STRIDE)
    assert not fine[:50].any() and fine[50:150].all() and not fine[-5:].any()
    running = torch.arange(200) * 0.3
    assert drivable("platformer", {"x": running}, STRIDE).all()
    assert not drivable("platformer", {"x": running * 0}, STRIDE)[75:].any()
    creeping = torch.arange(200) * (0.3 * STRIDE / 60)
    assert not drivable("platformer", {"x": creeping}, STRIDE)[75:].any()


def test_the_hero_walks_as_far_as_the_pictures_show() -> None:
    class Seen:
        names = ("y", "x")

    steps = torch.tensor([[9.0, 0.5], [9.0, 0.25], [9.0, -0.25]])
    reading = Readings(steps, torch.zeros(3, 3), torch.ones(3), torch.zeros(3, 160))
    assert walked(reading, Seen()).tolist() == [0, 0, 0.5, 0.75, 0.5]  # type: ignore[arg-type]
