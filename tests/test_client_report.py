"""The arithmetic of a play: rates, latencies, drops, scores, all from times that are passed in."""

import msgspec
import pytest

from client.latency import percentile, percentiles_ms
from client.pacing import INPUT_TICK_S, Pacer
from client.processes import descendants, process_age_s, tree_rss_mib
from client.report import Report
from engine.protocol import Frame, StageTimes, Welcome
from games import GAMES

SPEC = GAMES["racing"]
WELCOME = Welcome(
    version=1, session="s", game="racing", mode="dream", seed=3, width=720, height=480, fps=60, stride=4,
    lag=2, device="cpu", backend="fake", decoder="plain", weights="w",
)  # fmt: skip


def frame(index: int, stride: int = 4, epoch: int = 0, applied_seq: int = 0, **more: object) -> Frame:
    """A frame as an engine would send it that steps every `stride` frames."""
    ahead = index % stride
    base = Frame(
        epoch=epoch, index=index, kind="filled" if ahead else "true", ahead=ahead, step=index // stride,
        stride=stride, lag=2, applied_seq=applied_seq, buttons=0, telemetry=[0.0] * len(SPEC.telemetry),
        times=StageTimes(world_ms=8.0, extrapolate_ms=1.0, decode_ms=3.0, queue_ms=2.0), dropped=0,
        width=720, height=480,
    )  # fmt: skip
    return msgspec.structs.replace(base, **more)


def report(mode: str = "dream") -> Report:
    return Report(SPEC, mode, seed=3)


def test_rates_of_a_steady_second() -> None:
    r = report()
    for i in range(61):
        r.shown(frame(i), 10.0 + i / 60)
    r.finish(11.0)
    result = r.result(WELCOME)
    assert result["seconds"] == 1.0
    assert result["shown_fps"] == 61.0
    assert result["true_steps_per_s"] == 15.0
    assert result["real_time_factor"] == 1.0
    assert result["filled_fraction"] == pytest.approx(45 / 61, abs=1e-4)
    assert result["between_fraction"] == 0.0
    assert result["max_ahead_over_stride"] == 0.75
    assert result["dropped_fraction"] == 0.0
    # per shown frame: 15 steps of 8 ms, and 61 times 1 + 3 ms
    assert result["engine_ms_per_shown_frame"] == pytest.approx((15 * 8 + 61 * 4) / 61, abs=1e-3)
    assert (result["stride"], result["lag"], result["epochs"]) == (4, 2, 1)


def test_steps_count_even_when_their_frames_were_not_shown() -> None:
    r = report()
    for i in (0, 9, 40):
        r.shown(frame(i), i / 60)
    r.finish(40 / 60)
    assert r.result(WELCOME)["real_time_factor"] == 1.0


def test_a_slow_engine_has_a_small_real_time_factor() -> None:
    r = report()
    for i in range(31):
        r.shown(frame(i * 2 // 2), i / 30)
    r.finish(1.0)
    assert r.result(WELCOME)["real_time_factor"] == pytest.approx(28 / 60, abs=1e-3)


def test_reference_mode_counts_indices() -> None:
    r = report("reference")
    for i in range(31):
        r.shown(frame(i * 2, stride=1), i / 30)
    r.finish(1.0)
    assert r.result(WELCOME)["real_time_factor"] == 1.0


def test_latency_ends_with_the_first_frame_that_claims_the_input() -> None:
    r = report()
    r.input_sent(1, 1.000)
    r.input_sent(2, 1.010)
    r.shown(frame(1, applied_seq=0), 1.020)
    r.shown(frame(2, applied_seq=1), 1.030)
    r.shown(frame(3, applied_seq=2), 1.050)
    r.shown(frame(4, applied_seq=2), 1.070)
    r.shown(frame(8, applied_seq=2), 1.090)
    assert r.to_present.samples_ms == pytest.approx([30.0, 40.0])
    assert r.to_true.samples_ms == pytest.approx([70.0, 60.0])


def test_a_later_claim_answers_all_inputs_before_it_and_a_pause_forgets_them() -> None:
    r = report()
    for seq in (1, 2, 3):
        r.input_sent(seq, seq / 100)
    r.shown(frame(0, applied_seq=2), 0.1)
    assert len(r.to_present.samples_ms) == 2
    r.pause(0.2)
    r.resume(5.0)
    r.shown(frame(1, applied_seq=3), 5.0)
    assert len(r.to_present.samples_ms) == 2


def test_pauses_do_not_count_as_play() -> None:
    r = report()
    r.shown(frame(0), 0.0)
    r.pause(1.0)
    assert r.played_s(3.0) == 1.0
    r.resume(4.0)
    assert r.played_s(4.5) == 1.5
    r.finish(5.0)
    assert r.result(WELCOME)["seconds"] == 2.0


def test_rates_after_a_pause_are_those_since_it() -> None:
    r = report()
    for i in range(181):
        r.shown(frame(i), i / 60)
    r.pause(3.0)
    r.resume(7.0)
    assert r.live(7.0).shown_fps == 0.0
    for i in range(181, 211):
        r.shown(frame(i), 7.0 + (i - 180) / 60)
    live = r.live(7.5)
    assert live.shown_fps == pytest.approx(60.0)
    assert live.true_steps_per_s == pytest.approx(15.0, abs=2.0)


def test_drops_of_client_and_engine_add_up_and_epochs_begin_anew() -> None:
    r = report()
    r.shown(frame(0, dropped=5), 0.0)
    r.shown(frame(1, dropped=7), 0.1)
    r.dropped(1)
    r.shown(frame(0, epoch=1, dropped=4), 0.2)
    r.shown(frame(1, epoch=1, dropped=5), 0.3)
    r.finish(0.3)
    result = r.result(WELCOME)
    assert (result["dropped_by_client"], result["dropped_by_engine"]) == (1, 3)
    assert result["dropped_fraction"] == 0.5
    assert result["epochs"] == 2


def test_laps_are_events_and_the_score_is_the_last_total() -> None:
    def lap(total: float) -> list[float]:
        telemetry = [0.0] * len(SPEC.telemetry)
        telemetry[SPEC.field_index("lap")] = total
        return telemetry

    r = report()
    for i, total in enumerate((0.0, 0.04, 0.98, 1.02, 1.98)):
        r.shown(frame(i, telemetry=lap(total)), i / 60)
    r.finish(1.0)
    result = r.result(WELCOME)
    assert result["laps"] == 2
    assert [(e["event"], e["number"], e["index"]) for e in result["events"]] == [("lap", 1, 2), ("lap", 2, 4)]
    assert result["score"]["lap"] == 1.98


def test_a_play_without_pictures_sums_up_without_dividing_by_zero() -> None:
    r = report()
    r.finish(3.0)
    result = r.result(WELCOME)
    assert result["shown_fps"] == 0.0 and result["input_to_present_ms"]["p50"] is None


def test_percentiles() -> None:
    assert percentile([], 50) is None
    assert percentile([4.0], 99) == 4.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentiles_ms([float(i) for i in range(101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_the_pacer_holds_the_second_of_a_pair_and_shows_a_lone_one_at_once() -> None:
    pacer = Pacer()
    assert pacer.due_s(1.0) == 1.0
    for i in range(40):
        pacer.arrived(i / 60)
    assert pacer.interval_s == pytest.approx(1 / 60, rel=0.01)
    pacer.shown(1.0)
    assert 1.008 < pacer.due_s(1.001) < 1.016
    assert pacer.due_s(1.5) == 1.5
    assert pacer.sleep_s(1.001, 1.001) <= INPUT_TICK_S


def test_the_pacer_starts_anew_after_a_gap() -> None:
    pacer = Pacer()
    for t in (0.0, 0.02, 0.04, 5.0):
        pacer.arrived(t)
    assert pacer.interval_s == 0.0
    pacer.shown(5.0)
    assert pacer.due_s(5.001) == 5.001


def test_this_process_has_an_age_and_a_size() -> None:
    import os

    age_s = process_age_s()
    assert age_s is None or age_s > 0
    rss_mib = tree_rss_mib(os.getpid())
    assert rss_mib is None or rss_mib > 1
    assert os.getpid() in descendants(os.getpid())
