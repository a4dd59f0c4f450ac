"""Weights on disk: int8 and its error, gzip around it, what is refused in which words, what is shipped."""

import gzip
import hashlib
import json
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from engine.doctor import check_weights
from engine.fast.int8_ranges import FILE, Calibration, calibration
from engine.models.stored import compress, expand, file_name
from engine.models.weights import (
    OPTIONAL,
    PARTS,
    SHIPPED,
    WeightsError,
    has_part,
    levels_of,
    load_config,
    load_part,
    store,
    stored,
    to_int8,
)
from engine.models.world_model import WorldModel
from engine.training.reader import load_reader
from games import GAMES
from tests.tiny import shaken, store_tiny, tiny_config

MIB = 2**20


def world_model() -> WorldModel:
    torch.manual_seed(0)
    return shaken(WorldModel(tiny_config().world))


def test_a_stored_file_is_what_gunzip_makes_safetensors_of() -> None:
    model = world_model()
    plain = save(to_int8(model.state_dict()))
    made = gzip.decompress(stored(model))
    assert made == plain == expand(stored(model), len(plain))
    tensors = load(made)
    assert all(torch.equal(tensors[name], value) for name, value in to_int8(model.state_dict()).items())


def test_the_same_weights_make_the_same_bytes_without_name_or_time() -> None:
    made = stored(world_model())
    flags, time = made[3], made[4:8]
    assert made == stored(world_model()) and made[:2] == b"\x1f\x8b"
    assert flags == 0 and time == bytes(4)


def test_weights_shrink_by_what_int8_leaves_unused() -> None:
    torch.manual_seed(0)
    plain = save(to_int8({"weight": torch.randn(256, 1024)}))
    assert len(compress(plain)) < 0.95 * len(plain)


def test_fewer_levels_make_a_smaller_file() -> None:
    torch.manual_seed(0)
    weight = {"weight": torch.randn(256, 1024)}
    few, many = (
        len(compress(save(to_int8(weight, levels)))) for levels in (levels_of("world"), levels_of("decoder"))
    )
    assert few < 0.9 * many


def test_a_part_is_stored_with_the_levels_asked_for(tmp_path: Path) -> None:
    config, model = tiny_config(), world_model()
    store(tmp_path, config, {"world": model}, {"world": 20})
    tensors = load(gzip.decompress((tmp_path / file_name("world")).read_bytes()))
    assert max(int(t.abs().max()) for t in tensors.values() if t.dtype == torch.int8) == 20


def replace_part(directory: Path, part: str, data: bytes) -> None:
    """Its file becomes `data`, and config.json says that this is right."""
    (directory / file_name(part)).write_bytes(data)
    config = json.loads((directory / "config.json").read_text())
    config["files"][file_name(part)] = hashlib.sha256(data).hexdigest()
    (directory / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "end missing"),
        (b"neither gzip nor weights", "not a gzip file"),
        (stored(WorldModel(tiny_config().world))[:-4], "end missing"),
        (stored(WorldModel(tiny_config().world)) + b"more", "behind it"),
        (save({"plain": torch.zeros(3)}), "not a gzip file"),
        (compress(b"no safetensors"), "header"),
        (gzip.compress(bytes(8 * MIB)), "expands to more"),
    ],
    ids=["empty", "garbage", "truncated", "trailing", "plain", "no-safetensors", "bomb"],
)
def test_what_passes_its_checksum_but_is_no_weights_is_refused(tmp_path, data, why):
    store_tiny(tmp_path)
    replace_part(tmp_path, "world", data)
    with pytest.raises(WeightsError, match=rf"world\.safetensors\.gz.*(?i:{why}).*reinstall"):
        load_part(tmp_path, "world")


def test_a_bomb_is_not_expanded() -> None:
    bomb = gzip.compress(bytes(64 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="expands"):
            expand(bomb, MIB)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_directories_of_before_are_refused_with_what_to_do(tmp_path):
    store_tiny(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace(".safetensors.gz", ".safetensors"))
    with pytest.raises(WeightsError, match=r"must be \.safetensors\.gz.*pack"):
        has_part(tmp_path, "extrapolator")


def test_int8_weights_load_close_to_what_was_stored(tmp_path):
    config = store_tiny(tmp_path)
    torch.manual_seed(0)
    loaded = load_part(tmp_path, "decoder")
    again = load_part(tmp_path, "decoder")
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), again.state_dict().values()))
    model = shaken(WorldModel(config.world))
    store(tmp_path, config, {"world": model})
    for (name, a), b in zip(model.state_dict().items(), load_part(tmp_path, "world").state_dict().values()):
        assert (a - b).abs().max() <= 0.51 * a.abs().max() / levels_of("world") + 1e-7, name


def corrupt(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.write_bytes({"truncated": data[:-100], "altered": data[:-1] + bytes([data[-1] ^ 1])}[how])


@pytest.mark.parametrize("how", ["truncated", "altered", "missing"])
def test_damaged_weights_are_refused_with_advice(tmp_path, how):
    store_tiny(tmp_path)
    path = tmp_path / file_name("world")
    path.unlink() if how == "missing" else corrupt(path, how)
    with pytest.raises(WeightsError, match=r"world\.safetensors\.gz.*reinstall"):
        load_part(tmp_path, "world")


def test_shapes_that_do_not_fit_the_config_are_refused(tmp_path):
    store_tiny(tmp_path)
    path = tmp_path / "config.json"
    data = json.loads(path.read_text())
    data["world"]["width"] = 64
    path.write_text(json.dumps(data))
    with pytest.raises(WeightsError, match="does not fit the shapes"):
        load_part(tmp_path, "world")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', "{", '{"files": {"a": 1}}'])
def test_a_config_that_is_no_config_is_refused_with_advice(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match="reinstall"):
        load_config(tmp_path)


@pytest.mark.parametrize("game", GAMES)
def test_shipped_weights_are_whole_and_their_int8_ranges_belong_to_them(game):
    assert check_weights(game, SHIPPED / game).state == "ok"
    for part in PARTS:
        if part not in OPTIONAL or has_part(SHIPPED / game, part):
            load_part(SHIPPED / game, part)
    for part in json.loads((SHIPPED / game / FILE).read_text()):
        assert isinstance(calibration(SHIPPED / game, part), Calibration), part
    assert load_reader(game)


def test_all_shipped_weights_take_44_mib_at_most():
    sizes = {path: path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()}
    assert not [path for path in sizes if path.suffix == ".safetensors"], "stored twice"
    assert sum(sizes.values()) <= 44 * MIB
