"""A death leads back to the checkpoint that the dream itself reached; whoever steps it, the same."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from engine.backend import Opening, Step
from engine.bench.ranks import run_ranks
from engine.config import WorldConfig
from engine.fast.checkpoint import Checkpoints
from engine.fast.cuda_graph import GraphWorld
from engine.fast.dream import Dream
from engine.fast.leading import FollowingWorld, LeadingWorld, follow
from engine.fast.sequence_parallel import make_split
from engine.fast.slots import Due, WorldSlots
from engine.fast.snapshot import Snapshot
from engine.fast.static_dream import StaticDream
from engine.fast.torch_backend import TorchStep
from engine.models.telemetry import TelemetryScale
from engine.models.world_model import WorldModel
from games import GAMES
from games.spec import GameSpec
from tests.tiny import DEVICE, ON_GPU, shaken, tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")
EVERY = 1.0
"""Tiles between checkpoints here: more could not be gone in a step."""
STRIDE, OPENING = 4, 3
Changes = dict[str, float]
"""What is told from a step on, in units."""
HERO: Changes = {"alive": 1, "grounded": 1, "lives": 3, "x": 10, "y": 2}
STILL: Changes = {}
AIR, GROUND, FURTHER, REACHED = {"grounded": 0}, {"grounded": 1}, {"x": 10.6}, {"x": 11.1}
BACK = {"alive": 1, "grounded": 1}


def with_near_checkpoints() -> GameSpec:
    spec = GAMES["platformer"]
    assert spec.respawn is not None
    return replace(spec, respawn=replace(spec.respawn, every=EVERY))


SPEC = with_near_checkpoints()
assert SPEC.respawn is not None
WON = math.ceil(SPEC.respawn.finish_frames / STRIDE)
"""Steps at a goal after which a level is won."""


@pytest.fixture(autouse=True)
def near_checkpoints(monkeypatch):
    monkeypatch.setitem(GAMES, "platformer", SPEC)


def dies(left: int) -> Changes:
    return {"alive": 0, "grounded": 0, "lives": left}


def told_of(*story: Changes) -> np.ndarray:
    """[1 + len(story), F] in units, the opening's last step first."""
    now, rows = dict.fromkeys((field.name for field in SPEC.telemetry), 0.0) | HERO, []
    for changes in (STILL, *story):
        now |= changes
        rows.append(list(now.values()))
    return np.array(rows, np.float32)


def value(telemetry: np.ndarray, name: str) -> float:
    return float(telemetry[SPEC.field_index(name)])


# -- the memory ---------------------------------------------------------------------------------------


def made(number: int, totals: np.ndarray) -> Snapshot:
    """A step whose latent is its number."""
    return Snapshot(np.full((2, 3, 4), number, np.float32), np.full(len(totals), 0.5, np.float32), totals)


def snapshots(*story: Changes) -> tuple[Checkpoints, list[Snapshot]]:
    """Opened with the first of them, which are made and not filed yet."""
    steps = [made(number, totals) for number, totals in enumerate(told_of(*story))]
    checkpoints = Checkpoints(SPEC)
    checkpoints.open(steps[0])
    return checkpoints, steps[1:]


def places(*story: Changes) -> list[int]:
    """For each step the number of that whose picture is filed; the opening's last is 0."""
    checkpoints, steps = snapshots(*story)
    return [int(checkpoints.file(step, STRIDE).latent[0, 0, 0]) for step in steps]


def test_a_lost_life_leads_back_to_the_opening():
    assert places(STILL, dies(2), STILL, BACK, STILL) == [1, 2, 3, 0, 5]


def test_a_lost_life_leads_back_to_the_last_checkpoint_as_often_as_one_is_lost():
    story = (FURTHER, REACHED, {"x": 11.9}, dies(2), BACK, {"x": 11.7}, dies(1), STILL, BACK, STILL)
    assert places(*story) == [1, 2, 3, 4, 2, 6, 7, 8, 2, 10]
    assert places(FURTHER, REACHED, {"x": 11.9}, {"x": 12}, {"x": 12.8}, dies(2), BACK)[-1] == 4


def test_a_checkpoint_that_is_reached_in_the_air_is_kept_on_the_ground():
    assert places(FURTHER, REACHED | AIR, STILL, GROUND, STILL, dies(2), BACK)[-1] == 4
    assert places(FURTHER, REACHED | AIR, STILL, dies(2), BACK, STILL, dies(1), BACK)[4::3] == [0, 0]


def test_walking_back_reaches_no_checkpoint():
    assert places(REACHED, {"x": 10.1}, {"x": 9}, {"x": 10.5}, {"x": 11.3}, dies(2), BACK)[-1] == 1


@pytest.mark.parametrize("lives", [3, 2], ids=["no life", "a life lost earlier"])
def test_an_alive_that_flickers_leads_nowhere(lives):
    assert places({"lives": lives}, {"alive": 0}, {"alive": 1}, STILL)[-2:] == [3, 4]
    story = (FURTHER, {"alive": 0}, {"alive": 1}, STILL, dies(2), BACK)
    assert places(*story) == [1, 2, 3, 4, 5, 0], "nor is it a checkpoint"


def test_a_life_that_is_told_late_in_a_death_counts():
    assert places(dies(3), STILL, {"lives": 2}, BACK)[-1] == 0


ALL = {"progress": 1.0}


def test_who_has_passed_all_of_a_level_for_a_while_begins_the_next_where_the_opening_did():
    checkpoints, steps = snapshots({"x": 10.5, "coins": 4}, ALL, *[STILL] * 12)
    filed = [checkpoints.file(step, STRIDE) for step in steps]
    shown = [int(one.latent[0, 0, 0]) for one in filed]
    first = shown.index(0)
    assert shown[:first] == list(range(1, first + 1)) and first == WON
    assert [value(filed[first].totals, name) for name in ("level", "coins", "lives", "x")] == [1, 4, 3, 10.5]
    assert value(filed[first].totals, "progress") == 0
    again = checkpoints.file(made(99, filed[first].totals), STRIDE)
    assert int(again.latent[0, 0, 0]) == 99, "once"


def test_it_is_not_over_in_the_air_nor_where_the_end_was_only_near():
    assert places(ALL | AIR, *[STILL] * 12)[-1] == 13
    assert places(*[ALL, {"progress": 0.9}] * 12)[-1] == 24


def test_a_death_in_the_next_level_leads_back_to_its_beginning():
    assert places(ALL, *[STILL] * (WON - 1), {"progress": 0.1, "level": 1}, dies(2), BACK)[-1] == 0


NEAR, NEXT = {"progress": 0.9}, {"progress": 0.0, "level": 1}


def test_a_finish_that_is_told_leads_to_where_the_opening_did():
    assert places(NEAR, NEXT, STILL, dies(2), BACK) == [1, 0, 3, 4, 0]
    assert places(NEAR, dies(2), NEXT, BACK, STILL, dies(1), BACK) == [1, 2, 0, 4, 5, 6, 0], "in a death too"


def test_a_finish_far_from_the_end_or_told_again_is_none():
    checkpoints, steps = snapshots(NEAR, NEXT, {"level": 2}, {"level": 3}, {"progress": 0.7}, {"level": 4})
    filed = [checkpoints.file(step, STRIDE) for step in steps]
    assert [int(one.latent[0, 0, 0]) for one in filed] == [1, 0, 3, 4, 5, 6]
    assert [value(one.totals, "level") for one in filed] == [0, 1, 1, 1, 1, 1]
    assert [value(one.told, "level") for one in filed] == [0.5, 0, 0, 0, 0, 0]


def test_coins_and_levels_are_not_lost_but_with_the_last_life():
    fallen = {"level": 0, "coins": 4, "lives": 2}
    checkpoints, steps = snapshots(
        {"coins": 7} | NEAR, {"level": 2} | NEAR, fallen, fallen | {"coins": 8}, fallen | {"lives": 5}
    )
    filed = [checkpoints.file(step, STRIDE) for step in steps][2:]
    totals = [[value(one.totals, name) for name in ("level", "coins", "lives")] for one in filed]
    assert totals == [[1, 7, 2], [1, 8, 2], [0, 4, 5]]
    told = [[value(one.told, name) for name in ("level", "coins", "lives")] for one in filed]
    assert told == [[0, 0, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0.5]]


def test_who_lives_on_below_all_ground_has_fallen():
    low = {"y": -1}
    assert places(low, STILL, STILL, STILL, STILL) == [1, 2, 3, 0, 5], "four steps of four frames"
    assert places(low, STILL, {"y": 1}, low, STILL, STILL) == [1, 2, 3, 4, 5, 6], "a fall that is told so"
    checkpoints, steps = snapshots(FURTHER, REACHED, low, *[STILL] * 3)
    filed = [checkpoints.file(step, STRIDE) for step in steps][-1]
    assert int(filed.latent[0, 0, 0]) == 2 and value(filed.totals, "lives") == 2


@pytest.mark.parametrize("told, left", [(3, 2), (2, 2)], ids=["a life is lost", "was told to be"])
def test_who_is_dead_for_good_comes_back(told, left):
    checkpoints, steps = snapshots(FURTHER, REACHED, dies(told), *[STILL] * 20)
    filed = [checkpoints.file(step, STRIDE) for step in steps]
    shown = [int(one.latent[0, 0, 0]) for one in filed]
    again = shown.index(2, 2)
    assert again == 2 + 60 // STRIDE and value(filed[again].totals, "lives") == left
    checkpoints, steps = snapshots(*[dies(1)] * 17)
    filed = [checkpoints.file(step, STRIDE) for step in steps][15]
    assert int(filed.latent[0, 0, 0]) == 0 and value(filed.totals, "lives") == 1, "where nothing is kept too"


def test_a_game_over_leads_to_another_place():
    over = BACK | {"lives": 5}
    assert places(FURTHER, REACHED, dies(0), STILL, over, STILL, dies(4), BACK) == [1, 2, 3, 4, 5, 6, 7, 6]
    assert places(dies(0), {"lives": 2}, BACK)[-1] == 3, "the lives may come a step before the hero"


def test_who_has_no_life_left_begins_at_the_opening_with_all_of_them():
    story = (
        FURTHER,
        REACHED | {"coins": 4},
        dies(0),
        BACK,
        {"lives": -1},
        FURTHER,
        {"lives": -2} | dies(-2),
        BACK,
    )
    checkpoints, steps = snapshots(*story)
    filed = [checkpoints.file(step, STRIDE) for step in steps]
    assert [int(step.latent[0, 0, 0]) for step in filed] == [1, 2, 3, 0, 5, 6, 7, 0]
    assert [value(filed[3].totals, name) for name in ("lives", "coins", "x")] == [3, 4, 10]


def test_a_game_over_in_a_level_of_which_nothing_is_known_leads_to_the_opening_too():
    assert places({"level": 1} | AIR, dies(0), BACK)[-1] == 0


def test_an_opening_in_the_air_is_no_checkpoint():
    checkpoints, steps = snapshots(AIR, STILL, GROUND, STILL, dies(2), BACK)
    checkpoints.open(steps[0])
    assert [int(checkpoints.file(step, STRIDE).latent[0, 0, 0]) for step in steps[1:]] == [2, 3, 4, 5, 3]


def test_what_is_told_there_is_the_place_as_it_was_and_the_player_as_he_is():
    reached = REACHED | {"y": 7, "coins": 2}
    checkpoints, steps = snapshots(
        FURTHER, reached, {"x": 11.9, "y": 3, "coins": 6}, dies(2), BACK | {"coins": 7}
    )
    filed = [checkpoints.file(step, STRIDE) for step in steps][-1]
    wanted = {
        "x": 11.1,
        "y": 7,
        "alive": 1,
        "grounded": 1,
        "coins": 7,
        "lives": 2,
        "level": 0,
    }
    assert {name: value(filed.totals, name) for name in wanted} == pytest.approx(wanted)
    for field, told in zip(SPEC.telemetry, filed.told):
        assert told == (0 if field.kind in ("count", "event") else 0.5), field.name


def test_a_draft_is_what_would_be_filed_and_changes_nothing():
    story = (FURTHER, REACHED, FURTHER, dies(2), BACK, {"level": 1}, dies(1), BACK)
    checkpoints, steps = snapshots(*story)
    other = made(99, told_of({"level": 1})[-1])
    for step, place in zip(steps, places(*story)):
        for drafted in (other, step, other):
            draft = checkpoints.draft(drafted, STRIDE)
            assert drafted is other or draft.latent[0, 0, 0] == place
        draft = checkpoints.draft(step, STRIDE)
        filed = checkpoints.file(step, STRIDE)
        assert np.array_equal(draft.latent, filed.latent) and np.array_equal(draft.totals, filed.totals)


def test_where_nothing_leads_back_every_step_is_filed_as_it_was_made(monkeypatch):
    racing = Checkpoints(GAMES["racing"])
    monkeypatch.setenv("DREAMCADE_WITHOUT", "checkpoints")
    for checkpoints in (racing, Checkpoints(SPEC)):
        steps = [made(number, totals) for number, totals in enumerate(told_of(dies(2), BACK))]
        checkpoints.open(steps[0])
        assert all(
            checkpoints.draft(step, STRIDE) is checkpoints.file(step, STRIDE) is step for step in steps[1:]
        )


def test_what_a_game_tells_of_its_checkpoints_are_fields_of_its_telemetry():
    kinds = {"alive": "flag", "stands": "flag", "lives": "event", "level": "event", "place": "count"}
    respawn = SPEC.respawn
    assert respawn is not None and GAMES["racing"].respawn is None
    for name, kind in kinds.items():
        assert SPEC.telemetry[SPEC.field_index(getattr(respawn, name))].kind == kind
    progress = SPEC.telemetry[SPEC.field_index(respawn.progress)]
    assert (progress.kind, progress.low, progress.high) == ("value", 0.0, 1.0)


# -- dreams -------------------------------------------------------------------------------------------

STORIES = (
    (FURTHER, REACHED, {"x": 11.5}, dies(2), STILL, BACK, STILL, {"x": 11.9}, dies(1), BACK, STILL, STILL),
    (STILL, dies(2), BACK, {"coins": 1}, FURTHER, REACHED | AIR, GROUND, STILL, dies(1), STILL, BACK, STILL),
    (STILL,) * 12,
)
CAME_BACK = ((5, 1), (9, 1)), ((2, -1), (10, 6)), ()
"""Of each story: at which step, to which one; -1 is the opening."""


def platformer_model(device: str = "cpu", **changed: Any) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(replace(tiny_config("platformer").world, **changed))
    shaken(model)
    return model.to(device)


def told_steps(story: Sequence[Changes]) -> np.ndarray:
    """[len(story), F] in model's terms."""
    rows = torch.from_numpy(told_of(*story))
    scale, strides = TelemetryScale(SPEC.telemetry), torch.full((len(story),), float(STRIDE))
    return scale.scaled(rows[1:], rows[:-1], strides).numpy()


def begun(config: WorldConfig, seed: int) -> Opening:
    random, shape = np.random.default_rng(seed), (OPENING, config.channels, config.rows, config.columns)
    latents = random.standard_normal(shape).astype(np.float32)
    latents /= np.sqrt((latents**2).mean(1, keepdims=True))
    buttons = random.random((OPENING, config.buttons)).astype(np.float32)
    return Opening(latents, buttons, np.full(OPENING, STRIDE), told_of(*[STILL] * (OPENING - 1)))


class Telling(GraphWorld):
    """Worlds whose telemetry goes by `stories`, whatever the model makes of it."""

    def __init__(self, model: WorldModel, stories: Sequence[Sequence[Changes]], **how: Any) -> None:
        super().__init__(model, len(stories), torch.float32, **{"capture": False} | how)
        self.stories = [torch.from_numpy(told_steps(story)) for story in stories]

    def step(self, controls: np.ndarray) -> None:
        before = self.number.tolist()
        super().step(controls)
        for world, (story, number, was) in enumerate(zip(self.stories, self.number.tolist(), before)):
            if number > was and number >= OPENING:
                self.told[world] = story[number - OPENING]


def plain_dream(
    model: WorldModel, story: Sequence[Changes], seen: Callable[[list], None] | None = None
) -> Dream:
    """The CPU's own. seen: is shown what every step begins from."""
    run, told = TorchStep(model, torch.float32), told_steps(story)

    def telling(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        latent, own, entries = run(arrays)
        if seen is not None:
            seen(arrays)
        number = dream.number - (OPENING - 1)
        return latent, own if number < 0 else told[number][None], entries

    dream = Dream("platformer", model.config, telling)
    return dream


def keys(config: WorldConfig, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.random(config.buttons).astype(np.float32) for _ in STORIES[0]]


def dreamed(dream: Dream, seed: int, drafts: bool = False) -> list[Step]:
    """drafts: before some steps, right, wrong or both."""
    dream.open(begun(dream.config, seed), noise_seed=seed)
    steps = []
    for t, held in enumerate(keys(dream.config, seed)):
        for wrong in ((False,), (True,), (True, True, False))[t % 3] if drafts else ():
            drafted = dream.draft(1 - held if wrong else held, STRIDE)
        steps.append(dream.step(held, STRIDE))
        if drafts and t % 3 != 1:
            assert np.array_equal(drafted.latent, steps[-1].latent)
            assert np.array_equal(drafted.telemetry, steps[-1].telemetry)
    return steps


def assert_came_back(steps: list[Step], number: int, seed: int, config: WorldConfig) -> None:
    shown = [begun(config, seed).latents[-1], *(step.latent for step in steps)]
    again = [
        (t, k - 1) for t in range(len(steps)) for k in range(t + 1) if np.array_equal(shown[t + 1], shown[k])
    ]
    first = {t: k for t, k in reversed(again)}
    assert tuple(sorted(first.items())) == CAME_BACK[number]


def assert_close(steps: list[Step], expected: list[Step], atol: float = 2e-5) -> None:
    for one, other in zip(steps, expected, strict=True):
        np.testing.assert_allclose(one.latent, other.latent, atol=atol)
        np.testing.assert_allclose(one.telemetry, other.telemetry, atol=1e-4)


def test_the_step_after_a_respawn_begins_from_what_is_remembered_behind_the_picture_before():
    model, begins = platformer_model(), []
    dream = plain_dream(model, STORIES[0], begins.append)
    steps = dreamed(dream, 0)
    assert_came_back(steps, 0, 0, model.config)
    latent, previous, _, _, told, *_ = begins[OPENING - 1 + 6]
    assert np.array_equal(latent[0], steps[1].latent) and np.array_equal(previous[0], steps[4].latent)
    wanted = told_steps(STORIES[0])[1]
    wanted[[field.kind in ("count", "event") for field in SPEC.telemetry]] = 0
    assert np.array_equal(told[0, 0], wanted)
    assert value(steps[5].telemetry, "lives") == 2
    assert value(steps[5].telemetry, "x") == value(steps[1].telemetry, "x") < value(steps[4].telemetry, "x")


def test_a_dream_with_deaths_comes_again_to_the_last_bit():
    """What `dreamcade replay --verify` does: the same opening, noise and keys."""
    dream = plain_dream(platformer_model(), STORIES[0])
    first, again = (dreamed(dream, 0) for _ in range(2))
    for one, other in zip(first, again):
        assert np.array_equal(one.latent, other.latent) and np.array_equal(one.telemetry, other.telemetry)


def test_a_dream_without_deaths_is_the_one_without_checkpoints(monkeypatch):
    model = platformer_model()
    steps = dreamed(plain_dream(model, STORIES[2]), 2)
    monkeypatch.setenv("DREAMCADE_WITHOUT", "checkpoints")
    for one, other in zip(steps, dreamed(plain_dream(model, STORIES[2]), 2)):
        assert np.array_equal(one.latent, other.latent) and np.array_equal(one.telemetry, other.telemetry)
    steps = dreamed(plain_dream(model, STORIES[0]), 0)
    assert value(steps[5].telemetry, "x") == pytest.approx(11.5, abs=1e-5)
    assert len({step.latent.tobytes() for step in steps}) == len(steps)


def check_slots(world: Telling, model: WorldModel, atol: float) -> None:
    """model: the same one, for dreams of their own."""
    slots = WorldSlots("platformer", world)
    dreams = [slots.join() for _ in STORIES]
    for seed, dream in enumerate(dreams):
        dream.open(begun(model.config, seed), noise_seed=seed)
    plans = zip(*(keys(model.config, seed) for seed in range(len(dreams))))
    turns = [slots.step([Due(dream, held, STRIDE) for dream, held in zip(dreams, now)]) for now in plans]
    for number, story in enumerate(STORIES):
        steps = [turn[number] for turn in turns]
        assert_came_back(steps, number, number, model.config)
        assert_close(steps, dreamed(plain_dream(model, story), number), atol)


def test_slots_that_step_at_once_come_back_each_to_its_own():
    model = platformer_model()
    check_slots(Telling(model, STORIES), model, atol=2e-5)


@pytest.mark.parametrize("kind", ["FusedStep", "ManyStep"])
def test_fused_slots_begin_from_what_is_remembered(kind):
    """In Triton's interpreter where there is no GPU: few tokens, it is slow."""
    pytest.importorskip("triton")
    from engine.fast.fused_world import FusedStep
    from engine.fast.many_step import ManyStep

    few: dict[str, Any] = {"rows": 2, "columns": 3, "context": 2, "layers": 2, "time_layers": (1,)}
    world = Telling(
        platformer_model(DEVICE, **few), STORIES, body={"FusedStep": FusedStep, "ManyStep": ManyStep}[kind]
    )
    check_slots(world, platformer_model(**few), atol=5e-3 if ON_GPU else 1e-4)


@pytest.mark.gpu
def test_captured_slots_begin_from_what_is_remembered():
    world = Telling(platformer_model("cuda"), STORIES, capture=True)
    check_slots(world, platformer_model(), atol=5e-3)  # TF32


@pytest.mark.parametrize("kind", ["dream", "static"])
def test_drafts_show_the_respawn_and_change_nothing(kind):
    model = platformer_model()
    for number, story in enumerate(STORIES[:2]):
        dream = plain_dream(model, story)
        if kind == "static":
            dream = StaticDream("platformer", Telling(model, [story]))
        plain = dreamed(dream, number)
        assert_came_back(plain, number, number, model.config)
        for one, other in zip(dreamed(dream, number, drafts=True), plain):
            assert np.array_equal(one.latent, other.latent) and np.array_equal(one.telemetry, other.telemetry)


def dreamed_on_rank(rank: int, drafts: bool) -> list[Step] | None:
    GAMES["platformer"] = SPEC  # a process of its own
    model = platformer_model()
    own = Telling(model, STORIES[:1], split=make_split(model.config))
    if rank:
        return follow(FollowingWorld(own))
    leader = LeadingWorld(own)
    steps = dreamed(StaticDream("platformer", leader), 0, drafts)
    leader.close()
    return steps


@pytest.mark.parametrize("drafts", [False, True])
def test_two_ranks_that_share_a_dream_come_back_together(drafts):
    steps = run_ranks(2, dreamed_on_rank, drafts)
    config = tiny_config("platformer").world
    assert_came_back(steps, 0, 0, config)
    assert_close(steps, dreamed(plain_dream(platformer_model(), STORIES[0]), 0))


# -- how much of a level is passed --------------------------------------------------------------------

LONG = {"progress": 0.1}
"""At x 10: so the level is 100 tiles long."""


def walked(*story: Changes) -> list[Snapshot]:
    """What is filed of each step."""
    steps = [made(number, totals) for number, totals in enumerate(told_of(*story))]
    steps[0].totals[SPEC.field_index("progress")] = LONG["progress"]
    checkpoints = Checkpoints(SPEC)
    checkpoints.open(steps[0])
    return [checkpoints.file(step, STRIDE) for step in steps[1:]]


def shares(*story: Changes) -> list[float]:
    """As it is filed of each step."""
    return [value(one.totals, "progress") for one in walked(*story)]


def test_how_much_of_a_level_is_passed_follows_from_the_way():
    story = (
        {"progress": 0.11, "x": 10.5},
        {"x": 60, "progress": 0.9},
        {"x": 97},
        {"x": 130, "progress": 0.2},
    )
    assert shares(*story) == pytest.approx([0.11, 0.6, 0.97, 1.0]), "what is hardly off stays"
    told = [value(one.told, "progress") for one in walked(*story)]
    assert told == pytest.approx([0.5, 0.2, 0.94, 1.0]), "the model is told the same"


def test_a_level_ends_where_the_way_does_whatever_is_told():
    """As the model tells it, it would never end."""
    filed = shares({"x": 108, "progress": 0.7}, *[STILL] * 12)
    ended = next(number for number, share in enumerate(filed) if share < 0.5)
    assert ended == WON - 1 and filed[:ended] == [1.0] * ended
    assert filed[ended:] == pytest.approx([LONG["progress"]] * len(filed[ended:])), (
        "and the next begins there"
    )
    further = shares({"x": 108}, *[STILL] * (ended + 1), {"x": 138})
    assert further[-1] == pytest.approx(LONG["progress"] + 0.3)


def test_who_stands_at_the_goal_has_won_whatever_is_told():
    """In a level of 100 tiles the flag stands at 95. A hero who cheers drifts a little."""
    drift = [{"x": 94.3 + 0.05 * i, "progress": 0.94} for i in range(WON + 3)]
    assert min(shares(*drift[:WON])) == pytest.approx(0.94), "he did not stand there before"
    assert shares(*drift)[WON] == pytest.approx(LONG["progress"])
    walks = [{"x": 92.5 + 0.12 * i, "progress": 0.93 + 0.001 * i} for i in range(2 * WON)]
    early = [{"x": 91.0, "progress": 0.91}] * (2 * WON)
    for story in (walks, early, [STILL] * (2 * WON)):
        assert min(shares({"x": 50, "progress": 0.5}, *story)) > 0.4, "the next level has not begun"
    above = {"x": 94.3, "progress": 0.94} | AIR
    assert shares(above, *[STILL] * (2 * WON))[-1] == pytest.approx(0.94), "nobody wins in the air"


def test_where_the_length_is_not_known_the_share_stays_as_it_is_told():
    checkpoints, steps = snapshots({"x": 60, "progress": 0.3}, {"progress": 0.2})
    assert [value(checkpoints.file(step, STRIDE).totals, "progress") for step in steps] == pytest.approx(
        [0.3, 0.2]
    )
    late = told_of({"x": 60, "progress": 0.3})
    late[:, SPEC.field_index("level")] = 1
    late[0, SPEC.field_index("progress")] = 0.5
    checkpoints.open(made(0, late[0]))
    assert value(checkpoints.file(made(1, late[1]), STRIDE).totals, "progress") == pytest.approx(0.3)


def test_a_life_that_is_lost_leaves_the_level_as_long_as_it_is():
    filed = shares({"x": 40, "progress": 0.4}, dies(2), BACK, {"x": 50, "progress": 0.9})
    assert filed[-1] == pytest.approx(0.5)


def test_a_game_over_that_is_told_begins_a_level_where_it_is_told():
    over: Changes = {"x": 61, "progress": 0.02, "lives": 5}
    filed = shares({"x": 60, "progress": 0.6}, dies(0), BACK | over, {"x": 71, "progress": 0.9})
    assert filed[2:] == pytest.approx([0.02, 0.12])
