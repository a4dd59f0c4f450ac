"""The simulator role: the game's own simulator, streamed through the same path as a dream. Needs no weights.

It simulates every frame at 60 Hz of game time and renders the newest one as often as the machine can.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.hosting.models_at_hand import ModelsAtHand
from engine.inner import Begin, Control, Input, Opened, Start
from engine.pacing.clock import GameClock
from engine.pacing.session import NO_INPUT, ButtonTimeline, Window
from engine.protocol import Frame, StageTimes
from games import GAMES

_FRAMES_AT_ONCE = 8  # simulated between two looks at the inbox
_MAX_BEHIND = 30  # frames; then the clock slips

Report = Callable[[str, float], None]
SendFrame = Callable[[Frame, np.ndarray], bool]


class SimulatorRole:
    name = "simulator"
    rarely_s = 30.0  # the first picture of a level with a new look is painted from nothing
    draft_s = math.inf

    def __init__(self, models: ModelsAtHand, send: SendFrame, report: Report) -> None:
        self._models, self._send, self._report = models, send, report
        self._world: Any = None
        self._clock = GameClock()

    # -- a session ------------------------------------------------------------------------------------

    def open(self, start: Start) -> Opened:
        self._start, self._spec, self._seed, self._epoch = start, GAMES[start.game], start.seed, 0
        self._clock, self._timeline = GameClock(), ButtonTimeline(GAMES[start.game].n_buttons)
        self._open_world()
        return Opened(
            session=start.session,
            role=self.name,
            cost_frames=0.0,
            stride=1,
            device="cpu",
            backend="simulator",
        )

    def begin(self, begin: Begin, now_s: float) -> None:
        self._begin_epoch(now_s)
        self._clock.resume(now_s)

    def input(self, message: Input, now_s: float) -> None:
        self._timeline.record(message.seq, message.held, message.pressed, self._clock.index(now_s))

    def control(self, message: Control, now_s: float) -> None:
        if message.kind == "pause":
            self._clock.pause(now_s)
        elif message.kind == "resume":
            self._clock.resume(now_s)
        elif message.kind == "step" and self._clock.paused:
            self._clock.set(self._frames + 1, now_s)
        elif message.kind in ("reset", "new_seed"):
            self._seed = message.seed if message.kind == "new_seed" else self._seed
            self._epoch += 1
            self._timeline.restart()
            self._open_world()
            self._begin_epoch(time.monotonic())

    def draft(self) -> None:
        """A simulator makes none."""

    def end(self) -> None:
        self._world = None
        self._clock = GameClock()

    def close(self) -> None:
        self._world = None

    # -- the way of one frame -------------------------------------------------------------------------

    def seconds_until_due(self, now_s: float) -> float:
        return self._clock.seconds_until(self._frames + 1, now_s)

    def step(self, now_s: float) -> None:
        """Simulate the frames whose windows have closed, then render the newest."""
        due = math.floor(self._clock.index(now_s) + 1e-6)
        begun_s = time.monotonic()
        for _ in range(min(due - self._frames, _FRAMES_AT_ONCE)):
            window = self._timeline.close(self._frames + 1)
            self._advance(window)
        self._show(window, (time.monotonic() - begun_s) * 1e3)
        if due - self._frames > _MAX_BEHIND:
            self._clock.set(self._frames, time.monotonic())
            self._timeline.slipped(self._frames)

    def _advance(self, window: Window) -> None:
        import torch

        with torch.inference_mode():
            self._world.step(torch.tensor([window.mask], dtype=torch.int64))
        self._frames += 1

    def _show(self, window: Window, world_ms: float) -> None:
        import torch

        begun_s = time.monotonic()
        with torch.inference_mode():
            pixels = np.ascontiguousarray(self._world.render()[0].numpy())
            telemetry = self._world.telemetry()[0].tolist()
        decode_ms = (time.monotonic() - begun_s) * 1e3
        if not self._send(
            self._frame(window, telemetry, StageTimes(world_ms=world_ms, decode_ms=decode_ms)), pixels
        ):
            self._dropped += 1

    def _frame(self, window: Window, telemetry: list[float], times: StageTimes) -> Frame:
        return Frame(
            epoch=self._epoch,
            index=window.end,
            kind="true",
            ahead=0,
            step=self._frames,
            stride=1,
            lag=0,
            applied_seq=window.seq,
            buttons=window.mask,
            telemetry=telemetry,
            times=times,
            dropped=self._dropped,
            width=self._spec.width,
            height=self._spec.height,
        )

    # -- beginnings -----------------------------------------------------------------------------------

    def _open_world(self) -> None:
        import torch

        self._report("starting the simulator", 0.6)
        world_class = self._models.world_class(self._start.game)
        with torch.inference_mode():
            self._world = world_class(torch.tensor([self._seed], dtype=torch.int64))
            self._world.render()  # changes nothing; the first one may take seconds

    def _begin_epoch(self, now_s: float) -> None:
        self._frames = self._dropped = 0
        self._clock.set(0.0, now_s)
        self._show(Window(0, 0, np.zeros(self._spec.n_buttons, np.float32), 0, NO_INPUT), 0.0)
