"""What a dream tells of what lies ahead, put right by what its picture shows: the reading, the dream that
goes on from it, the stage."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.config import ConfigError, GameConfig
from engine.fast.dream import Dream
from engine.fast.sight import APART, END, Sight, load_sight
from engine.fast.slots import Due, WorldSlots
from engine.fast.static_dream import StaticDream
from engine.fast.static_world import StaticWorld
from engine.fast.torch_backend import TorchBackend, TorchStep
from engine.models.sight_net import SightNet
from engine.models.weights import SHIPPED, SIGHT, load_config, load_part
from engine.training import data, pack, sight
from games import GAMES
from tests.test_cuda_graph import dreamed, opening, tiny_world
from tests.tiny import shaken, store_tiny, tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = tiny_config()
FIELDS = CONFIG.sight.fields  # type: ignore[union-attr]


def tiny_sight() -> Sight:
    torch.manual_seed(0)
    return Sight(shaken(SightNet(CONFIG)), FIELDS)  # type: ignore[arg-type]


def latent(seed: int = 0) -> np.ndarray:
    return opening(CONFIG.world, seed=seed).latents[0]


class Saying(Sight):
    """Reads what it is made with."""

    def __init__(self, *read: float, alive: int | None = None) -> None:
        self._fields, self._alive, self.says = list(FIELDS), alive, np.array(read, np.float32)

    def read(self, latent: np.ndarray) -> np.ndarray:
        return self.says


def test_it_reads_what_the_net_does_and_ends_of_a_range_as_ends():
    net = shaken(SightNet(CONFIG))
    some = torch.from_numpy(opening(CONFIG.world, steps=6).latents)
    read = net(some).numpy()  # type: ignore[operator]
    wanted = np.where(np.abs(read) > 1 - END, np.sign(read), read)
    made = np.stack([Sight(net, FIELDS).read(one) for one in some.numpy()])  # type: ignore[arg-type]
    np.testing.assert_allclose(made, wanted, atol=1e-5)
    assert len(np.unique(read)) > len(FIELDS)


def test_only_what_is_told_otherwise_than_shown_is_put_right():
    told = np.linspace(-0.5, 0.5, CONFIG.world.telemetry, dtype=np.float32)
    first, second = told[list(FIELDS)]
    agree, apart = 0.8 * APART, 1.2 * APART
    assert Saying(first + agree, second - agree).corrected(latent(), told) is told
    right = Saying(first + apart, second - agree).corrected(latent(), told)
    assert right[FIELDS[0]] == np.float32(first + apart)
    assert np.array_equal(np.delete(right, FIELDS[0]), np.delete(told, FIELDS[0]))
    assert told[FIELDS[0]] == first, "what the model made is left alone"


def test_of_a_dead_heros_picture_nothing_is_read():
    told = np.zeros(CONFIG.world.telemetry, np.float32)
    assert Saying(1.0, 1.0, alive=0).corrected(latent(), told) is told
    told[0] = 1
    assert Saying(1.0, 1.0, alive=0).corrected(latent(), told)[FIELDS[0]] == 1


def test_the_model_goes_on_from_what_is_shown_and_a_draft_shows_it_too():
    model, begins = tiny_world(), []
    run = TorchStep(model, torch.float32)
    shown = Saying(0.25, -0.5)
    dream = Dream(
        "racing", model.config, lambda arrays: begins.append(arrays[4][0, 0]) or run(arrays), sight=shown
    )  # type: ignore[func-returns-value]
    dream.open(opening(model.config), noise_seed=0)
    held = np.zeros(model.config.buttons, np.float32)
    drafted = dream.draft(held, 4)
    step = dream.step(held, 4)
    dream.step(held, 4)
    assert np.array_equal(drafted.telemetry, step.telemetry)
    for at, wanted in zip(FIELDS, shown.says):
        field = GAMES["racing"].telemetry[at]
        assert step.telemetry[at] == pytest.approx(
            field.low + (wanted + 1) / 2 * (field.high - field.low), rel=1e-4
        )
    assert begins[-1][list(FIELDS)].tolist() == shown.says.tolist() != begins[-2][list(FIELDS)].tolist()


def test_static_worlds_and_slots_go_on_from_it_as_well():
    model, held = tiny_world(), np.full(CONFIG.world.buttons, 0.5, np.float32)
    plain, seen = dreamed(Dream("racing", model.config, TorchStep(model, torch.float32), sight=tiny_sight()))
    blind, _ = dreamed(Dream("racing", model.config, TorchStep(model, torch.float32)))
    assert not np.allclose(plain, blind, atol=1e-3), "it matters what the model is told"
    made, told = dreamed(StaticDream("racing", StaticWorld(model), sight=tiny_sight()))
    np.testing.assert_allclose(made, plain, atol=2e-5)
    np.testing.assert_allclose(told, seen, atol=1e-3, rtol=1e-4)
    slots = WorldSlots("racing", StaticWorld(model, 2), tiny_sight())
    alone = Dream("racing", model.config, TorchStep(model, torch.float32), sight=tiny_sight())
    dreams = [slots.join(), slots.join()]
    for seed, dream in enumerate((*dreams, alone)):
        dream.open(opening(model.config, seed=seed % 2), noise_seed=seed % 2)
    for _ in range(4):
        steps = slots.step([Due(dream, held, 4) for dream in dreams])
        np.testing.assert_allclose(steps[0].latent, alone.step(held, 4).latent, atol=2e-5)


def test_weights_bring_it_unless_it_is_switched_off_or_not_there(tmp_path, monkeypatch):
    store_tiny(tmp_path)
    assert load_sight("racing", tmp_path) is not None
    assert TorchBackend("racing", tmp_path, "cpu", 1).world().sight is not None
    monkeypatch.setenv("DREAMCADE_WITHOUT", "drafts,sight")
    assert load_sight("racing", tmp_path) is None
    monkeypatch.delenv("DREAMCADE_WITHOUT")
    pack.drop_stale(tmp_path, {"encoder"})
    assert not (tmp_path / "sight.safetensors.gz").exists()


@pytest.mark.parametrize("told", [{"fields": [99]}, {"fields": [-1]}, {"hidden": 0}, {"sees": 1}])
def test_impossible_sights_are_refused(told):
    data = CONFIG.to_json() | {"sight": {"fields": [1], "width": 4, "hidden": 4} | told}
    with pytest.raises(ConfigError):
        GameConfig.from_json(data)


def test_a_config_keeps_its_sight_and_does_without_one():
    assert GameConfig.from_json(CONFIG.to_json()) == CONFIG
    assert GameConfig.from_json(replace(CONFIG, sight=None).to_json()).sight is None


def test_the_stage_trains_one_that_pack_takes_and_that_goes_with_its_encoder(tmp_path, monkeypatch, capsys):
    weights = tmp_path / "weights"
    store_tiny(weights, "platformer")
    args = ["sight", "platformer", "--minutes", "0.03", "--pictures", "40", "--weights", str(weights)]
    monkeypatch.setattr("sys.argv", [*args, "--out", str(tmp_path)])
    monkeypatch.setattr(data, "PLAYED_IN_FRAMES", 4)
    sight.main()
    out = capsys.readouterr().out
    assert all(f"{name}: off by" in out for name in GAMES["platformer"].shown)
    before = load_part(weights, SIGHT).state_dict()
    monkeypatch.setattr(
        "sys.argv", ["pack", "platformer", "--source", str(tmp_path), "--target", str(weights)]
    )
    pack.main()
    assert load_config(weights)[0].sight == pack.game_config("platformer").sight
    made = load_part(weights, SIGHT).state_dict()
    assert made["each.weight"].shape != before["each.weight"].shape
    assert pack.packed_config("platformer", weights, {"encoder": {}, "world": {}}, {}).sight is None


def test_a_game_that_names_nothing_is_told_so(tmp_path, monkeypatch):
    store_tiny(tmp_path)
    monkeypatch.setattr("sys.argv", ["sight", "racing", "--weights", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"GameSpec\.shown"):
        sight.main()


def test_the_stage_sees_training_seeds():
    assert sight.FIRST_SEED in data.TRAIN_SEEDS


@pytest.mark.parametrize("game", list(GAMES))
def test_what_is_shown_is_told_as_it_is_now(game):
    """Not as a change: a picture shows no totals."""
    kinds = {field.name: field.kind for field in GAMES[game].telemetry}
    assert all(kinds[name] in ("value", "flag") for name in GAMES[game].shown)


def test_the_shipped_platformer_reads_what_its_spec_says_it_shows():
    config = load_config(SHIPPED / "platformer")[0]
    assert config.sight == pack.game_config("platformer").sight


def test_only_distances_are_near():
    spec = GAMES["platformer"]
    told = torch.full((2, len(spec.telemetry)), 10.0)
    told[1, spec.field_index("enemy_ahead")] = sight.NEAR_TILES - 0.1
    told[1, spec.field_index("wall_height")] = 0.5
    marked = sight.near("platformer", told)
    assert marked[0].sum() == 0
    assert marked[1].nonzero()[:, 0].tolist() == [spec.field_index("enemy_ahead")]
