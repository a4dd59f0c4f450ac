"""The decoder in int8: close to the float one, used only where the calibration belongs to the weights."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine import machine
from engine.backend import Opening
from engine.fast import int8_ranges
from engine.fast.int8_ranges import Calibration, calibration, forget, int8_or_why_not, sha256, store
from engine.models.autoencoder import to_bytes
from engine.models.weights import WeightsError, load_part
from engine.without import VARIABLE
from games import GAMES
from tests.tiny import store_tiny

pytest.importorskip("openvino")

from engine.fast import openvino_int8
from engine.fast.openvino_backend import OpenVinoBackend, OpenVinoDecoder
from engine.fast.openvino_decoder import decoder_graph
from engine.training import quantise
from engine.training.quantise import DecoderTrial, candidates, search, spared, work
from engine.training.quantise_world import WorldTrial, WorldVerdict, without_worst_kind
from engine.training.quantise_world import search as world_search

TELEMETRY = len(GAMES["racing"].telemetry)

VNNI = ("avx512_vnni",)


def latents(count: int) -> np.ndarray:
    made = np.random.default_rng(0).standard_normal((count, 16, 10, 15)).astype(np.float32)
    return made / np.sqrt((made**2).mean(1, keepdims=True))


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("DREAMCADE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "isa_flags", lambda: VNNI)
    store_tiny(tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def decoder(weights):
    return load_part(weights, "decoder")


@pytest.fixture
def calibrated(weights, decoder):
    """The weights with the widest ranges beside them."""
    ranges = {name: ends[0] for name, ends in candidates(decoder, latents(3)).items()}
    store(weights, "decoder", Calibration(sha256(weights / "decoder.safetensors.gz"), ranges))
    return weights


def test_the_float_graph_makes_the_readable_decoders_pictures(decoder):
    z = latents(1)
    graph = decoder_graph(decoder, 10, 15)
    core_decoder = OpenVinoDecoder(_core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}))
    wanted = to_bytes(decoder(torch.from_numpy(z)))[0].numpy()
    assert np.abs(core_decoder.decode(z[0]).astype(int) - wanted).max() <= 1


def test_int8_pictures_are_close_and_really_int8(calibrated, decoder):
    backend = OpenVinoBackend("racing", calibrated, 1)
    assert backend.name.endswith("-int8") and backend.decoder_name == "cpu-int8"
    kinds = {
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in backend._compiled("decoder").get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    }
    assert kinds <= {"u8", "i8"}
    z = latents(2)[1]
    wanted = to_bytes(decoder(torch.from_numpy(z[None])))[0].numpy()
    made = backend.decoder().decode(z)
    assert made.flags.c_contiguous and made.flags.writeable
    assert 0 < np.abs(made.astype(float) - wanted).mean() < 3


def test_the_search_never_ends_worse_than_where_it_began(weights, decoder):
    backend = OpenVinoBackend("racing", weights, 1)
    trial = DecoderTrial(decoder, backend, latents(2))
    found = candidates(decoder, latents(2))
    ranges, error = search(trial, found)
    assert set(ranges) == set(found) and error <= trial.error({name: ends[0] for name, ends in found.items()})


def test_every_convolution_has_its_share_of_the_work(decoder):
    shares = work(decoder, 10, 15)
    assert set(shares) == set(candidates(decoder, latents(1))) and sum(shares.values()) == pytest.approx(1)
    # 3x3 at 1/48 and, with so many channels out as there are pixels and colours to a place, the last one.
    ratio = decoder.tail.weight.numel() * decoder_places(decoder) / decoder.body[0].weight.numel() / 150
    assert shares["tail"] / shares["body.0"] == pytest.approx(ratio)


def decoder_places(decoder) -> int:
    return (480 // decoder.last_shuffle) * (720 // decoder.last_shuffle)


def test_what_is_spared_is_worth_its_products(decoder):
    class Told:
        """Errors as if each convolution cost one level, the last one two."""

        rows, columns = 10, 15

        def __init__(self) -> None:
            self.decoder = decoder

        def error(self, ranges) -> float:
            return sum(2.0 if name == "tail" else 1.0 for name in ranges)

    shares = work(decoder, 10, 15)
    worth = {name: (2.0 if name == "tail" else 1.0) / share for name, share in shares.items()}
    left = spared(Told(), dict.fromkeys(shares, (0.0, 1.0)))
    assert set(shares) - set(left) == {max(worth, key=worth.__getitem__)} != {"tail"}


def test_a_cpu_without_vnni_imitates_its_rounding(weights, decoder, monkeypatch):
    assert openvino_int8.exact() == {}
    monkeypatch.setattr(machine, "isa_flags", lambda: ("avx2",))
    trial = DecoderTrial(decoder, OpenVinoBackend("racing", weights, 1), latents(2))
    ranges = {name: ends[0] for name, ends in candidates(decoder, latents(2)).items()}
    request = trial.compiled(ranges).request
    kinds = {
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in request.get_compiled_model().get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    }
    assert not kinds & {"u8", "i8"} and 0 < trial.error(ranges) < 9


def test_a_calibration_of_other_weights_is_not_used(calibrated):
    (calibrated / "decoder.safetensors.gz").write_bytes(b"others")
    assert calibration(calibrated, "decoder") == "calibrated for other weights"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"decoder": 3}', '{"decoder": {"ranges": {"a": [2, 1]}}}'])
def test_a_bad_calibration_is_said_not_raised(weights, text):
    (weights / int8_ranges.FILE).write_text(text)
    assert isinstance(calibration(weights, "decoder"), str)
    assert not OpenVinoBackend("racing", weights, 1).name.endswith("-int8")


def test_a_calibration_that_does_not_fit_is_named(calibrated):
    told = json.loads((calibrated / int8_ranges.FILE).read_text())
    told["decoder"]["ranges"]["body.99"] = [0, 1]
    (calibrated / int8_ranges.FILE).write_text(json.dumps(told))
    with pytest.raises(WeightsError, match=r"body\.99; remove that file"):
        OpenVinoBackend("racing", calibrated, 1).decoder()


def test_int8_needs_instructions_and_can_be_switched_off(calibrated, monkeypatch):
    assert isinstance(int8_or_why_not(calibrated, "decoder", VNNI), Calibration)
    assert int8_or_why_not(calibrated, "decoder", ("sse4_2",)) == "this CPU has no VNNI"
    monkeypatch.setenv(VARIABLE, "int8, extrapolation")
    assert VARIABLE in int8_or_why_not(calibrated, "decoder", VNNI)


def test_avx2_alone_has_a_calibration_of_its_own_and_for_decoders_only(calibrated):
    told = calibration(calibrated, "decoder")
    why = "this CPU has no VNNI, and for AVX2 it is not calibrated"
    assert int8_or_why_not(calibrated, "decoder", ("avx2",)) == why
    other = replace(told, ranges={"tail": (-1.0, 2.0)})
    store(calibrated, "decoder" + int8_ranges.OVERFLOWING, other)
    assert int8_or_why_not(calibrated, "decoder", ("avx2",)) == other
    assert int8_or_why_not(calibrated, "decoder", VNNI) == told
    assert int8_or_why_not(calibrated, "world", ("avx2",)) == "this CPU has no VNNI"
    (calibrated / "decoder.safetensors.gz").write_bytes(b"others")
    assert "for other weights" in int8_or_why_not(calibrated, "decoder", ("avx2",))


def test_a_cpu_with_vnni_cannot_measure_how_others_overflow(weights, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["quantise", "racing", "--overflowing"])
    with pytest.raises(SystemExit) as failure:
        quantise.main()
    assert failure.value.code == 2 and "OV_CPU_MAX_ISA=AVX2" in capsys.readouterr().err


def test_a_cpu_that_is_held_to_avx2_counts_as_one(monkeypatch):
    monkeypatch.setattr(machine, "_cpuinfo", lambda field: "avx2 avx512f avx512_vnni")
    for name in machine.HELD_TO_AVX2:
        assert "avx512_vnni" in machine.isa_flags()
        monkeypatch.setenv(name, "avx2")
    assert machine.isa_flags() == ("avx2",)


def opening(steps: int = 6) -> Opening:
    random = np.random.default_rng(0)
    held, told = (
        random.random((steps, 4)).astype(np.float32),
        random.random((steps, TELEMETRY)).astype(np.float32),
    )
    return Opening(latents(steps), held, np.full(steps, 4), told)


@pytest.mark.slow
def test_a_world_in_int8_dreams_almost_the_same(weights, monkeypatch):
    monkeypatch.setattr(openvino_int8, "_LEAST_WEIGHTS", 500)
    trial = WorldTrial("racing", weights, OpenVinoBackend("racing", weights, 1), [opening()])
    found = trial.candidates([np.zeros((3, 4), np.float32)])
    assert {"embed", "blocks.0.space.qkv", "blocks.2.mlp_out", "blocks.0.time.qkv"} <= set(found)
    assert not any("to_latent" in name for name in found)
    ranges, error = world_search(trial, found)
    assert 0 < error < 0.02 and error <= trial.error({name: ends[0] for name, ends in found.items()})
    store(weights, "world", Calibration(sha256(weights / "world.safetensors.gz"), dict(ranges)))
    backend = OpenVinoBackend("racing", weights, 1)
    assert backend.name.endswith("-int8") and backend.decoder_name == "cpu"
    made = backend.world().open(opening(), noise_seed=0)
    assert np.square(made - trial.wanted[0]).mean() < 0.03
    forget(weights, "world")
    assert calibration(weights, "world") == "not calibrated"


def test_the_products_that_make_most_of_a_worlds_error_stay_in_float():
    class Told:
        """Errors as if each kind of product added its own."""

        def __init__(self, **errors: float) -> None:
            self.errors = errors

        def error(self, ranges) -> float:
            return sum(self.errors[name.rpartition(".")[2]] for name in ranges) + 0.01

    names = [f"blocks.{i}.{kind}" for i in range(2) for kind in ("mlp_in", "mlp_out", "space.qkv")]
    told = Told(mlp_in=1.0, mlp_out=5.0, qkv=1.0)
    ranges, left_out = without_worst_kind(told, dict.fromkeys(names, (0.0, 1.0)), told.error(names))
    assert left_out == ["mlp_out"] and set(ranges) == {name for name in names if "mlp_out" not in name}
    even = Told(mlp_in=1.0, mlp_out=1.0, qkv=1.0)
    assert without_worst_kind(even, ranges, even.error(ranges))[1] == []


def test_a_world_that_goes_astray_in_int8_is_refused():
    good = WorldVerdict(next_db=(26.7, 26.6), astray=(2.0, 2.1), spread=(0.9, 0.88), step_ms=(20.0, 12.0))
    assert good.good
    assert not replace(good, next_db=(26.7, 26.3)).good
    assert not replace(good, astray=(2.0, 3.0)).good
    assert not replace(good, astray=(2.0, float("nan"))).good
    assert not replace(good, spread=(0.9, 0.5)).good
    assert not replace(good, spread=(0.9, float("nan"))).good


def _core():
    import openvino

    return openvino.Core()
