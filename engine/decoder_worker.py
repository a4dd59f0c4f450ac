"""The decoder role: latents -> frames, a true one at its own index, filled ones between.

In the way of one frame: the newest latents come over the link, the newest buttons from the gateway; what is
due on the presentation clock is decoded and sent, or dropped where the line is full. A frame between two true
ones is filled in towards the later one, or towards the world role's draft of it while no newer key has come;
otherwise it is extrapolated with the newest key.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.backend import Draft, FrameDecoder
from engine.hosting.links import Latent, LatentReceiver
from engine.hosting.models_at_hand import ModelsAtHand
from engine.inner import Begin, Control, Input, Opened, Start
from engine.pacing.clock import FPS, FollowedClock, LagChooser
from engine.pacing.presentation import EVERY_FRAME, Choice, Presentation, Turn
from engine.pacing.session import NO_INPUT, as_floats
from engine.pacing.step_log import latent_hash
from engine.protocol import Frame, StageTimes
from engine.without import without
from games import GAMES

_WARM_UP_DECODES = 3
_HELD_STILL = 1e-3  # latents are about 1 per channel; less than this is the way to the sphere and back
_SMOOTHING = 0.2  # weight of the newest decode time

Report = Callable[[str, float], None]
SendFrame = Callable[[Frame, np.ndarray], bool]


@dataclass(frozen=True)
class _Picture:
    """A latent ready to decode, and what its frame will say. base: the newest true latent it builds on."""

    choice: Choice
    base: Latent
    latent: np.ndarray
    seq: int
    buttons: int
    extrapolate_ms: float
    between: bool = False


class DecoderRole:
    """turn: the frames that are its own, where several ranks share them."""

    name = "decoder"
    rarely_s = 0.0
    draft_s = math.inf

    def __init__(
        self,
        models: ModelsAtHand,
        link: LatentReceiver,
        send: SendFrame,
        report: Report,
        turn: Turn = EVERY_FRAME,
    ) -> None:
        self._models, self._link, self._send, self._report = models, link, send, report
        self._turn = turn
        self._decoder: FrameDecoder | None = None
        self._extrapolator: Any = None
        self._start: Start | None = None
        self._draft: Latent | None = None
        self._decode_s = 0.0
        self._epoch = self._resets = self._lag = self._seq = self._held = self._tapped = self._dropped = 0
        self._paused = False
        self._reset_all()

    @property
    def decode_s(self) -> float:
        """Measured time of one frame's extrapolation and decode."""
        return self._decode_s

    @property
    def owes_true_frame(self) -> bool:
        """A true frame is due that was not shown yet."""
        choice = self._presentation.choose(time.monotonic())
        return choice is not None and choice.ahead == 0

    # -- a session ------------------------------------------------------------------------------------

    def open(self, start: Start) -> Opened:
        """Load and compile the decoder if it is not, measure a decode. Raises WeightsError."""
        self._report("compiling the decoder", 0.5)
        backend = self._models.backend(start.game)
        self._decoder = self._models.part("decoder", backend.decoder)
        self._extrapolator = self._models.part("extrapolator", backend.extrapolator)
        self._start, self._spec = start, GAMES[start.game]
        self._decode_s = self._warm_up(backend.latent_shape)
        self._reset_all()
        return Opened(
            session=start.session,
            role=self.name,
            cost_frames=self._decode_s * FPS,
            ranks=self._turn.of,
            decoder=backend.decoder_name,
        )

    def begin(self, begin: Begin, now_s: float) -> None:
        self._lag = begin.lag
        self._forget()

    def input(self, message: Input, now_s: float) -> None:
        if message.seq > self._seq:
            self._seq, self._held = message.seq, message.held
            self._tapped |= message.pressed

    def control(self, message: Control, now_s: float) -> None:
        if message.kind == "pause":
            self._paused = True
            self._clock.pause(now_s)
        elif message.kind == "resume":
            self._paused = False
            self._clock.resume(now_s)
        elif message.kind in ("reset", "new_seed"):
            self._resets += 1
            if self._resets > self._epoch:
                self._lag = self._presentation.lag
                self._forget()  # nothing of the old epoch is shown any more

    def end(self) -> None:
        self._start = None
        self._reset_all()

    def close(self) -> None:
        self._decoder = self._extrapolator = None
        self._link.close()

    # -- the way of one frame -------------------------------------------------------------------------

    def seconds_until_due(self, now_s: float) -> float:
        for latent in self._link.drain():
            self._take(latent, now_s)
        return self._presentation.seconds_until_due(now_s)

    def step(self, now_s: float) -> None:
        """Show what is due: choose the index, its latent, decode, send."""
        choice = self._presentation.choose(now_s)
        if choice is None:
            return
        picture = self._true_latent(choice) if choice.ahead == 0 else self._filled(choice)
        begun_s = time.monotonic()
        assert self._decoder is not None
        pixels = self._decoder.decode(picture.latent)
        decode_s = time.monotonic() - begun_s
        if not self._send(self._frame(picture, decode_s), pixels):
            self._dropped += 1
        self._presentation.shown(choice)
        self._measured(decode_s + picture.extrapolate_ms / 1e3)

    def draft(self) -> None:
        """A decoder makes none."""

    def _take(self, latent: Latent, now_s: float) -> None:
        """A true latent has come: set the clock by it and keep it."""
        if self._start is None or latent.session != self._start.session:
            return
        if latent.epoch < max(self._epoch, self._resets):
            return
        if latent.draft:
            self._take_draft(latent)
            return
        if latent.epoch > self._epoch or not self._latents:
            self._epoch, self._lag = latent.epoch, self._presentation.lag
            self._forget()
            self._clock.set(latent.clock_index, now_s)
            if not self._paused:
                self._clock.resume(now_s)
        elif latent.slips != self._latents[-1].slips or self._clock.paused:
            self._clock.set(latent.clock_index, now_s)
        else:
            self._clock.heard(latent.clock_index, now_s)
        if latent.seq >= self._seq:
            self._tapped = 0  # the dream itself knows of it now
        self._latents.append(latent)
        self._presentation.arrived(latent.index, latent.next_index, now_s)

    def _take_draft(self, draft: Latent) -> None:
        """A draft of the step after the newest true latent; of any other it came too late."""
        base = draft.index - draft.stride
        if draft.epoch != self._epoch or not self._latents or self._latents[-1].index != base:
            return
        if self._draft is None or self._draft.index != draft.index:
            self._presentation.drafted(draft.world_ms / 1e3)
        self._draft = draft

    def _true_latent(self, choice: Choice) -> _Picture:
        base = next(latent for latent in self._latents if latent.index == choice.base)
        return _Picture(choice, base, base.latent, base.seq, base.buttons, 0.0)

    def _filled(self, choice: Choice) -> _Picture:
        """Towards the true latent that follows, or a draft of it; where there is none, on from the newest."""
        known = [latent for latent in self._latents if latent.index <= choice.base]
        latents = np.stack([one.latent for one in known])
        times = np.array([one.index for one in known], np.float32)
        base, towards = known[-1], self._towards(choice)
        seq, buttons = self._seq, self._held | self._tapped
        begun_s = time.monotonic()
        if towards is not None:
            seq, buttons = towards.seq, towards.buttons
            held, draft = as_floats(buttons, self._spec.n_buttons), Draft(towards.latent, towards.index)
            latent = self._extrapolator.interpolate(latents, times, held, float(choice.index), draft)
        else:
            held = as_floats(buttons, self._spec.n_buttons)
            latent = self._extrapolator.extrapolate(latents, times, held, float(choice.index))
            if not getattr(self._extrapolator, "uses_buttons", False):
                seq, buttons = base.seq, base.buttons
        took_ms = (time.monotonic() - begun_s) * 1e3
        # A picture that the gate holds still shows no new key, so it must not claim one.
        if np.allclose(latent, base.latent, atol=_HELD_STILL):
            seq, buttons = base.seq, base.buttons
        return _Picture(choice, base, latent, seq, buttons, took_ms, towards is not None)

    def _towards(self, choice: Choice) -> Latent | None:
        """The true latent after the frame wanted. If it is not there yet, its draft, unless a key came that
        the draft does not know: then the picture shall answer that."""
        for latent in self._latents:
            if latent.index > choice.index:
                return latent
        draft = self._draft
        fits = draft is not None and draft.index > choice.index and draft.index - draft.stride == choice.base
        return draft if fits and draft is not None and draft.seq >= self._seq else None

    def _frame(self, picture: _Picture, decode_s: float) -> Frame:
        base, choice = picture.base, picture.choice
        assert self._start is not None
        hashed = latent_hash(picture.latent) if self._start.record_hashes else ""
        return Frame(
            epoch=self._epoch,
            index=choice.index,
            kind="filled" if choice.ahead else "true",
            ahead=choice.ahead,
            step=base.step,
            stride=base.stride,
            lag=self._presentation.lag,
            applied_seq=picture.seq,
            buttons=picture.buttons,
            telemetry=[value if math.isfinite(value) else 0.0 for value in base.telemetry.tolist()],
            times=StageTimes(
                world_ms=base.world_ms, extrapolate_ms=picture.extrapolate_ms, decode_ms=decode_s * 1e3
            ),
            dropped=self._dropped,
            latent_hash=hashed,
            width=self._spec.width,
            height=self._spec.height,
            between=picture.between,
        )

    def _measured(self, decode_s: float) -> None:
        self._decode_s += _SMOOTHING * (decode_s - self._decode_s)
        self._presentation.decode_s = self._decode_s

    def _warm_up(self, shape: tuple[int, int, int]) -> float:
        """Median seconds of a decode that nobody sees."""
        assert self._decoder is not None
        took = []
        for _ in range(_WARM_UP_DECODES):
            begun_s = time.monotonic()
            self._decoder.decode(np.zeros(shape, np.float32))
            took.append(time.monotonic() - begun_s)
        return sorted(took)[len(took) // 2]

    def _reset_all(self) -> None:
        """A session begins."""
        self._epoch = 0
        self._resets = 0  # asked for; latents of earlier epochs are stale
        self._lag = 0
        self._seq = NO_INPUT
        self._held = 0
        self._tapped = 0  # pressed since the newest latent, perhaps released again
        self._paused = False
        self._forget()

    def _forget(self) -> None:
        """An epoch begins: nothing has come, nothing was shown."""
        self._clock = FollowedClock()
        self._latents: deque[Latent] = deque(maxlen=Presentation.KEPT)
        self._draft = None
        fills = "extrapolation" not in without()
        self._presentation = Presentation(self._clock, LagChooser(self._lag), self._turn, fills)
        self._presentation.decode_s = self._decode_s
        self._dropped = 0
