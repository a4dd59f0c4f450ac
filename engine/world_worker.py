"""The world role: buttons -> latent, one true step each time a button window closes.

In the way of one frame: inputs come from the gateway, each step's latent and telemetry go to the decoder role
over a link that never makes this role wait.

While a window is open and there is time for it, the step at its end is drafted on the buttons so far and
those held now. The draft goes to the decoder role, which fills in towards it. If the window closes as was
assumed, the draft is the step; if not, the step is taken as if there had been no draft.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.backend import Opening, Step, WorldStepper
from engine.hosting.links import Latent, LatentSender
from engine.hosting.models_at_hand import ModelsAtHand
from engine.hosting.opening import make_opening
from engine.inner import Begin, Control, Input, Opened, Start
from engine.pacing.clock import FPS, GameClock, StepPace
from engine.pacing.session import NO_INPUT, ButtonTimeline, Window
from engine.pacing.step_log import latent_hash, step_entry
from engine.protocol import Beginning, TrueStep
from engine.without import without
from games import GAMES

_FIRST_STRIDE = 4
_WARM_UP_STEPS = 3

Report = Callable[[str, float], None]
Log = Callable[[Beginning | TrueStep], None]


@dataclass(frozen=True)
class _Drafted:
    """A draft of the step of `window`, made when `newest_seq` was the newest input; computing it took
    took_s."""

    window: Window
    newest_seq: int
    took_s: float


class WorldRole:
    """One session's world model. decode_s: measured time of a decode on the same cores, 0 when it has its
    own."""

    name = "world"
    rarely_s = 0.0

    def __init__(
        self,
        models: ModelsAtHand,
        link: LatentSender,
        decode_s: Callable[[], float],
        report: Report,
        log: Log = lambda entry: None,
        turns: Callable[[], int] = lambda: 1,
    ) -> None:
        """log: is told what every step was made from. turns: how many sessions take them here now."""
        self._models, self._link, self._decode_s, self._report = models, link, decode_s, report
        self._log, self._turns = log, turns
        self._stepper: WorldStepper | None = None
        self._clock = GameClock()
        self._pace = StepPace()
        self._openings: dict[tuple[str, int, int], Opening] = {}
        self._no_drafts = "drafts" in without()
        self._drafted: _Drafted | None = None
        self._wasted_s = 0.0  # on drafts of this window that were not good

    # -- a session ------------------------------------------------------------------------------------

    def open(self, start: Start) -> Opened:
        """Load the models if they are not, dream the opening, measure a step. Raises WeightsError."""
        self._start, self._spec, self._epoch = start, GAMES[start.game], 0
        self._clock, self._timeline = GameClock(), ButtonTimeline(GAMES[start.game].n_buttons)
        self._report("loading the world model", 0.3)
        backend = self._models.backend(start.game)
        self._stepper = self._models.dream(start.game)
        self._pace = StepPace(start.stride, smallest=backend.min_stride)
        self._seed = start.seed
        self._opening_stride = start.stride or _FIRST_STRIDE  # a reset finds its opening made already
        self._open_dream()
        self._warm_up()
        return Opened(
            session=start.session,
            role=self.name,
            cost_frames=self._pace.step_s * FPS,
            stride=self._pace.stride,
            device=backend.device,
            backend=backend.name,
            weights=backend.weights_id,
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
            self._clock.set(self._window_end, now_s)  # the window closes now; `step` is due
        elif message.kind in ("reset", "new_seed"):
            self._seed = message.seed if message.kind == "new_seed" else self._seed
            self._epoch += 1
            self._timeline.restart()
            self._open_dream()
            self._begin_epoch(time.monotonic())

    def end(self) -> None:
        self._clock = GameClock()

    def close(self) -> None:
        if self._stepper is not None:
            self._models.give_back(self._stepper)
        self._stepper = None
        self._link.close()

    # -- the way of one frame -------------------------------------------------------------------------

    def seconds_until_due(self, now_s: float) -> float:
        return self._clock.seconds_until(self._window_end, now_s)

    def step(self, now_s: float) -> None:
        """One true step: close the window, dream it, pass it on, keep pace. Where several sessions step at
        once, engine/hosting/world_batch.py does so between the same two ends."""
        window = self.close_window()
        self.file(window, *self._dream(window))

    @property
    def runs(self) -> bool:
        """Whether game time passes."""
        return not self._clock.paused

    @property
    def draft_s(self) -> float:
        """Seconds that a draft would take; infinite when there is a good one, or no room for those that turn
        out wrong. One that does is made anew if it is done before the window closes: the autopilot's racing
        (16 changes of buttons a second) had 49 % of drafts kept and 59 % of filled frames served instead of
        39 % and 51 %, for 1.9 instead of 1.6 steps computed in a window."""
        if self._clock.paused or self._no_drafts:
            return math.inf
        if self._drafted is not None and self._drafted.newest_seq == self._timeline.newest_seq:
            return math.inf
        return self._pace.slow_step_s if self._pace.drafts_fit(self._decode_s()) else math.inf

    def draft(self) -> None:
        """The next step as it will be if no key moves until its window closes."""
        window = self._timeline.assumed(self._window_end)
        begun_s = time.monotonic()
        result = self.dream.draft(window.share, window.end - window.begin)
        took_s = self._took_s(window, time.monotonic() - begun_s)
        self._drafted = _Drafted(window, self._timeline.newest_seq, took_s)
        self._link.send(self._latent(window, result, took_s, draft=True))

    @property
    def dream(self) -> WorldStepper:
        """The open session's."""
        assert self._stepper is not None
        return self._stepper

    def close_window(self) -> Window:
        """The buttons of the step that is due."""
        return self._timeline.close(self._window_end)

    def file(self, window: Window, result: Step, took_s: float) -> None:
        """A step was taken: choose where the next window ends, pass it on with that."""
        self._steps += 1
        self._pace.observe_buttons(not np.array_equal(self._expected, window.share))
        self._keep_pace(window, took_s)
        self._link.send(self._latent(window, result, took_s + self._wasted_s))
        self._drafted, self._wasted_s = None, 0.0
        self._log(step_entry(self._epoch, self._steps, window, result.latent, self._start.record_hashes))

    def _dream(self, window: Window) -> tuple[Step, float]:
        """The step, and the seconds it took, at whatever time it was computed."""
        begun_s = time.monotonic()
        step = self.dream.step(window.share, window.end - window.begin)
        return step, self._took_s(window, time.monotonic() - begun_s)

    def _took_s(self, window: Window, now_took_s: float) -> float:
        """What the step of `window` took to compute: now, or when it was drafted."""
        if self._drafted is None:
            return now_took_s
        if np.array_equal(self._drafted.window.share, window.share):
            return self._drafted.took_s
        self._wasted_s += self._drafted.took_s
        return now_took_s

    def _latent(self, window: Window, result: Step, took_s: float, draft: bool = False) -> Latent:
        return Latent(
            session=self._start.session,
            epoch=self._epoch,
            index=window.end,
            stride=window.end - window.begin or self._pace.stride,
            next_index=self._window_end,
            step=self._steps + draft,
            seq=window.seq,
            buttons=window.mask,
            slips=self._slips,
            clock_index=self._clock.index(time.monotonic()),
            world_ms=took_s * 1e3,
            draft=draft,
            telemetry=result.telemetry,
            latent=result.latent,
        )

    def _keep_pace(self, window: Window, took_s: float) -> None:
        """Choose where the next window ends; let the clock slip when nothing else helps."""
        now_s = time.monotonic()
        self._pace.observe(took_s)
        self._window_end = window.end + self._pace.choose(self._decode_s(), now_s, self._turns())
        self._expected = self._timeline.assumed(self._window_end).share
        if (slipped := self._pace.slip_to(self._clock.index(now_s), self._window_end)) is not None:
            self._clock.set(slipped, now_s)
            self._timeline.slipped(slipped)
            self._slips += 1

    # -- beginnings -----------------------------------------------------------------------------------

    def _begin_epoch(self, now_s: float) -> None:
        """The opening's last frame is index 0; game time begins there, paused if it was."""
        self._steps = self._slips = 0
        self._drafted, self._wasted_s = None, 0.0
        self._window_end = self._pace.stride
        self._expected = self._timeline.assumed(self._window_end).share
        self._clock.set(0.0, now_s)
        nothing = Window(0, 0, np.zeros(self._spec.n_buttons, np.float32), 0, NO_INPUT)
        last = Step(self._opening.latents[-1], self._opening.telemetry[-1])
        self._link.send(self._latent(nothing, last, 0.0))
        hashed = latent_hash(self._opening.latents) if self._start.record_hashes else ""
        self._log(
            Beginning(
                epoch=self._epoch,
                seed=self._seed,
                stride=self._opening_stride,
                noise_seed=self._seed,
                latent_hash=hashed,
            )
        )

    def _open_dream(self) -> None:
        assert self._stepper is not None
        key = (self._start.game, self._seed, self._opening_stride)
        if key not in self._openings:
            self._report("starting the world", 0.8)
            self._openings = {key: self._make_opening()}  # the newest is enough: a reset asks for it again
        self._opening = self._openings[key]
        self._stepper.open(self._opening, noise_seed=self._seed)

    def _make_opening(self) -> Opening:
        game = self._start.game
        encoder: Any = self._models.part("encoder", self._models.backend(game).encoder)
        world_class = self._models.world_class(game)
        return make_opening(world_class, self._spec, encoder, self._seed, self._opening_stride)

    def _warm_up(self) -> None:
        """A few steps that nobody sees, for the first stride and lag; then the dream from its beginning."""
        assert self._stepper is not None
        self._report("warming up", 0.9)
        for _ in range(_WARM_UP_STEPS):
            begun_s = time.monotonic()
            self._stepper.step(np.zeros(self._spec.n_buttons, np.float32), self._opening_stride)
            self._pace.observe(time.monotonic() - begun_s)
        self._pace.choose(self._decode_s(), time.monotonic(), self._turns())
        self._stepper.open(self._opening, noise_seed=self._seed)
