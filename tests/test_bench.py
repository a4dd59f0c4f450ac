"""The benchmarks run on the CPU and end with one JSON line."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from engine.bench import (
    curve,
    decoder,
    engine,
    everything,
    hbm,
    players,
    profile,
    ranks,
    roundtrip,
    scaling,
    sequence,
    split,
    world,
)
from engine.bench.points import Points
from engine.bench.presets import NAMES, UNTRAINED, preset
from engine.bench.ranks import run_ranks
from engine.bench.roofline import Ceilings
from engine.bench.slow import build_slow
from engine.bench.timing import Timing
from engine.fast.bands import Rows, band_macs
from engine.fast.cuda_graph import plain_body
from engine.fast.device_link import DeviceReceiver, DeviceSender
from engine.layout import make_plan
from engine.models.autoencoder import Decoder
from engine.models.world_model import WorldModel
from engine.profiles import read_profile

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("bench", [decoder, world, engine], ids=lambda module: module.__name__)
def test_bench_ends_with_one_json_line(bench, monkeypatch, capsys):
    monkeypatch.setattr(engine, "TICKS", 2)
    monkeypatch.setattr(sys, "argv", ["bench", "--game", "small", "--runs", "1"])
    bench.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["bench"] == bench.__name__.rpartition(".")[2]
    assert "untrained" in result["game"] and all(w["median_ms"] > 0 for w in result["ways"].values())


def test_many_worlds_make_a_curve_with_each_decoder(monkeypatch, capsys):
    monkeypatch.setattr(curve, "TICKS", 2)
    sizes = ["--worlds", "3,1", "--decoders", "small,small-deep"]
    deep = preset("small").autoencoder
    deeper = replace(preset("small"), autoencoder=replace(deep, decoder_blocks=(1, 1, 2)))
    monkeypatch.setitem(UNTRAINED, "small-deep", deeper)
    monkeypatch.setattr(sys, "argv", ["engine", "--game", "small", "--runs", "1", *sizes])
    engine.main()
    said = capsys.readouterr().out.splitlines()
    result = json.loads(said[-1])
    assert [one["worlds"] for one in result["curve"]] == [1, 3] and not result["skipped"]
    assert len(result["decoders"]) == 2 and len(said) == 7
    for one in result["curve"]:
        assert one["step"] == "plain" and one["steps_ms"] == {"plain": one["step_ms"]} and not one["failed"]
        for own in one["decoders"].values():
            assert own["true_frames_per_s"] == pytest.approx(one["worlds"] / own["tick_ms"] * 1e3, rel=0.01)
            assert own["real_time"] is (own["real_time_worlds"] >= one["worlds"])
            assert own["floor"] in ("step", "decode", "copy") and own["latency_ms"] > 0
    monkeypatch.setattr(sys, "argv", ["engine", "--game", "small", *sizes, "--seconds", "-1", "--json"])
    engine.main()
    assert len(json.loads(capsys.readouterr().out)["skipped"]) == 2


def test_a_series_ends_where_memory_does():
    def work(size: int) -> dict[str, int]:
        if size >= 8:
            raise torch.OutOfMemoryError
        return {"double": 2 * size}

    series = Points(time.monotonic() + 60)
    made = series.of("size", (1, 8, 4, 16), work)
    assert made == [{"size": 1, "double": 2}, {"size": 4, "double": 8}]
    assert series.skipped == ["size 8: out of memory", "size 16: out of memory"]


def test_a_step_that_cannot_be_had_is_named_and_another_taken(monkeypatch):
    def broken(world):
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setattr(curve, "steps", lambda device: {"broken": broken, "plain": plain_body})
    failed: dict[str, str] = {}
    wanted = curve.Curve("small", ("small",), (2,), "cpu", 1)
    name, world, took = curve.quickest(preset("small"), wanted, 2, failed)
    assert name == "plain" and list(took) == ["plain"] and world.slots == 2
    assert failed == {"broken": "RuntimeError: no such kernel"}


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


def test_apart_gives_every_frame_and_a_prediction(monkeypatch, tmp_path, capsys):
    profile = tmp_path / "profile.json"
    values = {"ms": 1.0, "memory_gib": 0.1}
    link = {"latency_us": 1.0, "bandwidth_gb_s": 10.0}
    config = preset("small").world
    model = {"preset": "small", "tokens": config.tokens, "heads": 4, "layers": 3, "width": 64, "rows": 10}
    profile.write_text(
        json.dumps(
            {
                "version": 1, "name": "made up", "hardware": "none", "device": "cpu", "measured": False,
                "made": "here", "accelerators": 2, "memory_gib": 4.0,
                "model": model | {"latent_bytes": 9600, "frame_bytes": 1036800},
                "steps": [{"ranks": 1, "worlds": 2} | values],
                "decodes": [{"batch": 2, "bands": 1} | values],
                "link": link, "to_host": link,
            }
        )
    )  # fmt: skip
    arguments = ["--game", "small", "--worlds", "2", "--runs", "2", "--profile", str(profile), "--json"]
    monkeypatch.setattr(sys, "argv", ["split", *arguments])
    split.main()
    result = json.loads(capsys.readouterr().out)
    for way in ("one", "two"):
        assert result[way]["frames_per_s"] > 0 and result[way]["predicted_frames_per_s"] > 0
    assert result["two"]["predicted_frames_per_s"] > result["one"]["predicted_frames_per_s"]


def device_link_on_rank(rank: int) -> list[list[float]] | None:
    """Rank 1 sends faster than rank 0 receives."""
    value = torch.zeros(3)
    if rank:
        link = DeviceSender(value, 0)
        for i in range(9):
            link.send(value + i)
        return link.close()
    receiver, got = DeviceReceiver(value, 1), []
    for _ in range(9):
        receiver.receive(value)
        got.append(value.tolist())
    receiver.close()
    return got


def test_a_device_link_loses_nothing_and_keeps_order():
    assert run_ranks(2, device_link_on_rank) == [[float(i)] * 3 for i in range(9)]


def test_scaling_explains_each_point_and_names_what_it_left_out(monkeypatch, tmp_path, capsys):
    path = tmp_path / "result.json"
    sizes = ["--worlds", "1,2", "--context", "4", "--ranks", "1,2"]
    monkeypatch.setattr(sys, "argv", ["scaling", "--game", "small", "--runs", "1", *sizes, "--json"])
    scaling.main()
    path.write_text(capsys.readouterr().out)
    result = json.loads(path.read_text())
    assert [one["worlds"] for one in result["worlds"]] == [1, 2] and not result["skipped"]
    assert [one["ranks"] for one in result["ranks"]] == [1, 2] and result["context"][0]["context"] == 4
    assert {one["step"]["bound"] for one in result["worlds"]} <= {"compute", "memory", "launch"}
    monkeypatch.setattr(sys, "argv", ["scaling", "--game", "small", *sizes, "--seconds", "0", "--json"])
    scaling.main()
    assert len(json.loads(capsys.readouterr().out)["skipped"]) == 5
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.png"
    monkeypatch.setattr(sys, "argv", ["scaling", "--from", str(path), "--plot", str(plot)])
    scaling.main()
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_step_is_timed_by_width_and_by_worlds_on_each_number_of_ranks(monkeypatch, capsys):
    sizes = ["--widths", "32,64", "--wide-worlds", "1,3", "--worlds", "1,2", "--ranks", "1,2", "--runs", "1"]
    monkeypatch.setattr(sys, "argv", ["sequence", "--game", "small", *sizes])
    sequence.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    points = [(one["width"], one["worlds"]) for one in result["points"]]
    assert points == [(32, 1), (64, 1), (32, 3), (64, 3), (64, 2)]
    for one in result["points"]:
        assert set(one["step_ms"]) == {"1", "2"}
        assert one["gain"] == pytest.approx(one["step_ms"]["1"] / one["step_ms"]["2"], abs=0.01)


def test_a_balanced_decoder_takes_as_long_as_a_step(monkeypatch):
    def took(works, device, runs):
        ms = {"step": 9.0, "few": 2.0, "many": 4.0}
        return {name: Timing(ms[name], ms[name], runs) for name in works}

    monkeypatch.setattr(split, "timed", took)
    config = preset("small")
    assert split.balancing_blocks(0, config, "cpu", 1) == 1 + 14
    assert split.with_blocks(config, 15).autoencoder.decoder_blocks == (1, 1, 15)


def fail_on_rank(rank: int) -> None:
    if rank:
        raise ValueError("no luck")


def sleep_on_rank(rank: int) -> None:
    time.sleep(60 * rank)


def test_ranks_that_fail_or_hang_are_named():
    with pytest.raises(RuntimeError, match=r"rank .*1.* of 2 failed: its error is above"):
        run_ranks(2, fail_on_rank)
    with pytest.raises(RuntimeError, match=r"rank .*1 of 2 was not ready within 4 s"):
        run_ranks(2, sleep_on_rank, timeout_s=4)


def never_end_on_rank(rank: int) -> int:
    """As where a communicator hangs as it closes."""
    dist.barrier = lambda: time.sleep(60)  # type: ignore[assignment, misc]
    return 7


def test_ranks_that_are_done_and_do_not_end_are_not_waited_for(monkeypatch):
    monkeypatch.setattr(ranks, "_LEAVE_S", 0.1)
    assert run_ranks(2, never_end_on_rank) == 7


def test_ceilings_name_what_binds():
    ceilings = Ceilings(copy_gb_s=1000.0, matmul_tflop_s=100.0, launch_us=3.0)
    assert ceilings.judge(1.0, flop=80e9, moved=1e6)["bound"] == "compute"
    assert ceilings.judge(1.0, flop=1e9, moved=900e6) == {
        "bound": "memory", "of_matmul": 0.01, "of_copy": 0.9, "flop_per_byte": 1.11
    }  # fmt: skip
    assert ceilings.judge(1.0, flop=1e9, moved=1e6)["bound"] == "launch"


def test_what_takes_too_long_to_build_or_fails_is_named_and_the_rest_stays():
    def forever():
        while True:
            pass

    def wrong():
        raise RuntimeError("no compiler\nand more")

    works = {"plain": lambda: None}
    built = {"slow": forever, "wrong": wrong, "fine": lambda: lambda: None}
    left_out = build_slow(works, built, 0.5)
    assert list(works) == ["plain", "fine"]
    assert left_out == {"slow": "not built within 0 s", "wrong": "failed: RuntimeError: no compiler"}


def test_counted_bytes_are_read_from_behind_the_profilers_own_words():
    text = (
        '==PROF== Connected\n"ID","Metric Name","Metric Unit","Metric Value"\n'
        '"0","dram__bytes_read.sum","byte","1,024"\n"0","dram__bytes_write.sum","Kbyte","2"\n'
        '"0","other","byte","7"\n'
    )
    assert hbm.total_of(text) == 3024 and hbm.total_of("==ERROR== no") == 0


def test_roundtrip_measures_real_processes(monkeypatch, capsys):
    options = ["--seconds", "1", "--fake", "--decoder-ranks", "2", "--stride", "4", "--json"]
    monkeypatch.setattr(sys, "argv", ["roundtrip", *options])
    assert roundtrip.main() == 0
    result = json.loads(capsys.readouterr().out)
    assert result["stride"] == 4 and result["shown_fps"] > 5 and result["input_to_true_ms"]["p50"] > 0


def test_players_are_measured_side_by_side(monkeypatch, capsys):
    options = ["--players", "2", "--seconds", "1", "--fake", "--stride", "4"]
    monkeypatch.setattr(sys, "argv", ["players", *options])
    assert players.main() == 0
    said = capsys.readouterr().out.splitlines()
    result = json.loads(said[-1])
    assert said[0].startswith("seed") and [one["seed"] for one in result["players"]] == [1, 2]
    for one in result["players"]:
        assert one["stride"] == 4 and one["shown_fps"] > 5 and 0.5 < one["real_time_factor"] < 1.5
        assert one["input_to_present_ms"]["p50"] > 0
    assert result["true_frames_per_s"] == pytest.approx(
        sum(one["true_frames_per_s"] for one in result["players"]), abs=0.02
    )


def test_everything_runs_small(monkeypatch, tmp_path):
    options = ["--device", "cpu", "--small", "--only", "profile,two", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["everything", *options])
    assert everything.main() == 0
    said = (tmp_path / "everything.log").read_text()
    results = [one["result"] for one in json.loads((tmp_path / "two.json").read_text())]
    assert [one["bench"] for one in results] == ["split", "sequence", "split", "split"]
    assert results[0]["balanced"] and results[0]["gain"] > 0 and "0 failed, 0 left out" in said
    assert "predicted_frames_per_s" in results[2]["two"]
    assert read_profile(tmp_path / "profiles" / "small.json").measured


def test_a_benchmark_that_fails_or_hangs_takes_no_other_along(monkeypatch, tmp_path, capsys):
    some = [
        everything.Job("one", "nothing", "", 20),
        everything.Job("two", "decoder", "--game small --runs 1000000", 6),
        everything.Job("many", "decoder", "--game small --runs 1", 60),
        everything.Job("decoder", "hbm", "--game small --batch 2 --ways eager,fused"),
    ]
    monkeypatch.setattr(everything, "jobs", lambda *_: iter(some))
    monkeypatch.setattr(sys, "argv", ["everything", "--device", "cpu", "--out", str(tmp_path)])
    assert everything.main() == 1
    said = (tmp_path / "everything.log").read_text()
    assert "No module named engine.bench.nothing" in said and "its time was up" in said
    assert "Current thread" in said, "where it stood"
    assert "hbm" in said and "left out: needs a GPU" in said
    assert "2 failed, 1 left out" in said and "failed: decoder --game small --runs 1000000" in said
    assert ".. many: decoder" in capsys.readouterr().out
    assert json.loads((tmp_path / "many.json").read_text())[0]["result"]["bench"] == "decoder"
    assert not (tmp_path / "one.json").exists() and not (tmp_path / "two.json").exists()


def test_benchmarks_of_a_bare_gpu_machine_need_no_sockets():
    """Such a machine has torch and triton, little else."""
    modules = "world, decoder, engine, curve, profile, split, sequence, scaling, hbm, slow, everything"
    code = (
        "import sys; sys.modules |= dict.fromkeys(('zmq', 'msgspec', 'pygame', 'openvino', 'av'))\n"
        f"from engine.bench import {modules}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
