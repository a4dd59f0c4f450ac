"""The end of the CPU's decoder learns on: its stage, on a tiny one."""

import pytest
import torch

from engine.models.autoencoder import Decoder, with_decoder_of
from engine.models.weights import load_config, load_part
from engine.training import data, sharpen
from engine.training.files import read_part
from tests.tiny import store_tiny, tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")


def sharpened(tmp_path, monkeypatch, *options: str) -> dict[str, torch.Tensor]:
    store_tiny(tmp_path / "weights")
    args = [
        "sharpen",
        "racing",
        "--minutes",
        "0.03",
        "--pictures",
        "4",
        "--weights",
        str(tmp_path / "weights"),
    ]
    monkeypatch.setattr("sys.argv", [*args, "--out", str(tmp_path), *options])
    monkeypatch.setattr(data, "PLAYED_IN_FRAMES", 4)
    monkeypatch.setattr(sharpen, "report", lambda *told: None)
    sharpen.main()
    return read_part(tmp_path / "racing-decoder.safetensors", "decoder")


def test_only_the_last_two_stages_learn(tmp_path, monkeypatch, capsys):
    last = tiny_config().autoencoder.decoder_widths[-1]
    made = sharpened(tmp_path, monkeypatch, "--width", str(last))
    before = load_part(tmp_path / "weights", "decoder")
    first = sharpen.freeze_first_stages(before)
    assert 0 < first < len(before.body)
    for name, value in before.state_dict().items():
        learns = not name.startswith("body.") or int(name.split(".")[1]) >= first
        same = torch.equal(made[name], value.to(torch.bfloat16).float())
        assert learns or same, name
    changed = [name for name, value in before.state_dict().items() if not torch.equal(made[name], value)]
    assert "tail.weight" in changed
    assert "saved" in capsys.readouterr().out


def test_the_last_stage_is_made_wider_and_the_file_says_its_sizes(tmp_path, monkeypatch):
    made = sharpened(tmp_path, monkeypatch, "--width", "24")
    sizes = with_decoder_of(load_config(tmp_path / "weights")[0].autoencoder, made)
    assert sizes.decoder_widths == (*tiny_config().autoencoder.decoder_widths[:-1], 24)
    Decoder(sizes).load_state_dict(made)


def test_what_makes_no_sense_is_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        sharpened(tmp_path, monkeypatch, "--batch", "0")
    assert "--batch" in capsys.readouterr().err


def test_the_stage_sees_training_seeds():
    assert sharpen.FIRST_SEED in data.TRAIN_SEEDS
