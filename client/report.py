"""What a play measured: the pure arithmetic behind `play --json` and the HUD. No clock is read here.

Times are seconds on the client's one monotonic clock, passed in; clocks of two machines are never compared.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from client.latency import LatencyMeter, percentile, percentiles_ms
from engine.protocol import Frame, Welcome
from games.spec import GameSpec

_RECENT_S = 2.0


@dataclass(frozen=True)
class Live:
    """The HUD's numbers over the last two seconds."""

    shown_fps: float
    true_steps_per_s: float
    filled_fraction: float
    input_to_present_ms: float | None


@dataclass
class _Totals:
    """Sums over everything shown so far; frames and steps are counts, the rest says its unit."""

    frames: int = 0
    filled: int = 0
    between: int = 0
    steps: int = 0
    game_frames: int = (
        0  # frames of game time advanced: strides of executed steps, or indices in reference mode
    )
    dropped_by_client: int = 0
    dropped_by_engine: int = 0
    epochs: int = 0
    world_ms: float = 0.0
    extrapolate_ms: float = 0.0
    decode_ms: float = 0.0
    max_ahead_over_stride: float = 0.0
    sizes: set[tuple[int, int]] = field(default_factory=set)


class Report:
    """Collects one play. Call `shown` after every flip of a new frame, `finish` once, then read `result`."""

    def __init__(self, spec: GameSpec, mode: str, seed: int) -> None:
        self.spec, self.mode, self.seed = spec, mode, seed
        self.to_present = LatencyMeter()
        self.to_true = LatencyMeter()
        self.first_shown_s: float | None = None
        self.events: list[dict[str, Any]] = []
        self._totals = _Totals()
        self._last: Frame | None = None
        self._paused_at_s: float | None = None
        self._paused_s = 0.0
        self._resumed_at_s = 0.0  # of play, as played_s counts it
        self._end_s: float | None = None
        self._recent: deque[tuple[float, int, bool]] = deque()

    # -- what happens -----------------------------------------------------------------------------------

    def input_sent(self, seq: int, time_s: float) -> None:
        """Buttons message `seq` stands for a key moved (or decided) at `time_s`."""
        self.to_present.input(seq, time_s)
        self.to_true.input(seq, time_s)

    def dropped(self, count: int) -> None:
        """Frames that were received and never shown, because a newer one came."""
        self._totals.dropped_by_client += count

    def shown(self, frame: Frame, now_s: float) -> None:
        """`frame` is on the screen since `now_s`."""
        if self.first_shown_s is None:
            self.first_shown_s = now_s
        previous = self._last if self._last is not None and self._last.epoch == frame.epoch else None
        steps = max(0, frame.step - previous.step) if previous else 0
        self._add(frame, previous, steps)
        self._note_events(frame, previous, now_s)
        self.to_present.shown(frame.applied_seq, now_s)
        if frame.kind == "true":
            self.to_true.shown(frame.applied_seq, now_s)
        self._last = frame
        self._recent.append((now_s, steps, frame.kind == "filled"))

    def new_start(self) -> None:
        """A reset or a new seed was asked for."""
        self.to_present.forget_pending()
        self.to_true.forget_pending()

    def pause(self, now_s: float) -> None:
        if self._paused_at_s is None:
            self._paused_at_s = now_s
        self.new_start()

    def resume(self, now_s: float) -> None:
        if self._paused_at_s is not None and self.first_shown_s is not None:
            self._paused_s += now_s - max(self._paused_at_s, self.first_shown_s)
        self._paused_at_s = None
        self._recent.clear()
        self._resumed_at_s = self.played_s(now_s)

    def finish(self, now_s: float) -> None:
        self.resume(now_s)
        self._end_s = now_s

    # -- what came of it --------------------------------------------------------------------------------

    def played_s(self, now_s: float) -> float:
        """Seconds since the first shown frame, without pauses."""
        if self.first_shown_s is None:
            return 0.0
        until_s = now_s if self._paused_at_s is None else max(self._paused_at_s, self.first_shown_s)
        return until_s - self.first_shown_s - self._paused_s

    def input_delay_frames(self, default: float) -> float:
        """How many frames usually pass until an input shows; `default` until that is known."""
        median_ms = percentile(self.to_present.samples_ms[-15:], 50)
        return default if median_ms is None else median_ms * self.spec.fps / 1000.0

    def live(self, now_s: float) -> Live:
        while self._recent and now_s - self._recent[0][0] > _RECENT_S:
            self._recent.popleft()
        count = len(self._recent)
        since_resumed_s = self.played_s(now_s) - self._resumed_at_s
        span_s = max(min(_RECENT_S, since_resumed_s), 1 / self.spec.fps)
        latest_ms = self.to_present.samples_ms[-60:]
        return Live(
            shown_fps=count / span_s,
            true_steps_per_s=sum(steps for _, steps, _ in self._recent) / span_s,
            filled_fraction=sum(filled for _, _, filled in self._recent) / max(count, 1),
            input_to_present_ms=percentile(latest_ms, 50),
        )

    def result(self, welcome: Welcome) -> dict[str, Any]:
        """The JSON of `play`, without what only the process knows (startup_s, rss_mib)."""
        totals, last = self._totals, self._last
        wall_s = self.played_s(self._end_s if self._end_s is not None else 0.0)
        shown = max(totals.frames, 1)
        dropped = totals.dropped_by_client + totals.dropped_by_engine
        engine_ms = totals.world_ms + totals.extrapolate_ms + totals.decode_ms
        return {
            "game": self.spec.name,
            "mode": self.mode,
            "seed": self.seed,
            "device": welcome.device,
            "backend": welcome.backend,
            "decoder": welcome.decoder,
            "weights": welcome.weights,
            "width": welcome.width,
            "height": welcome.height,
            "seconds": round(wall_s, 3),
            "frames": totals.frames,
            "shown_fps": _rate(totals.frames, wall_s),
            "true_steps_per_s": _rate(totals.steps, wall_s),
            "stride": last.stride if last else welcome.stride,
            "lag": last.lag if last else welcome.lag,
            "filled_fraction": round(totals.filled / shown, 4),
            "between_fraction": round(totals.between / max(totals.filled, 1), 4),
            "max_ahead_over_stride": round(totals.max_ahead_over_stride, 3),
            "input_to_present_ms": percentiles_ms(self.to_present.samples_ms),
            "input_to_true_ms": percentiles_ms(self.to_true.samples_ms),
            "engine_ms_per_shown_frame": round(engine_ms / shown, 3),
            "stage_ms_per_shown_frame": self._stage_ms(shown),
            "dropped_fraction": round(dropped / (dropped + shown), 4),
            "dropped_by_client": totals.dropped_by_client,
            "dropped_by_engine": totals.dropped_by_engine,
            "real_time_factor": _rate(totals.game_frames / self.spec.fps, wall_s),
            "epochs": totals.epochs,
            **self._score(),
        }

    # -- inside -----------------------------------------------------------------------------------------

    def _add(self, frame: Frame, previous: Frame | None, steps: int) -> None:
        totals = self._totals
        totals.frames += 1
        totals.filled += frame.kind == "filled"
        totals.between += frame.between
        totals.steps += steps
        totals.epochs += previous is None
        if previous is not None:
            totals.dropped_by_engine += max(0, frame.dropped - previous.dropped)
            by_index = max(0, frame.index - previous.index)
            advanced = by_index if self.mode == "reference" else steps * frame.stride
            totals.game_frames += advanced
        totals.world_ms += frame.times.world_ms * steps
        totals.extrapolate_ms += frame.times.extrapolate_ms
        totals.decode_ms += frame.times.decode_ms
        totals.max_ahead_over_stride = max(totals.max_ahead_over_stride, frame.ahead / frame.stride)

    def _stage_ms(self, shown: int) -> dict[str, float]:
        totals = self._totals
        return {
            "world": round(totals.world_ms / shown, 3),
            "extrapolate": round(totals.extrapolate_ms / shown, 3),
            "decode": round(totals.decode_ms / shown, 3),
        }

    def _note_events(self, frame: Frame, previous: Frame | None, now_s: float) -> None:
        """A lap completed or a goal reached; dreamed counts may be a little off whole numbers, so round."""
        if previous is None:
            return
        name, event = ("lap", "lap") if self.spec.name == "racing" else ("level", "goal")
        i = self.spec.field_index(name)
        before, after = round(previous.telemetry[i]), round(frame.telemetry[i])
        for number in range(before + 1, min(after, before + 10) + 1):
            at_s = round(self.played_s(now_s), 3)
            self.events.append(
                {"event": event, "number": number, "epoch": frame.epoch, "index": frame.index, "at_s": at_s}
            )

    def _score(self) -> dict[str, Any]:
        """`score`: the running totals in the last frame shown; `laps` or `goals`: events over all epochs."""
        counts = {
            f.name: round(self._last.telemetry[i], 3)
            for i, f in enumerate(self.spec.telemetry)
            if f.kind in ("count", "event") and self._last is not None
        }
        noun = "laps" if self.spec.name == "racing" else "goals"
        return {"score": counts, noun: len(self.events), "events": self.events}


def _rate(count: float, wall_s: float) -> float:
    return round(count / wall_s, 3) if wall_s > 0 else 0.0
