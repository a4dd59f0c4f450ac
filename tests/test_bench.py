"""The benchmarks run on the CPU and end with one JSON line."""

import json
import sys

import pytest

from engine.bench import decoder, engine, profile, world
from engine.bench.presets import NAMES, preset
from engine.fast.bands import Rows, band_macs
from engine.layout import make_plan
from engine.models.autoencoder import Decoder
from engine.models.world_model import WorldModel
from engine.profiles import read_profile

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("bench", [decoder, world, engine], ids=lambda module: module.__name__)
def test_bench_ends_with_one_json_line(bench, monkeypatch, capsys):
    monkeypatch.setattr(engine, "_TICKS", 2)
    monkeypatch.setattr(sys, "argv", ["bench", "--game", "small", "--runs", "1"])
    bench.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["bench"] == bench.__name__.rpartition(".")[2]
    assert "untrained" in result["game"] and all(w["median_ms"] > 0 for w in result["ways"].values())


def test_profile_of_this_machine_can_be_planned_from(monkeypatch, tmp_path, capsys):
    path = tmp_path / "profile.json"
    options = ["--preset", "small", "--ranks", "1,2", "--runs", "1", "--out", str(path)]
    monkeypatch.setattr(sys, "argv", ["profile", *options])
    profile.main()
    made = read_profile(path)
    assert [step.ranks for step in made.steps] == [1, 2] and made.link is not None
    assert make_plan(made, 2).table
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["measured"] is True


def test_counted_multiply_adds_are_those_of_the_layers():
    config = preset("small")
    model = Decoder(config.autoencoder)
    stem = 150 * model.body[0].weight.numel()
    blocks = sum(150 * 2 * 9 * w * w * f for w, f in zip(config.autoencoder.decoder_widths, (1, 4, 36)))
    ups = 150 * model.body[2].conv.weight.numel() + 600 * model.body[4].conv.weight.numel()
    tail = 5400 * model.tail.weight.numel()
    assert band_macs(model, Rows(0, 10, 10), 15) == stem + blocks + ups + tail


def test_presets_are_shapes_that_go_over_ranks():
    for name in NAMES:
        config = preset(name).world
        assert config.tokens % 8 == 0 and config.heads % 4 == 0
    parameters = sum(p.numel() for p in WorldModel(preset("small").world).parameters())
    assert parameters < 1_000_000
