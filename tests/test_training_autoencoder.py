"""Stage `autoencoder`: what pixels weigh, and two decoders that learn beside one another."""

import sys

import pytest
import torch
from safetensors.torch import load_file

from engine.config import ConfigError
from engine.models.weights import WIDE
from engine.training import autoencoder
from engine.training.autoencoder import class_worth, picture_loss, read_autoencoder
from engine.training.files import read_part
from games import GAMES
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")


def test_masks_weigh_alike_or_each_as_it_is_given():
    assert class_worth("platformer", [4]).tolist() == [1, 5, 5, 5, 5]
    assert class_worth("platformer", [1, 2, 0, 4]).tolist() == [1, 2, 3, 1, 5]


@pytest.mark.parametrize("masks", [[1, 2], [-1.0], [1, 2, -3, 4]])
def test_masks_that_cannot_be_are_named(masks):
    with pytest.raises(ConfigError, match=r"--mask takes one weight of 0 and more.* car, rival"):
        class_worth("racing", masks)


def test_an_error_counts_by_what_its_class_weighs():
    true, classes = torch.full((1, 3, 48, 48), 0.5), torch.zeros(1, 48, 48, dtype=torch.uint8)
    classes[:, :, 24:] = 2
    wrong = {k: torch.where(classes[:, None] == k, 0.7, true) for k in (0, 2)}

    def loss(k, masks):
        return picture_loss(wrong[k], true, classes, class_worth("racing", masks), edge=0.0)

    assert loss(0, [0])[0] == pytest.approx(loss(2, [0])[0].item(), rel=0.01)
    assert loss(2, [0, 9, 0, 0])[0] > 5 * loss(0, [0, 9, 0, 0])[0]
    assert loss(2, [0, 9, 0, 0])[1] == pytest.approx(0.02)  # the squared error itself weighs nothing


def test_a_wide_decoder_learns_beside_the_cpu_s_and_goes_on_from_its_file(tmp_path, monkeypatch, capsys):
    sizes = tiny_config()
    monkeypatch.setattr(autoencoder, "AutoencoderConfig", lambda: sizes.autoencoder)
    monkeypatch.setattr(autoencoder, "WideDecoderConfig", lambda: sizes.wide_decoder)
    files = [tmp_path / f"racing-{part}.safetensors" for part in ("autoencoder", WIDE)]
    stage = ["autoencoder", "racing", "--small", "--device", "cpu", "--minutes", "0.01", "--out"]
    monkeypatch.setattr(sys, "argv", [*stage, str(tmp_path), "--mask", "8", "40", "20", "12", "--wide"])
    autoencoder.main()
    assert read_autoencoder(files[:1]).config == sizes.autoencoder
    assert not any(name.startswith("wide") for name in load_file(files[0]))
    first = read_part(files[1])
    said = capsys.readouterr().out
    assert "racing wide decoder: held-out psnr" in said
    assert all(said.count(f"inside {mask}") == 2 for mask in GAMES["racing"].masks)

    given = ["--resume", str(files[0]), "--wide", str(files[1])]
    monkeypatch.setattr(sys, "argv", [*stage, str(tmp_path / "again"), *given])
    autoencoder.main()
    again = read_part(tmp_path / "again" / files[1].name)
    assert {n: v.shape for n, v in again.items()} == {n: v.shape for n, v in first.items()}
    moved = max((again[name] - first[name]).abs().max().item() for name in first)
    assert 0 < moved < 0.1


def test_a_stage_says_in_one_line_which_masks_it_wants(tmp_path, monkeypatch):
    stage = ["autoencoder", "racing", "--small", "--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*stage, "--mask", "1", "2"])
    with pytest.raises(SystemExit, match="dreamcade: error: --mask takes one weight"):
        autoencoder.main()


@pytest.mark.parametrize("option", ["--mask", "--edge"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "much"])
def test_a_weight_that_cannot_be_is_refused_before_anything_is_played(option, value, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["autoencoder", "racing", "--device", "cpu", f"{option}={value}"])
    with pytest.raises(SystemExit) as ended:
        autoencoder.main()
    assert ended.value.code == 2 and option in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--resume", "--wide"])
def test_a_file_that_is_not_there_is_named(option, tmp_path, monkeypatch):
    given = [
        "autoencoder",
        "racing",
        "--small",
        "--device",
        "cpu",
        option,
        str(tmp_path / "gone.safetensors"),
    ]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit, match=r"dreamcade: error: .*gone\.safetensors"):
        autoencoder.main()
