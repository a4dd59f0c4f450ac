"""The GPU's decoder: its sizes, widening, its place in the weights, who uses it, its stage."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.backend import load_backend
from engine.bench.decoder import COLUMNS, ROWS
from engine.bench.presets import preset
from engine.config import AutoencoderConfig, ConfigError, GameConfig, WideDecoderConfig
from engine.fast.bands import Rows, band_macs
from engine.fast.choose import paints_wide
from engine.fast.torch_backend import TorchBackend
from engine.models.autoencoder import Decoder, with_decoder_of
from engine.models.layers import to_sphere
from engine.models.weights import SHIPPED, WIDE, WeightsError, build, has_part, load_config, load_part
from engine.training import data, pack, steady, unpack, wide_decoder
from engine.training.widen import widened
from games import GAMES
from tests.tiny import shaken, store_tiny, tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def weights(tmp_path) -> Path:
    """A directory with all parts, the wide decoder too."""
    store_tiny(tmp_path / "weights")
    return tmp_path / "weights"


def without_wide(weights: Path) -> Path:
    """The same directory as if it had been packed before there were wide decoders."""
    path = weights / "config.json"
    told = json.loads(path.read_text())
    del told["wide_decoder"], told["files"][f"{WIDE}.safetensors.gz"]
    path.write_text(json.dumps(told))
    (weights / f"{WIDE}.safetensors.gz").unlink()
    return weights


# -- sizes --------------------------------------------------------------------------------------------


def test_a_config_keeps_its_wide_decoder_and_does_without_one():
    config = tiny_config()
    assert GameConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    told = config.to_json()
    del told["wide_decoder"]
    assert GameConfig.from_json(told).wide_decoder is None
    assert GameConfig.from_json({**told, "wide_decoder": None}).wide_decoder is None


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"widths": [16, 16]}, "three or four"),
        ({"widths": [16, 16, 0], "blocks": [1, 1, 1]}, "positive"),
        ({"widths": 16}, "list of whole numbers"),
        ({"channels": 16}, "unknown keys"),
        (16, "JSON object"),
    ],
)
def test_impossible_wide_decoders_are_refused(told, why):
    with pytest.raises(ConfigError, match=why):
        GameConfig.from_json({**tiny_config().to_json(), "wide_decoder": told})


def test_the_trained_sizes_are_what_a_gpu_affords_and_the_weights_have_room_for():
    decoder = Decoder(preset("racing-wide").autoencoder)
    parameters = sum(p.numel() for p in decoder.parameters())
    gflop = 2e-9 * band_macs(decoder, Rows(0, ROWS, ROWS), COLUMNS)
    assert 4.0e6 < parameters < 4.25e6 and 15 < gflop < 25


# -- widening -----------------------------------------------------------------------------------------


def test_a_widened_decoder_paints_the_same_picture_and_can_learn_with_all_it_has():
    torch.manual_seed(0)
    config = tiny_config().autoencoder
    old = shaken(Decoder(config))
    new = widened(old, WideDecoderConfig((24, 16, 32), (2, 1, 3)).of(config))
    latents = torch.randn(2, config.channels, 2, 3)
    picture = old(latents)
    torch.testing.assert_close(new(latents), picture, atol=1e-5, rtol=0)
    optimiser = torch.optim.SGD(new.parameters(), lr=0.1)
    for _ in range(2):  # what comes before a zero gets its gradient when that is none any more
        optimiser.zero_grad()
        (new(latents) - torch.rand_like(picture)).square().mean().backward()
        optimiser.step()
    for name, parameter in new.named_parameters():
        assert (
            parameter.grad is not None
            and (parameter.grad.flatten(1 if parameter.ndim > 1 else 0) != 0).any(-1).all()
        ), name


@pytest.mark.parametrize(
    ("widths", "blocks"),
    [((16, 8, 8), (1, 0, 2)), ((32, 16, 24, 8), (2, 1, 0, 1)), ((224, 160, 96, 32), (2, 2, 1, 1))],
)
def test_a_decoders_sizes_are_read_off_its_weights(widths, blocks):
    config = AutoencoderConfig(decoder_widths=widths, decoder_blocks=blocks)
    assert with_decoder_of(AutoencoderConfig(), Decoder(config).state_dict()) == config


@pytest.mark.parametrize("game", GAMES)
def test_the_shipped_decoders_can_be_widened_to_the_trained_sizes(game):
    old = load_part(SHIPPED / game, "decoder")
    assert isinstance(old, Decoder)
    config = load_config(SHIPPED / game)[0].autoencoder
    new = widened(old, WideDecoderConfig().of(config))
    latents = torch.randn(1, config.channels, 2, 2)
    torch.testing.assert_close(new(latents), old(latents), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("widths", "blocks", "why"),
    [
        ((16, 16, 8, 8), (1, 1, 1, 1), "3 stages cannot be widened to 4"),
        ((16, 8, 8), (1, 1, 1), "stage 1.*narrower"),
        ((16, 16, 8), (1, 0, 1), "stage 1.*fewer blocks"),
    ],
)
def test_a_smaller_decoder_is_not_wider(widths, blocks, why):
    config = tiny_config().autoencoder
    with pytest.raises(ConfigError, match=why):
        widened(Decoder(config), WideDecoderConfig(widths, blocks).of(config))


# -- weights ------------------------------------------------------------------------------------------


def test_a_wide_decoder_is_stored_and_loaded_with_its_own_sizes(weights):
    assert has_part(weights, WIDE)
    made, small = load_part(weights, WIDE), load_part(weights, "decoder")
    assert made.state_dict().keys() == build(tiny_config(), WIDE).state_dict().keys()
    assert sum(p.numel() for p in made.parameters()) > sum(p.numel() for p in small.parameters())


def test_directories_without_a_wide_decoder_still_load(weights):
    without_wide(weights)
    assert not has_part(weights, WIDE) and load_config(weights)[0].wide_decoder is None
    with pytest.raises(WeightsError, match=r"decoder-wide\.safetensors\.gz is missing"):
        load_part(weights, WIDE)


def test_a_wide_decoder_whose_sizes_are_not_told_is_refused(weights):
    path = weights / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "wide_decoder": None}))
    with pytest.raises(WeightsError, match=r"decoder-wide.*no 'wide_decoder'.*reinstall"):
        load_part(weights, WIDE)


def run(monkeypatch, module, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    module.main()


def test_unpacked_and_packed_again_it_is_the_same(weights, tmp_path, monkeypatch):
    config = tiny_config()
    monkeypatch.setattr(pack, "game_config", lambda game: config)
    run(monkeypatch, unpack, "racing", "--weights", weights, "--out", tmp_path)
    before = load_part(weights, WIDE).state_dict()
    made = load_file(tmp_path / f"racing-{WIDE}.safetensors")
    assert all(torch.equal(value, before[name.removeprefix(f"{WIDE}.")]) for name, value in made.items())
    run(monkeypatch, pack, "racing", "--source", tmp_path, "--target", tmp_path / "again")
    again = load_part(tmp_path / "again", WIDE).state_dict()
    assert all(torch.equal(again[name], value) for name, value in before.items())


def test_it_is_packed_alone_and_goes_with_its_encoder(weights):
    old, fresh = load_config(weights)[0], pack.game_config("racing")
    assert pack.packed_config("racing", weights, {WIDE: {}}, {}) == replace(
        old, wide_decoder=fresh.wide_decoder
    )
    assert pack.packed_config("racing", weights, {"extrapolator": {}}, {}).wide_decoder == old.wide_decoder
    assert pack.packed_config("racing", weights, {"encoder": {}, "world": {}}, {}).wide_decoder is None
    pack.drop_stale(weights, {"decoder"})
    assert (weights / f"{WIDE}.safetensors.gz").exists()
    pack.drop_stale(weights, {"encoder", "decoder"})
    assert not (weights / f"{WIDE}.safetensors.gz").exists()


# -- who uses it --------------------------------------------------------------------------------------


def test_gpus_paint_with_it_unless_it_is_switched_off(weights, monkeypatch):
    assert paints_wide(weights, "cuda", None) and not paints_wide(weights, "cpu", None)
    monkeypatch.setenv("DREAMCADE_WITHOUT", "wide")
    assert not paints_wide(weights, "cuda", None)
    monkeypatch.delenv("DREAMCADE_WITHOUT")
    assert not paints_wide(without_wide(weights), "cuda", None)


def test_either_can_be_named_and_the_wide_one_must_be_there(weights):
    named = load_backend("racing", weights=str(weights), decoder="wide")
    latent = torch.nn.functional.normalize(torch.randn(named.latent_shape), dim=0).numpy()
    latent *= named.latent_shape[0] ** 0.5
    plain = TorchBackend("racing", weights, "cpu", 1, wide=True)
    assert (named.decoder_name, plain.decoder_name) == ("wide", "wide")
    off = named.decoder().decode(latent).astype(int) - plain.decoder().decode(latent)
    assert abs(off).max() <= 6  # bfloat16
    assert not paints_wide(weights, "cuda", "cpu")
    with pytest.raises(WeightsError, match="no wide decoder: leave --decoder out"):
        load_backend("racing", weights=str(without_wide(weights)), decoder="wide")


def test_a_cpu_never_reads_it(weights):
    (weights / f"{WIDE}.safetensors.gz").write_bytes(b"broken")
    assert load_backend("racing", weights=str(weights)).decoder_name.startswith("cpu")
    with pytest.raises(WeightsError, match="decoder-wide"):
        load_part(weights, WIDE)


# -- its stage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("game", GAMES)
def test_the_stage_trains_a_decoder_that_pack_takes(game, tmp_path, monkeypatch, capsys):
    store_tiny(tmp_path / "weights", game)
    config = replace(tiny_config(game), wide_decoder=WideDecoderConfig((16, 24, 16), (1, 2, 2)))
    monkeypatch.setattr(pack, "game_config", lambda game: config)
    encoder = load_part(tmp_path / "weights", "encoder").state_dict()
    parser = wide_decoder.parser()
    given = [game, "--small", "--device", "cpu", "--minutes", "0.02"]
    args = parser.parse_args([*given, "--out", str(tmp_path), "--weights", str(tmp_path / "weights")])
    stage = wide_decoder.WideDecoderTraining(args)
    stage.run()
    assert stage.training.updates > 0 and not list(tmp_path.glob("*.part"))
    assert all(torch.equal(value, encoder[name]) for name, value in stage.model.encoder.state_dict().items())
    said = capsys.readouterr().out
    assert f"{game} cpu decoder: held-out psnr" in said and f"{game} wide decoder: held-out psnr" in said
    run(monkeypatch, pack, game, "--source", tmp_path, "--target", tmp_path / "weights")
    assert has_part(tmp_path / "weights", WIDE)
    args.resume = tmp_path / f"{game}-{WIDE}.safetensors"
    again = wide_decoder.WideDecoderTraining(args).model.decoder.state_dict()
    saved = load_file(args.resume)
    assert all(torch.equal(saved[f"{WIDE}.{name}"].float(), value) for name, value in again.items())


def sphere_latents(*size: int) -> torch.Tensor:
    return to_sphere(torch.randn(*size), dim=1)


def striped(contrast: torch.Tensor) -> torch.Tensor:
    """[B, 3, 240, 240], stripes of contrast [B]."""
    return contrast.view(-1, 1, 1, 1) * torch.tensor([1.0, -1.0]).repeat(120).expand(
        len(contrast), 3, 240, 240
    )


def test_windows_on_which_the_decoders_disagree_are_those_of_the_calmer_one():
    own, other = torch.tensor([9.0, 0.02, 0.1]), torch.tensor([0.0, 0.0, 0.9])
    latents = torch.zeros(3, 16, 5, 5)
    pictures, apart = steady.wanted(latents, lambda z: striped(own), lambda z: striped(other))
    assert apart.tolist() == [True, False, False]
    assert pictures[:, 0, 0, 0].tolist() == pytest.approx([0.0, 0.02, 0.1])


def test_latents_are_disturbed_on_the_sphere_and_every_fourth_not_at_all():
    torch.manual_seed(0)
    latents = sphere_latents(8, 16, 5, 5)
    made = steady.disturbed(latents)
    assert torch.allclose(made.square().mean(1), torch.ones(8, 5, 5), atol=1e-3)
    same = (made == latents).all(1).flatten(1).all(1)
    assert same.tolist()[::4] == [True, True] and not same[1::4].any() and not same[2::4].any()


@pytest.mark.parametrize("part", [WIDE, "decoder"])
def test_the_steady_stage_calms_a_decoder_that_blows_up(part, tmp_path, monkeypatch, capsys):
    store_tiny(tmp_path / "weights")
    torch.manual_seed(0)
    made = {f"{part}.{k}": 3 * v for k, v in load_part(tmp_path / "weights", part).state_dict().items()}
    save_file(made, tmp_path / "wild.safetensors")
    shape = load_config(tmp_path / "weights")[0].world
    latents = sphere_latents(4, shape.channels, shape.rows, shape.columns).numpy()
    monkeypatch.setattr(steady, "dreamed_latents", lambda *told: latents)
    monkeypatch.setattr(steady, "_LR", 3e-3)
    option = "--wide" if part == WIDE else "--decoder"
    args = ["racing", "--minutes", "0.15", "--f32", option, str(tmp_path / "wild.safetensors")]
    args += ["--out", str(tmp_path), "--weights", str(tmp_path / "weights")]
    path = steady.run(steady.parser().parse_args(args))
    before, after = (
        float(line.split(" by ")[1].split()[0])
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(("before", "after"))
    )
    assert after < before
    config = load_config(tmp_path / "weights")[0]
    monkeypatch.setattr(pack, "game_config", lambda game: config)
    run(monkeypatch, pack, "racing", "--source", path.parent, "--target", tmp_path / "weights")
    assert path.name == f"racing-{part}.safetensors" and load_part(tmp_path / "weights", part)


def test_the_stage_sees_other_seeds_than_its_judge():
    assert wide_decoder.WideDecoderTraining.first_seed in data.TRAIN_SEEDS
    assert steady.FIRST_SEED in data.TRAIN_SEEDS


def test_sizes_of_a_wide_decoder_leave_the_encoder_alone():
    config = AutoencoderConfig()
    wide = WideDecoderConfig().of(config)
    assert replace(wide, decoder_widths=config.decoder_widths, decoder_blocks=config.decoder_blocks) == config
