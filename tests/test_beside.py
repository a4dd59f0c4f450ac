"""The simulator beside the dream: same seed, same buttons, same frames; the dream does not depend on it."""

import os
import signal
import time

import numpy as np
import pytest

from engine.beside import Beside
from engine.fake import LEVELS_PER_FRAME
from engine.hosting.models_at_hand import ModelsAtHand
from engine.hosting.opening import STEPS
from engine.inner import Follow, Logged, Picture, Progress, Stop, ToRank
from engine.lobby.beside_process import BesideProcess
from engine.protocol import Beginning, BesideState, Command, Frame, TrueStep
from games.racing.spec import Buttons as Keys
from tests.engine_harness import Player, engine, player
from tests.waiting import wait_for

STRIDE = 4
THROTTLE = int(Keys.THROTTLE)


class Line:
    """Takes what the process would send."""

    def __init__(self) -> None:
        self.frames: list[tuple[Frame, np.ndarray]] = []
        self.told: list[Progress] = []

    def send(self, message: Progress) -> None:
        self.told.append(message)

    def send_picture(self, picture: Picture, pixels: np.ndarray) -> bool:
        assert picture.session == 3
        self.frames.append((picture.frame, pixels))
        return True


def steps(n: int, mask: int, epoch: int = 0) -> list[TrueStep]:
    return [TrueStep(epoch=epoch, step=i, index=i * STRIDE, buttons=[mask] * STRIDE) for i in range(1, n + 1)]


def beginning(epoch: int = 0) -> Beginning:
    return Beginning(epoch=epoch, seed=7, stride=STRIDE, noise_seed=7)


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def beside(line: Line) -> Beside:
    return Beside(ModelsAtHand((), "cpu", 1, None, fake=True), line)  # type: ignore[arg-type]


def throttle_frames(pixels: np.ndarray) -> int:
    """How many frames the throttle was held, as the fake simulator paints it."""
    button = list(Keys).index(Keys.THROTTLE)
    return int(pixels[24, 48 * button + 24, 0]) // LEVELS_PER_FRAME


def test_it_catches_up_and_says_how_far_it_is(beside: Beside, line: Line) -> None:
    beside.follow(Follow(session=3, game="racing", entries=[beginning(), *steps(100, THROTTLE)]))
    while beside.step():
        pass
    frame, pixels = line.frames[-1]
    assert [f.index for f, _ in line.frames] == [0, 400]  # nothing of the time between
    assert frame.beside and frame.epoch == 0 and frame.step == 100 and frame.buttons == THROTTLE
    assert frame.telemetry[0] == STEPS * STRIDE + 400  # the dream's opening was simulated too
    assert throttle_frames(pixels) == 400 * LEVELS_PER_FRAME % 256 // LEVELS_PER_FRAME
    shares = [told.fraction for told in line.told]
    assert len(shares) >= 2 and shares == sorted(shares) and shares[-1] < 1


def test_it_follows_step_by_step_and_begins_again_with_the_dream(beside: Beside, line: Line) -> None:
    beside.follow(Follow(session=3, game="racing", entries=[beginning()]))
    for entry in [*steps(2, 0), *[e for e in steps(3, THROTTLE) if e.step == 3]]:
        beside.take(Logged(session=3, entry=entry))
        beside.step()
    assert [(f.index, throttle_frames(p)) for f, p in line.frames] == [(0, 0), (4, 0), (8, 0), (12, 4)]
    beside.take(Logged(session=3, entry=beginning(epoch=1)))
    beside.take(Logged(session=3, entry=steps(9, 0)[-1]))  # of the old epoch: too late
    beside.take(Logged(session=4, entry=steps(1, 0, epoch=1)[0]))  # of another session
    assert not beside.step() and (line.frames[-1][0].epoch, line.frames[-1][0].index) == (1, 0)


def test_asking_for_it_twice_does_not_begin_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[ToRank] = []
    monkeypatch.setattr(BesideProcess, "_start", lambda self: setattr(self, "_process", object()))
    process = BesideProcess([], told.append, lambda session, state: None)
    process.begin_session(3)
    process.note(3, beginning())
    process.follow(3, "racing")
    process.joined()
    process.follow(3, "racing")
    assert [type(message) for message in told] == [Follow]
    process.leave(3)
    process.leave(3)
    assert [type(message) for message in told] == [Follow, Stop]


def watch(me: Player, seconds: float) -> tuple[dict[int, int], dict[int, int], list[BesideState]]:
    """Frames the throttle was held by frame index: in the dream's true frames, in the simulator's."""
    dream: dict[int, int] = {}
    simulated: dict[int, int] = {}
    states = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        received = me.receive(0.2)
        if received is None or not isinstance(received[0], Frame):
            states += [received[0]] if received and isinstance(received[0], BesideState) else []
            continue
        frame, pixels = received[0], np.frombuffer(received[1], np.uint8).reshape(480, 720, 3)
        if frame.kind == "true":
            (simulated if frame.beside else dream)[frame.index] = throttle_frames(pixels)
    return dream, simulated, states


def test_both_play_the_same_buttons_at_the_same_frames() -> None:
    with engine("--together", "yes", "--stride", str(STRIDE)) as running, player(running.address) as me:
        me.join(seed=7)
        me.hold(THROTTLE)
        watch(me, 0.4)
        me.hold(0)
        me.send(Command(kind="beside"))
        assert me.expect(BesideState).state == "starting"
        wait_for(lambda: watch(me, 0.3)[1], 120.0, "no picture of the simulator came")
        me.hold(THROTTLE)
        dream, simulated = {}, {}

        def common() -> list[int]:
            """Frames that both have shown by now."""
            shown = watch(me, 0.5)
            dream.update(shown[0])
            simulated.update(shown[1])
            return sorted(dream.keys() & simulated.keys())

        enough = lambda of: len(of) > 3 and len({simulated[index] for index in of}) > 2  # noqa: E731
        wait_for(lambda: enough(common()), 60.0, "they hardly ever showed the same frame")
        both = common()
        assert all(dream[index] == simulated[index] for index in both)

        me.send(Command(kind="reset"))
        wait_for(lambda: min(watch(me, 0.3)[1], default=both[0]) < both[0], 30.0, "it did not begin anew")

        os.kill(running.processes()["beside"], signal.SIGKILL)
        states: list[BesideState] = []
        wait_for(lambda: states.extend(watch(me, 0.5)[2]) or states, 30.0, "nothing was said of its end")
        assert [state.state for state in states] == ["stopped"] and states[0].reason
        wait_for(lambda: len(watch(me, 0.5)[0]) > 5, 30.0, "the dream does not go on")
        me.send(Command(kind="beside"))  # and it can be asked for again
        wait_for(lambda: watch(me, 0.3)[1], 120.0, "the simulator did not come back")
        me.send(Command(kind="alone"))
        watch(me, 0.3)
        assert not watch(me, 0.4)[1]
        running.process.stdin.close()
        assert running.wait() == 0
        running.assert_nothing_left()


def test_the_reference_has_no_simulator_beside_it() -> None:
    with engine("--together", "yes") as running, player(running.address) as me:
        me.join(mode="reference")
        me.send(Command(kind="beside"))
        assert me.expect(BesideState).state == "stopped"
        assert "beside" not in running.processes()
