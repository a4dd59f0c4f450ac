"""Steps begun early: a draft changes nothing but when things come, and what is filled in towards it is
claimed honestly."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from engine.bench.ranks import run_ranks
from engine.config import WorldConfig
from engine.decoder_worker import DecoderRole
from engine.fake import LEVELS_PER_FRAME
from engine.fast.dream import Dream
from engine.fast.leading import FollowingWorld, LeadingWorld, follow
from engine.fast.sequence_parallel import make_split
from engine.fast.static_dream import StaticDream
from engine.fast.static_world import StaticWorld
from engine.fast.torch_backend import TorchStep
from engine.hosting.links import Latent, MemoryLink, queued
from engine.inner import Control, Input
from engine.pacing.presentation import Choice
from engine.pacing.session import ButtonTimeline, share_held
from engine.pacing.step_log import latent_hash
from engine.protocol import Frame, TrueStep
from games.racing.spec import Buttons as Keys
from tests.engine_harness import engine, player
from tests.test_cuda_graph import STEPS, opening, tiny_world
from tests.test_end_to_end import STRIDE, assert_flip_shows_at_its_claim, button_block
from tests.test_engine_links import latent
from tests.test_engine_roles import MODELS, Together
from tests.test_parallel import config_for, shared_model

pytestmark = pytest.mark.usefixtures("one_thread")
THROTTLE = int(Keys.THROTTLE)
BLOCK = list(Keys).index(Keys.THROTTLE)


# -- the dream ----------------------------------------------------------------------------------------


def taken(dream: Dream, drafts: bool) -> list[np.ndarray]:
    """Latents and telemetry of STEPS steps. drafts: before some of them, right, wrong or both."""
    dream.open(opening(dream.config), noise_seed=3)
    random, made = np.random.default_rng(1), []
    for t in range(STEPS):
        buttons, stride = random.random(dream.config.buttons).astype(np.float32), 1 + t % 8
        for wrong in {0: (False,), 1: (True,), 2: (True, True, False), 3: ()}[t % 4] if drafts else ():
            dream.draft(1 - buttons if wrong else buttons, stride)
        step = dream.step(buttons, stride)
        made += [step.latent, step.telemetry]
    return made


@pytest.mark.parametrize("kind", ["dream", "static"])
def test_a_dream_is_the_same_to_the_last_bit_with_drafts(kind):
    model = tiny_world()
    step = TorchStep(model, torch.float32)
    dream = Dream("racing", model.config, step)
    if kind == "static":
        dream = StaticDream("racing", StaticWorld(model))
    plain = taken(dream, drafts=False)
    for _ in range(2):
        assert all(map(np.array_equal, taken(dream, drafts=True), plain))


def test_a_draft_is_the_step_and_is_not_computed_again():
    model, runs = tiny_world(), []
    run = TorchStep(model, torch.float32)
    dream = Dream("racing", model.config, lambda arrays: runs.append(1) or run(arrays))  # type: ignore[func-returns-value]
    dream.open(opening(model.config), noise_seed=3)
    buttons = np.zeros(model.config.buttons, np.float32)
    runs.clear()
    draft = dream.draft(buttons, 4)
    dream.draft(buttons, 4)
    step = dream.step(buttons, 4)
    assert len(runs) == 1
    assert np.array_equal(draft.latent, step.latent) and np.array_equal(draft.telemetry, step.telemetry)
    dream.draft(buttons, 4)
    dream.step(1 - buttons, 4)
    assert len(runs) == 3


def drafted_on_rank(rank: int, config: WorldConfig) -> bool | None:
    own = StaticWorld(shared_model(config), split=make_split(config))
    if rank:
        return follow(FollowingWorld(own))
    leader = LeadingWorld(own)
    dream = StaticDream("racing", leader)
    plain, drafted = taken(dream, drafts=False), taken(dream, drafts=True)
    leader.close()
    return all(map(np.array_equal, drafted, plain))


def test_two_ranks_that_share_a_dream_draft_together():
    assert run_ranks(2, drafted_on_rank, config_for(2))


# -- buttons and links --------------------------------------------------------------------------------


def test_what_is_assumed_of_a_window_is_what_it_is_if_nothing_more_comes():
    timeline = ButtonTimeline(2)
    timeline.record(1, held=1, pressed=1, clock_index=1.5)
    timeline.record(2, held=0, pressed=2, clock_index=2.5)
    assumed = timeline.assumed(4)
    assert (assumed.masks, assumed.seq) == ((0, 1, 2, 0), 2)
    timeline.record(3, held=2, pressed=2, clock_index=3.1)
    assert (timeline.assumed(4).masks, timeline.assumed(4).seq) == ((0, 1, 2, 2), 3)
    assert timeline.close(4).masks == (0, 1, 2, 2) and timeline.assumed(8).masks == (2,) * 4


def test_a_draft_replaces_no_true_latent_that_waits_to_be_sent():
    true, draft, better, newer = latent(4), latent(8, draft=True), latent(8, draft=True), latent(8)
    waiting: list[Latent] = []
    for one, expected in ((true, [true]), (draft, [true, draft]), (better, [true, better]), (newer, [newer])):
        waiting = queued(waiting, one)
        assert [id(left) for left in waiting] == [id(one) for one in expected]


# -- the roles ----------------------------------------------------------------------------------------


def share_towards_drafts(blocks: list[tuple[Frame, int]]) -> float:
    """Of the filled frames, with the throttle held: a draft's block is on its way, an extrapolated one holds
    still. blocks: of the frames shown."""
    true = {frame.index: block for frame, block in blocks if frame.kind == "true"}
    filled = [(frame, block) for frame, block in blocks if frame.index - frame.ahead in true and frame.ahead]
    moved = [(block - true[f.index - f.ahead]) % 256 == LEVELS_PER_FRAME * f.ahead for f, block in filled]
    assert len(moved) > 5
    return sum(moved) / len(moved)


class Watched(Together):
    """Notes every step's log entry, what the world computes, and the throttle's block of every picture."""

    def __init__(self, **choices) -> None:
        super().__init__(**choices)
        self.entries: list[TrueStep] = []
        self.blocks: list[tuple[Frame, int]] = []
        self.computed = 0
        self.world._log = self.entries.append
        self.decoder._send = self.send
        stepper = self.world.dream
        self.computes, stepper.draft = stepper.draft, self.draft

    def send(self, frame: Frame, pixels: np.ndarray) -> bool:
        self.blocks.append((frame, int(pixels[24, 48 * BLOCK + 24, 0])))
        return self.screen.send(frame, pixels)

    def draft(self, buttons, stride):
        known = self.world.dream._drafted
        made = self.computes(buttons, stride)
        self.computed += made is not known
        return made

    def close(self) -> None:
        self.world.dream.draft = self.computes


@pytest.fixture
def game():
    watched = Watched()
    yield watched
    watched.close()


def test_a_step_whose_buttons_stay_is_computed_once_and_comes_when_its_window_closes(game):
    game.play(0.5)
    assert len(game.entries) - 1 <= game.computed <= len(game.entries) + 2
    late = [entry.index for entry in game.entries]
    assert late == [4 * (t + 1) for t in range(len(late))]


def test_buttons_that_change_give_the_true_step_of_those_buttons(game):
    random = np.random.default_rng(2)
    for seq in range(1, 26):
        game.tell(Input(session=1, seq=seq, held=int(random.integers(16)), pressed=0))
        game.play(float(random.random()) * 0.06)
    steps = [entry for entry in game.entries if isinstance(entry, TrueStep)]
    assert len(steps) > 8 and game.computed > len(steps)
    again = MODELS.backend("racing").world()
    for step in steps:
        share = share_held(step.buttons, 4)
        assert latent_hash(again.step(share, len(step.buttons)).latent) == step.latent_hash


def test_frames_between_are_filled_in_towards_the_draft_and_claim_its_buttons(game):
    game.play(0.2)
    game.tell(Input(session=1, seq=9, held=THROTTLE, pressed=THROTTLE))
    game.blocks.clear()
    game.play(0.5)
    before = [block for frame, block in game.blocks if frame.applied_seq < 9]
    after = [(frame, block) for frame, block in game.blocks if frame.applied_seq == 9]
    assert set(before) <= {0} and after[0][1] > 0 and after[0][0].buttons == THROTTLE
    claims = [frame.applied_seq for frame, _ in game.blocks]
    assert claims == sorted(claims)
    assert share_towards_drafts(after) > 0.4  # nearly all where the machine is quiet


def test_a_key_that_the_draft_does_not_know_is_answered_by_extrapolating(game):
    game.play(0.2)
    role: DecoderRole = game.decoder
    base = role._latents[-1].index
    role._draft = latent(base + 4, session=1, epoch=0, seq=3, draft=True)
    role._seq = 3
    wanted = Choice(base + 1, base)
    assert role._towards(wanted) is role._draft
    role._seq = 4
    assert role._towards(wanted) is None


@pytest.mark.parametrize("why", ["paused", "every frame is a true one", "no room for a second step"])
def test_no_draft_is_made_where_it_does_not_pay(why):
    game = Watched(stride=1 if why.startswith("every") else 4)
    try:
        game.play(0.1)
        if why == "paused":
            game.tell(Control(session=1, kind="pause"))
        if why.startswith("no room"):
            for _ in range(9):
                game.world._pace.observe(0.06)
        game.world._drafted = None
        assert game.world.draft_s == np.inf
    finally:
        game.close()


def test_drafts_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("DREAMCADE_WITHOUT", "drafts")
    game = Watched()
    try:
        game.play(0.3)
        assert game.decoder._draft is None and game.world.draft_s == np.inf
    finally:
        game.close()


def test_a_memory_link_passes_drafts_on():
    link = MemoryLink()
    link.send(latent(4))
    link.send(latent(8, draft=True))
    assert [one.draft for one in link.drain()] == [False, True]


# -- real processes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_decoder_ranks_fill_in_towards_drafts_that_come_over_gloo(ranks):
    options = ("--together", "no", "--stride", str(STRIDE), "--decoder-ranks", ranks)
    with engine(*options) as running, player(running.address) as me:
        me.join(seed=7)
        me.frames(1.0)
        assert_flip_shows_at_its_claim(me)
        shown = me.frames(1.5)
        assert running.stderr == ""
    assert share_towards_drafts([(frame, button_block(pixels, BLOCK)) for frame, pixels in shown]) > 0.3
    assert all(a.index < b.index for a, b in pairwise(frame for frame, _ in shown))
