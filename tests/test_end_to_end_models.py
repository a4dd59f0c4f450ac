"""The whole engine with real (tiny, untrained) models, graphs and simulators, over real sockets."""

import numpy as np
import pytest

from engine.protocol import Frame, Welcome
from games import GAMES
from tests.engine_harness import Player, engine, player
from tests.tiny import store_tiny

STRIDE = 4


@pytest.fixture(scope="module", params=list(GAMES))
def weights(request, tmp_path_factory):
    """A game's name and a directory of tiny weights, with a cache of graphs of its own."""
    directory = tmp_path_factory.mktemp(f"weights-{request.param}")
    patch = pytest.MonkeyPatch()
    patch.setenv("DREAMCADE_CACHE", str(tmp_path_factory.mktemp("cache")))
    store_tiny(directory, request.param)
    yield request.param, str(directory)
    patch.undo()


def join(me: Player, game: str) -> Welcome:
    """The first start exports graphs and paints a look: on a busy machine that takes its time."""
    me.hello(game=game, seed=3)
    return me.expect(Welcome, timeout_s=120)


def play(me: Player, game: str, held: int) -> dict[int, tuple[Frame, bytes]]:
    """True frames by index: half a second of nothing, then `held` for a while."""
    me.seq, me.held = 0, 0
    join(me, game)
    shown = me.frames(0.5)
    me.hold(held)
    shown += me.frames(0.7)
    me.bye()
    return {frame.index: (frame, pixels) for frame, pixels in shown if frame.kind == "true"}


@pytest.mark.parametrize("together", ["yes", "no"])
def test_a_button_changes_the_dream_at_the_first_true_frame_that_claims_it(weights, together, monkeypatch):
    # An untrained hero dies every few steps, and is led back to the same place whatever is held.
    monkeypatch.setenv("DREAMCADE_WITHOUT", "checkpoints")
    game, directory = weights
    options = ("--game", game, "--weights", directory, "--stride", str(STRIDE), "--together", together)
    with engine(*options, fake=False) as running, player(running.address) as me:
        still = play(me, game, held=0)
        pressed = play(me, game, held=1)
        again = play(me, game, held=0)
    same_input = [i for i in still if i in again]
    assert len(same_input) > 5
    assert all(still[i][1] == again[i][1] for i in same_input), "the same seed and buttons dream the same"
    common = sorted(set(still) & set(pressed))
    claimed = [i for i in common if pressed[i][0].applied_seq > 0]
    assert claimed and claimed[0] > common[0]
    assert all(still[i][1] == pressed[i][1] for i in common if i < claimed[0])
    assert still[claimed[0]][1] != pressed[claimed[0]][1]


def test_frames_carry_the_games_telemetry(weights):
    game, directory = weights
    with engine("--game", game, "--weights", directory, fake=False) as running, player(running.address) as me:
        welcome = join(me, game)
        shown = me.frames(0.5)
    assert welcome.backend.startswith("openvino") and len(welcome.weights) == 12
    assert all(len(frame.telemetry) == len(GAMES[game].telemetry) for frame, _ in shown)
    pictures = [np.frombuffer(pixels, np.uint8) for _, pixels in shown]
    assert len(pictures) > 3 and all(picture.std() > 0 for picture in pictures)
