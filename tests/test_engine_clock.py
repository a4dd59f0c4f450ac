import math
from collections import deque
from itertools import pairwise

import pytest

from engine.pacing.clock import FollowedClock, GameClock, LagChooser, StepPace
from engine.pacing.presentation import EVERY_FRAME, Choice, Presentation, Turn


def running(clock: GameClock, index: float = 0.0) -> GameClock:
    clock.set(index, 100.0)
    clock.resume(100.0)
    return clock


def test_game_time_is_wall_time_in_60ths():
    clock = running(GameClock())
    assert clock.index(100.0) == 0 and clock.index(101.5) == pytest.approx(90)
    assert clock.seconds_until(120, 101.0) == pytest.approx(1.0)


def test_a_paused_clock_stands_still_and_goes_on_where_it_was():
    clock = running(GameClock())
    clock.pause(101.0)
    assert clock.index(500.0) == 60 and clock.seconds_until(61, 500.0) == math.inf
    assert clock.seconds_until(60, 500.0) <= 0
    clock.resume(500.0)
    assert clock.index(501.0) == pytest.approx(120)


def test_a_followed_clock_believes_the_message_that_was_delayed_least():
    clock = running(FollowedClock(), 10.0)
    clock.heard(16.5, 100.1)  # 6.5 frames later by its account: ahead of ours
    assert clock.index(100.1) == pytest.approx(16.5)
    clock.heard(21.5, 100.2)  # a frame late: hardly pulls
    assert 22.4 < clock.index(100.2) < 22.5


def test_a_followed_clock_jumps_back_when_the_other_one_slipped():
    clock = running(FollowedClock(), 100.0)
    clock.heard(90.0, 100.0)
    assert clock.index(100.0) == 90


def test_the_stride_is_the_smallest_that_holds_real_time():
    pace = StepPace()
    pace.observe(0.015)
    assert pace.choose(decode_s=0.0, now_s=0.0) == 1  # 15 ms of 16.7, the decoder has its own cores
    pace.observe(0.015)
    assert (
        pace.choose(decode_s=0.015, now_s=0.0) == 2
    )  # 15 + 15 of 33 ms, 30 decodes a second beside the steps
    pace.observe(0.015)
    assert pace.choose(decode_s=0.020, now_s=0.0) == 3  # 15 + 1.5 * 20 of 50 ms
    slow = StepPace()
    slow.observe(0.5)
    assert slow.choose(0.0, 0.0) == 8


def test_the_stride_rises_at_once_and_falls_slowly():
    pace = StepPace()
    for _ in range(9):
        pace.observe(0.040)
    assert pace.choose(0.0, 0.0) == 3
    for _ in range(9):
        pace.observe(0.001)
    assert [pace.choose(0.0, now_s) for now_s in (0.0, 2.9, 3.0, 4.0, 6.9, 7.0)] == [3, 3, 2, 2, 2, 1]


def test_the_stride_never_falls_below_what_long_play_needs_and_a_fixed_one_stays():
    pace = StepPace(smallest=2)
    pace.observe(0.001)
    assert pace.choose(0.0, 0.0) == 2
    fixed = StepPace(fixed=4)
    fixed.observe(1.0)
    assert fixed.choose(0.0, 0.0) == 4


def test_drafts_need_room_for_the_steps_that_changing_buttons_have_taken_again():
    pace = StepPace(fixed=4)
    pace.observe(0.040)
    assert not pace.drafts_fit(decode_s=0.0)  # two steps of 40 ms in 67
    for _ in range(20):
        pace.observe_buttons(False)
    assert pace.drafts_fit(decode_s=0.0) and not pace.drafts_fit(decode_s=0.010)
    for _ in range(20):
        pace.observe_buttons(True)
    assert not pace.drafts_fit(decode_s=0.0)
    every = StepPace(fixed=1)
    every.observe(0.001)
    assert not every.drafts_fit(decode_s=0.0)  # no frames between


def test_the_clock_slips_only_when_steps_cannot_catch_up():
    pace = StepPace(fixed=4)
    assert pace.slip_to(16.0, next_window_end=8) is None
    assert pace.slip_to(16.1, next_window_end=8) == 8.0 and pace.stride == 4


def test_a_slip_takes_a_larger_stride_though_the_median_step_is_quick():
    pace = StepPace(smallest=4)
    pace.observe(0.010)
    assert pace.slip_to(17.0, next_window_end=8) == 8.0 and pace.stride == 5
    assert pace.choose(0.0, 0.0) == 5  # and it comes down again only after a while


def test_the_lag_follows_the_lateness_of_true_frames_up_to_4():
    lag = LagChooser()
    for _ in range(8):
        lag.observe(1.8)
    assert lag.lag == 2 and not lag.saturated
    for _ in range(8):
        lag.observe(7.0)
    assert lag.lag == 4 and lag.saturated
    for _ in range(200):
        lag.observe(0.4)
    assert lag.lag == 0 and not lag.saturated


# -- which picture is shown ---------------------------------------------------------------------------


def played(
    step_frames: float,
    decode_frames: float,
    stride: int,
    lag: int,
    frames: int,
    turn: Turn = EVERY_FRAME,
) -> list[Choice]:
    """A decoder that works without pause beside a world whose latents come `step_frames` after their
    index."""
    clock = running(GameClock())
    presentation = Presentation(clock, LagChooser(lag), turn)
    presentation.decode_s = decode_frames / 60
    now, next_true, shown = 0.0, 0, []
    while now < frames:
        while next_true + step_frames <= now:
            presentation.arrived(next_true, next_true + stride, 100.0 + now / 60)
            next_true += stride
        choice = presentation.choose(100.0 + now / 60)
        if choice is None:
            now += 0.05
            continue
        shown.append(choice)
        presentation.shown(choice)
        now += decode_frames
    return shown


def test_a_fast_machine_shows_every_index_and_every_true_frame_at_its_own():
    shown = played(step_frames=0.9, decode_frames=0.5, stride=4, lag=2, frames=80)
    indices = [choice.index for choice in shown]
    assert indices == list(range(indices[0], indices[-1] + 1)) and len(indices) > 70
    assert all((choice.ahead == 0) == (choice.index % 4 == 0) and choice.ahead < 4 for choice in shown)


@pytest.mark.parametrize(("before", "after"), [(4, 5), (4, 8), (2, 8), (5, 4), (8, 2), (2, 3)])
@pytest.mark.parametrize("lag", [1, 2, 3])
def test_where_the_stride_changes_every_index_is_shown_and_true_frames_at_their_own(before, after, lag):
    ends = [before * n for n in range(11)]
    ends += [ends[-1] + after * n for n in range(1, 11)]
    clock = running(GameClock())
    presentation = Presentation(clock, LagChooser(lag))
    presentation.decode_s = 0.3 / 60
    coming, shown, now = deque(pairwise(ends)), [], 0.0
    while now < ends[-2]:
        while coming and coming[0][0] + 0.9 <= now:
            presentation.arrived(*coming.popleft(), 100.0 + now / 60)
        if (choice := presentation.choose(100.0 + now / 60)) is None:
            now += 0.05
            continue
        shown.append(choice)
        presentation.shown(choice)
        now += 0.3
    indices = [choice.index for choice in shown]
    assert indices == list(range(indices[0], indices[-1] + 1)) and len(indices) > ends[-2] - 8
    assert all((choice.ahead == 0) == (choice.index in ends) for choice in shown)


def test_a_true_frame_that_is_a_fraction_late_is_shown_without_more_lag():
    shown = played(step_frames=2.2, decode_frames=0.5, stride=4, lag=2, frames=120)
    assert [choice.index for choice in shown if choice.ahead == 0] == list(range(0, 117, 4))
    assert all(choice.ahead < 4 for choice in shown) and len(shown) > 100
    chosen = LagChooser(3)
    for _ in range(200):
        chosen.observe(2.7)
    assert chosen.lag == 2


def hosted(step_frames: float, decode_frames: float, stride: int, frames: int) -> list[Choice]:
    """World and decoder in one thread, a step that is due first; a decode may wait for a whole step."""
    clock = running(GameClock())
    presentation = Presentation(clock, LagChooser(2))
    presentation.decode_s = decode_frames / 60
    presentation.arrived(0, stride, 100.0)
    now, next_true, shown = 0.0, stride, []
    while now < frames:
        if now >= next_true:
            now += step_frames
            presentation.arrived(next_true, next_true + stride, 100.0 + now / 60)
            next_true += stride
        elif (choice := presentation.choose(100.0 + now / 60)) is not None:
            shown.append(choice)
            presentation.shown(choice)
            now += decode_frames
        else:
            now += 0.05
    return shown


def test_a_quick_decoder_that_waited_for_a_step_skips_no_index():
    shown = hosted(step_frames=1.6, decode_frames=0.5, stride=4, frames=200)
    indices = [choice.index for choice in shown]
    assert indices == list(range(indices[0], indices[-1] + 1)) and len(indices) > 190
    assert all((choice.ahead == 0) == (choice.index % 4 == 0) for choice in shown)


def test_catching_up_costs_no_true_frame_where_they_are_late_anyway():
    shown = hosted(step_frames=3.0, decode_frames=0.6, stride=4, frames=400)
    assert sum(choice.ahead == 0 for choice in shown) > 90


def test_a_slow_decoder_still_shows_every_true_frame_and_keeps_game_time():
    shown = played(step_frames=1.0, decode_frames=1.7, stride=4, lag=3, frames=120)
    true = [choice.index for choice in shown if choice.ahead == 0]
    assert true == list(range(0, true[-1] + 1, 4)) and true[-1] > 108
    assert all(a.index < b.index for a, b in pairwise(shown))


@pytest.mark.parametrize("turns", [2, 3])
@pytest.mark.parametrize("stride", [1, 3, 4])
def test_decoders_that_take_turns_show_together_what_a_fast_one_shows(turns, stride):
    one = played(0.9, 0.3, stride, lag=2, frames=80)
    each = [played(0.9, 0.3 * turns, stride, 2, 80, Turn(own, turns)) for own in range(turns)]
    for own, shown in enumerate(each):
        indices = [choice.index for choice in shown]
        assert indices == sorted(set(indices)) and all(index % turns == own for index in indices)
    together = sorted((choice for shown in each for choice in shown), key=lambda choice: choice.index)
    assert [choice.index for choice in together][:70] == [choice.index for choice in one][:70]
    assert [c.index for c in together if not c.ahead][:15] == [c.index for c in one if not c.ahead][:15]


def test_true_frames_that_always_come_too_late_are_waited_for():
    shown = played(step_frames=7.0, decode_frames=1.0, stride=8, lag=4, frames=200)
    late = [choice for choice in shown if choice.index > 60]
    true = [choice.index for choice in late if choice.ahead == 0]
    assert true == list(range(true[0], true[-1] + 1, 8)) and max(choice.ahead for choice in late) <= 7


def test_filling_stops_two_strides_ahead_when_a_step_does_not_come():
    clock = running(GameClock())
    presentation = Presentation(clock, LagChooser(0))
    presentation.arrived(0, 4, 100.0)
    shown = []
    for tick in range(200):
        now_s = 100.0 + tick / 120
        if (choice := presentation.choose(now_s)) is not None:
            presentation.shown(choice)
            shown.append(choice.index)
    assert shown == [0, 1, 2, 3, 5, 6, 7, 8]  # 4 is the missing true frame's place, until it is a frame late
    assert presentation.seconds_until_due(102.0) == math.inf


def test_a_true_frame_is_shown_at_once_while_paused_and_nothing_is_filled():
    clock = running(GameClock())
    presentation = Presentation(clock, LagChooser(2))
    presentation.arrived(0, 4, 100.0)
    clock.pause(100.0)
    choice = presentation.choose(100.0)
    assert choice == Choice(0, 0)
    presentation.shown(choice)
    clock.set(4, 100.0)
    assert presentation.choose(100.0) is None
    presentation.arrived(4, 8, 100.0)
    assert presentation.choose(100.0) == Choice(4, 4)


def test_waiting_until_due_is_neither_early_nor_late():
    clock = running(GameClock())
    presentation = Presentation(clock, LagChooser(2))
    presentation.decode_s = 0.005
    presentation.arrived(0, 4, 100.0)
    presentation.shown(Choice(0, 0))
    wait_s = presentation.seconds_until_due(100.0)
    assert wait_s == pytest.approx(3 / 60 - 0.005)
    assert presentation.choose(100.0 + wait_s - 0.001) is None
    assert presentation.choose(100.0 + wait_s) == Choice(1, 0)


@pytest.mark.parametrize("turn", [EVERY_FRAME, Turn(0, 2)])
def test_a_true_frame_that_came_early_is_waited_for_until_its_own_time(turn):
    presentation = Presentation(running(GameClock()), LagChooser(2), turn)
    for index in (0, 4):
        presentation.arrived(index, index + 4, 100.0)
    presentation.shown(Choice(3 if turn is EVERY_FRAME else 2, 0))
    wait_s = presentation.seconds_until_due(100.0)
    assert wait_s == pytest.approx(6 / 60)
    assert presentation.choose(100.0 + wait_s) == Choice(4, 4)
