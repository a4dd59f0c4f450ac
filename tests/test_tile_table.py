"""The table of tiles: which layers of a decoder run by them, in Triton's interpreter on the CPU."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from engine.bench import tiles
from engine.bench.decoder import fused_ways
from engine.bench.presets import preset
from engine.bench.tuning import Case, Tried
from engine.fast import fused_decoder, tile_table
from engine.fast.cuda_graph import GraphDecoder
from engine.fast.fused_decoder import FusedPaint
from engine.fast.tile_table import NO_TILES, Layer, TileTable, file_name, tiles_at_hand
from engine.fast.tiled_convolution import Tile
from engine.models.autoencoder import Decoder
from tests.tiny import DEVICE, ON_GPU, shaken, tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")
TILE = Tile(64, 16, 0, 16, 4, 2)


def small_decoder() -> Decoder:
    torch.manual_seed(0)
    model = Decoder(replace(tiny_config().autoencoder, decoder_widths=(16, 16, 8), decoder_blocks=(1, 0, 1)))
    return shaken(model).to(DEVICE)  # type: ignore[return-value]


def layers_at(rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> list[Layer]:
    """Every layer as `small_decoder` runs it on latents of such a grid."""
    monkeypatch.setattr(tiles, "_ROWS", rows)
    monkeypatch.setattr(tiles, "_COLUMNS", columns)
    widths, blocks = (16, 16, 8), (1, 0, 1)
    return list(
        tiles.layers(replace(tiny_config().autoencoder, decoder_widths=widths, decoder_blocks=blocks))
    )


def painted(paint: FusedPaint, latents: torch.Tensor) -> torch.Tensor:
    made = torch.zeros(len(latents), 48, 96, 3, dtype=torch.uint8, device=DEVICE)
    paint(latents, made)
    return made.int()


def test_every_layer_by_tiles_gives_the_other_kernels_bytes(monkeypatch):
    model, latents = small_decoder(), torch.randn(2, 16, 1, 2, device=DEVICE)
    ran: list[Tile] = []
    real = fused_decoder.convolve
    monkeypatch.setattr(fused_decoder, "convolve", lambda *a: ran.append(a[-1]) or real(*a))  # type: ignore[func-returns-value]
    named = layers_at(1, 2, monkeypatch)
    table = TileTable({TileTable.key(layer, 2): TILE for layer in named})
    made = painted(FusedPaint(model, torch.float32, table=table), latents)
    assert len(ran) == 8 and set(ran) == {TILE}, "stem, two blocks, two steps up, tail"
    expected = painted(FusedPaint(model, torch.float32, table=NO_TILES), latents)
    assert len(ran) == 8
    assert (made - expected).abs().max() <= 1 and (made != expected).float().mean() < 1e-3
    painted(FusedPaint(model, torch.float32, table=table), latents[:1])
    assert len(ran) == 8, "the table is of another batch"


def test_only_the_named_layer_runs_by_tiles(monkeypatch):
    model, latents = small_decoder(), torch.randn(2, 16, 1, 2, device=DEVICE)
    ran: list[int] = []
    real = fused_decoder.convolve
    monkeypatch.setattr(fused_decoder, "convolve", lambda *a: ran.append(len(a[0])) or real(*a))  # type: ignore[func-returns-value]
    tail = layers_at(1, 2, monkeypatch)[-1]
    assert tail.bytes and tail.shuffle == 8
    table = TileTable({TileTable.key(tail, 2): TILE})
    made = painted(FusedPaint(model, torch.float32, table=table), latents)
    expected = painted(FusedPaint(model, torch.float32, table=NO_TILES), latents)
    assert ran == [2] and (made - expected).abs().max() <= 1


def test_layers_that_no_box_fits_have_no_tile():
    odd = Layer(10, 15, 20, 20, 3)
    table = TileTable({TileTable.key(odd, 1): TILE})
    assert table.of(odd, 1, itemsize=4) is TILE and table.of(odd, 1, itemsize=2) is None
    assert not Layer(10, 15, 32, 20, 3).fits(2) and Layer(10, 15, 32, 20, 3, shuffle=2).fits(2)


def test_large_batches_take_the_nearest_ones_tile_and_small_ones_their_own():
    layer, other = Layer(10, 15, 16, 16, 3), Layer(10, 15, 16, 16, 3, residual=True)
    many = replace(TILE, warps=8)
    table = TileTable(
        {TileTable.key(layer, size): tile for size, tile in ((1, TILE), (64, TILE), (256, many))}
    )
    found = {size: table.of(layer, size, 4) for size in (1, 2, 32, 64, 100, 200, 512)}
    assert found == {1: TILE, 2: None, 32: TILE, 64: TILE, 100: TILE, 200: many, 512: many}
    assert table.of(other, 64, 4) is None
    assert TileTable({TileTable.key(layer, 1): TILE}).of(layer, 64, 4) is None


def test_a_table_is_found_where_it_is_named_and_says_when_it_is_none(monkeypatch, tmp_path):
    path = tmp_path / "some" / "tiles.json"
    table = TileTable({TileTable.key(Layer(10, 15, 16, 16, 3), 64): replace(TILE, narrow=True)})
    table.write(path)
    monkeypatch.delenv(tile_table.VARIABLE, raising=False)
    assert ON_GPU or tiles_at_hand(torch.device("cpu")) is NO_TILES
    assert next(iter(fused_ways(small_decoder(), torch.float32))) == "fused"
    monkeypatch.setenv(tile_table.VARIABLE, str(path))
    assert tiles_at_hand(torch.device("cpu")) == table
    assert list(fused_ways(small_decoder(), torch.float32)) == ["fused", "fused, tiled"]
    path.write_text('{"1 of a layer": {"pixels": 3}}')
    with pytest.raises(ValueError, match=r"tiles\.json is no table of tiles"):
        TileTable.read(path)
    assert file_name((9, 0)) == "sm90.json"


def test_winners_are_right_and_quicker_than_the_other_kernel():
    config = preset("wide-decoder").autoencoder
    counted = tiles.layers(config)
    first, second, third, *_ = counted

    def case(layer: Layer, tile: Tile | str, ms: float, off: float = 0.0, why: str = "") -> Tried:
        args = (layer, 64) if isinstance(tile, str) else (layer, 64, tile)
        return Tried(Case(str(layer), str(tile), tiles.plain, args), ms, off, why)

    quick, wrong, broken = replace(TILE, stages=3), replace(TILE, stages=4), replace(TILE, stages=5)
    results = [
        case(first, "(plain)", 2.0), case(first, "(torch)", 0.1), case(first, TILE, 1.5),
        case(first, quick, 1.0), case(first, wrong, 0.5, off=0.2), case(first, broken, 0.0, why="no"),
        case(second, "(plain)", 1.0), case(second, TILE, 1.5), case(third, "(plain)", 1.0),
    ]  # fmt: skip
    assert tiles.winners(counted, 64, results) == {TileTable.key(first, 64): quick}


def test_the_search_keeps_what_other_batches_found(monkeypatch, tmp_path, capsys):
    path, stem = tmp_path / "tiles.json", next(iter(tiles.layers(preset("small").autoencoder)))
    TileTable({"7 of another": TILE, TileTable.key(stem, 2): replace(TILE, warps=8)}).write(path)

    def tried(cases: list[Case]) -> list[Tried]:
        return [Tried(case, 2.0 if case.tile == "(plain)" else 1.0) for case in cases]

    monkeypatch.setattr(tiles, "tried", tried)
    monkeypatch.setattr(sys, "argv", ["tiles", "--game", "small", "--batch", "2", "--keep", str(path)])
    tiles.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    kept = TileTable.read(path).tiles
    assert kept["7 of another"] == TILE and kept[TileTable.key(stem, 2)].warps != 8
    assert result["tiles"] == {key: str(tile) for key, tile in kept.items() if key.startswith("2 ")}


def test_shipped_tables_can_be_read():
    for path in Path(tile_table.SHIPPED).glob("*.json"):
        assert TileTable.read(path).tiles


HOPPER = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from engine.bench import tiles
from engine.bench.presets import preset
from engine.fast import many_step
from engine.fast.tiled_convolution import box_of, convolve_tiles

def compile(kernel, kinds, values, tile):
    names = kernel.arg_names
    source = ASTSource(
        kernel,
        {name: kinds.get(name, "constexpr") for name in names},
        {(names.index(name),): value for name, value in values.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in kinds if name.endswith("_pointer")},
    )
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert made.metadata.shared <= 227 * 1024
    assert "wgmma" in made.asm["ptx"] and "cp.async.bulk.tensor" in made.asm["ptx"]

def boxes(*shape):
    return f"tensordesc<bf16[{', '.join(map(str, shape))}]>"

for layer in list(tiles.layers(preset("wide-decoder").autoencoder))[-3:]:
    tile = tiles.tiles(layer, 64)[-1]
    box = box_of(tile.pixels, 64, layer.rows, layer.columns, tile.narrow)
    first, more = tile.channels, tile.more or tile.channels
    kinds = dict(image=boxes(*box, tile.depth), residual=boxes(*box, first), residual_more=boxes(*box, more))
    kinds |= dict(out=boxes(*box, first), out_more=boxes(*box, more))
    kinds |= dict(weight=boxes(first, tile.depth), weight_more=boxes(more, tile.depth), bias_pointer="*fp32")
    kinds |= dict.fromkeys(("batch", "rows", "columns", "wide", "high", "tiles"), "i32")
    values = dict(CIN=layer.cin, COUT=layer.cout, RADIUS=layer.side // 2, SHUFFLE=layer.shuffle)
    values |= dict(RESIDUAL=layer.residual, SILU=layer.silu, BYTES=layer.bytes, PRECISION="ieee")
    values |= dict(zip(("TB", "TH", "TW"), box), BN=first, MORE=tile.more, BK=tile.depth)
    values["STAY"] = tile.per_processor > 0
    compile(convolve_tiles, kinds | {"out_pointer": "*u8" if layer.bytes else "*bf16"}, values, tile)
for k, n, how in ((320, 960, {}), (1280, 320, {"RESIDUAL": True, "GATE": 5})):
    tile = many_step.chosen_tile(n, k, 160, "GATE" in how)
    kinds = dict(x=boxes(tile.rows, tile.depth), weight=boxes(tile.columns, tile.depth))
    kinds |= dict.fromkeys(("rows", "tokens"), "i32")
    kinds |= dict(out=boxes(tile.rows, tile.columns), bias_pointer="*bf16", modulation_pointer="*fp32")
    if how:
        kinds["out"] = kinds["out"].replace("bf16", "fp32")
    values = dict(K=k, N=n, WIDTH=320, BIAS=False, GELU=False, RESIDUAL=False, GATE=-1) | how
    values |= dict(PRECISION="ieee", BM=tile.rows, BN=tile.columns, BK=tile.depth)
    compile(many_step.multiply, kinds | {"out_pointer": "*fp32" if how else "*bf16"}, values, tile)
"""


def test_kernels_of_boxes_compile_for_hopper_without_one(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", HOPPER], env=environment, check=True, timeout=100)


@pytest.mark.gpu
def test_a_captured_decoder_by_tiles_gives_the_other_kernels_pictures():
    config = replace(tiny_config().autoencoder, decoder_widths=(64, 64, 64), decoder_blocks=(1, 1, 1))
    torch.manual_seed(0)
    model = Decoder(config)
    shaken(model).cuda()
    named = {TileTable.key(layer, 32): Tile(128, 64, 0, 16, 4, 3) for layer in tiles.layers(config)}
    latents, pictures = torch.randn(32, 16, 10, 15, device="cuda"), []
    for table in (TileTable(named), NO_TILES):
        paint = FusedPaint(model, torch.bfloat16, table=table)
        decoder = GraphDecoder(model, (16, 10, 15), 32, paint=paint)
        decoder.latents.copy_(latents)
        decoder.replay()
        pictures.append(decoder.pictures.float())
    assert (pictures[0] - pictures[1]).abs().mean() < 0.5
