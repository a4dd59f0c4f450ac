"""The roles in one thread: no processes, no sockets."""

import math
import time

import numpy as np
import pytest

from engine.decoder_worker import DecoderRole
from engine.hosting.host import Host
from engine.hosting.links import Latent, MemoryLink
from engine.hosting.models_at_hand import ModelsAtHand
from engine.hosting.opening import STEPS, make_opening
from engine.hosting.turns import step_first_closed
from engine.inner import Begin, Control, Input, Start
from engine.protocol import Frame
from engine.simulator_worker import SimulatorRole
from engine.supervision.lifeline import PATIENCE_S
from engine.world_worker import WorldRole
from games import GAMES
from tests.waiting import wait_for

MODELS = ModelsAtHand(("world", "decoder"), "cpu", 1, None, fake=True)


class Screen:
    """Takes what a role sends."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.full = False

    def send(self, frame: Frame, pixels: np.ndarray) -> bool:
        assert pixels.shape == (480, 720, 3) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
        if not self.full:
            self.frames.append(frame)
        return not self.full


def start(mode="dream", **choices) -> Start:
    return Start(
        **(
            {"session": 1, "game": "racing", "seed": 3, "mode": mode, "stride": 4, "record_hashes": True}
            | choices
        )
    )


def silent(stage: str, fraction: float) -> None:
    assert stage and 0 <= fraction <= 1


class Beats:
    """A lifeline's other end: the patience asked for, each time."""

    def __init__(self) -> None:
        self.patience_s: list[float] = []

    def beat(self, patience_s: float) -> None:
        self.patience_s.append(patience_s)


class Cast:
    """Who plays: what a rank's cast is to its host."""

    names, drafts = (), True

    def step_worlds(self, due, now_s: float) -> None:
        step_first_closed(due, now_s)


class Played:
    """A session that goes on."""

    over = is_away = False

    def __init__(self, roles) -> None:
        self.playing = roles


def hosting(*roles, beats: Beats | None = None) -> Host:
    host = Host(Cast(), None, beats or Beats(), None)
    host._sessions = {1: Played(list(roles))}
    return host


class Together:
    """World and decoder as a host would run them, on a clock that the test moves."""

    def __init__(self, **choices) -> None:
        self.screen, link = Screen(), MemoryLink()
        self.decoder = DecoderRole(MODELS, link, self.screen.send, silent)
        self.world = WorldRole(MODELS, link, lambda: self.decoder.decode_s, silent)
        self.opened = [self.decoder.open(start(**choices)), self.world.open(start(**choices))]
        for role in (self.world, self.decoder):
            role.begin(Begin(session=1, lag=2), time.monotonic())
        self.host = hosting(self.decoder, self.world)

    def tell(self, message) -> None:
        for role in (self.world, self.decoder):
            (role.input if isinstance(message, Input) else role.control)(message, time.monotonic())

    def tell_in_an_open_window(self, message: Input) -> int:
        """The next step claims it, however late it is taken. Returns the newest true frame so far."""
        while self.world.seconds_until_due(now_s := time.monotonic()) <= 0:
            self.host.step()
        self.decoder.seconds_until_due(now_s)  # takes what has come
        newest = self.decoder._latents[-1].index
        for role in (self.world, self.decoder):
            role.input(message, now_s)
        return newest

    def play(self, seconds: float) -> list[Frame]:
        self.screen.frames.clear()
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.host.step()
            time.sleep(0.0005)
        return list(self.screen.frames)


def test_the_opening_stands_still_in_the_games_own_simulator():
    opening = make_opening(
        MODELS.world_class("racing"), GAMES["racing"], MODELS.backend("racing").encoder(), 3, 4
    )
    assert opening.latents.shape[0] == opening.telemetry.shape[0] == STEPS
    assert not opening.buttons.any() and opening.strides.tolist() == [4] * STEPS
    assert opening.telemetry[:, 0].tolist() == [4 * (t + 1) for t in range(STEPS)]


def test_opened_roles_describe_themselves():
    decoder, world = Together().opened
    assert (world.stride, world.backend, decoder.decoder) == (4, "fake", "fake")
    assert world.cost_frames > 0 and decoder.cost_frames > 0


def test_each_frame_carries_its_facts():
    frames = Together().play(0.3)
    assert {frame.kind for frame in frames} == {"true", "filled"}
    for frame in frames:
        assert frame.step * 4 + frame.ahead == frame.index and frame.stride == 4
        assert (
            len(frame.telemetry) == len(GAMES["racing"].telemetry)
            and len(frame.latent_hash) == 16
            and frame.applied_seq == 0
        )
        assert frame.times.decode_ms > 0


def test_an_input_is_claimed_once_a_step_or_its_draft_covers_it():
    game = Together()
    game.play(0.1)
    game.tell(Input(session=1, seq=9, held=4, pressed=4))
    claims = [frame.applied_seq for frame in game.play(0.3)]
    assert claims[-1] == 9 and claims == sorted(claims)


def test_an_extrapolator_that_uses_buttons_claims_the_newest():
    game = Together()
    game.play(0.1)
    game.decoder._extrapolator.uses_buttons = True
    try:
        newest = game.tell_in_an_open_window(Input(session=1, seq=9, held=4, pressed=4))
        filled = wait_for(
            lambda: [frame for frame in game.play(0.03) if frame.ahead and frame.index > newest],
            10.0,
            "no frame was filled in",
        )
        assert all(frame.applied_seq == 9 for frame in filled)
    finally:
        del game.decoder._extrapolator.uses_buttons


def test_a_filled_frame_that_holds_still_claims_no_new_input():
    class Holding:
        uses_buttons = True

        def extrapolate(self, latents, times, buttons, time):
            return latents[-1]

        def interpolate(self, latents, times, buttons, time, draft):
            return latents[-1]

    game = Together()
    game.play(0.1)
    game.decoder._extrapolator = Holding()
    game.tell(Input(session=1, seq=9, held=4, pressed=4))
    filled = [frame for frame in game.play(0.3) if frame.ahead]
    assert filled and all((frame.applied_seq == 9) == (frame.buttons == 4) for frame in filled)
    assert filled[0].applied_seq == 0 and filled[-1].applied_seq == 9


def test_a_slow_line_counts_what_was_dropped():
    game = Together()
    game.screen.full = True
    game.play(0.1)
    game.screen.full = False
    assert game.play(0.1)[0].dropped >= 2


def test_a_reset_forgets_the_old_epoch_and_a_late_latent_of_it():
    game = Together()
    game.play(0.1)
    game.tell(Control(session=1, kind="reset"))
    old = Latent(
        1,
        0,
        400,
        4,
        404,
        100,
        -1,
        0,
        0,
        400.0,
        0.0,
        False,
        np.zeros(12, np.float32),
        np.zeros((4, 10, 15), np.float32),
    )
    game.decoder._take(old, time.monotonic())
    frames = game.play(0.2)
    assert frames and all(frame.epoch == 1 and frame.index < 30 for frame in frames)


def test_a_reset_while_paused_shows_the_beginning_and_stays_paused():
    game = Together()
    game.play(0.1)
    game.tell(Control(session=1, kind="pause"))
    game.play(0.05)
    game.tell(Control(session=1, kind="reset"))
    assert [(frame.epoch, frame.index) for frame in game.play(0.15)] == [(1, 0)]


def test_steps_that_cannot_keep_up_let_the_clock_slip_not_the_pictures_stop():
    game = Together()
    game.world._stepper._step_s = 0.1  # a step of 4 frames takes 6
    frames = game.play(2.0)  # time for twice as many as are asked for: this machine may be busy
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices)) and indices[-1] < 100 and len(frames) > 10
    assert sum(frame.kind == "true" for frame in frames) > 8
    game.world._stepper._step_s = 0.004


def test_the_simulator_simulates_every_frame_and_shows_the_newest():
    screen = Screen()
    role = SimulatorRole(MODELS, screen.send, silent)
    role.open(start("reference"))
    begun_s = time.monotonic()
    role.begin(Begin(session=1, lag=0), begun_s)
    role.input(Input(session=1, seq=2, held=4, pressed=4), begun_s + 0.01)
    role.step(begun_s + 5.5 / 60)
    assert [(frame.index, frame.kind, frame.applied_seq) for frame in screen.frames] == [
        (0, "true", 0),
        (5, "true", 2),
    ]
    assert screen.frames[-1].telemetry[0] == 5 and screen.frames[-1].buttons == 4


class DueRole:
    """A role that is always due, and notes when it runs."""

    rarely_s, draft_s = 0.0, math.inf

    def __init__(self, name: str, ran: list[str], owes: bool = False) -> None:
        self.name, self.ran, self.owes_true_frame = name, ran, owes

    def seconds_until_due(self, now_s: float) -> float:
        return 0.0

    def step(self, now_s: float) -> None:
        self.ran.append(self.name)


@pytest.mark.parametrize(("owes", "order"), [(False, ["world"] * 4), (True, ["world", "decoder"] * 2)])
def test_a_step_goes_before_a_decode_but_never_starves_a_true_frame(owes, order):
    ran: list[str] = []
    host = hosting(DueRole("decoder", ran, owes), DueRole("world", ran))
    for _ in range(4):
        host.step()
    assert ran == order


class SlowRole(DueRole):
    """Its steps take this long."""

    def step(self, now_s: float) -> None:
        time.sleep(0.15)


def test_a_step_may_take_2_s_or_20_usual_times_or_what_it_is_known_to_take():
    slow, beats = SlowRole("decoder", []), Beats()
    host = hosting(slow, beats=beats)
    for _ in range(20):
        host.step()
    assert beats.patience_s[0] == PATIENCE_S and 20 * 0.15 * 0.8 < beats.patience_s[-1] < 30
    slow.rarely_s = 60.0
    host.step()
    assert beats.patience_s[-1] == 60.0
    assert SimulatorRole.rarely_s > 10 * PATIENCE_S
