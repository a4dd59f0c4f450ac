"""The search for tiles: it runs, in Triton's interpreter on the CPU, and names the best and what failed."""

from dataclasses import replace

import pytest

pytest.importorskip("triton")

from engine.bench import tiles, world_tiles
from engine.bench.presets import preset
from engine.bench.tuning import Case, Tried, prepare, table
from engine.fast.many_step import ProductTile
from engine.fast.tiled_convolution import Tile
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")


def test_layers_are_those_of_the_decoder():
    counted = tiles.layers(preset("wide-decoder").autoencoder)
    assert sum(counted.values()) == 18 and len(counted) == 11
    assert abs(sum(count * layer.gflop(1) for layer, count in counted.items()) - 19.04) < 0.01


def test_every_convolution_case_runs():
    layer = tiles.Layer(2, 3, 16, 16, 3, residual=True)
    shuffled = tiles.Layer(2, 3, 16, 12, 3, shuffle=2, bytes=True)
    for one in (layer, shuffled):
        assert tiles.plain(one, 2)().shape == tiles.tiled(one, 2, Tile(16, 16, 0, 16, 4, 2))().shape
    assert tiles.pytorch(layer, 2)().shape == (2, 16, 2, 3)


def test_every_case_of_a_step_runs(monkeypatch):
    config = replace(tiny_config().world, rows=2, columns=3, registers=8, width=32, mlp_ratio=2)
    for name, few in {"_TILES": (ProductTile(16, 16, 16, 4, 2),), "_ATTEND": ((16, 16, 4, 2),)}.items():
        monkeypatch.setattr(world_tiles, name, few)
    cases, counted = world_tiles.cases_of(config, 2)
    assert [why for case in cases if (why := prepare(case))] == [] and len(counted) == 7


def test_the_table_names_the_best_and_what_failed():
    def case(tile):
        return Case("a layer", tile, tiles.plain, ())

    results = [
        Tried(case("(plain)"), 2.0),
        Tried(case("one"), 1.0, 1e-3),
        Tried(case("two"), why="too large"),
    ]
    said = table(results, {"a layer": 100.0})
    assert said.splitlines()[0] == "a layer: (plain) 2.0000 (50); one 1.0000 (100); off <= 1e-03, 1 failed"
    assert said.endswith("failed: too large")
