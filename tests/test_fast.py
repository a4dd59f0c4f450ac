"""engine/fast against engine/models: the OpenVINO graphs and the dream's ring give the same numbers."""

from dataclasses import replace

import numpy as np
import pytest

from engine.backend import Opening, load_backend
from engine.fast.torch_backend import TorchBackend
from engine.models.weights import WeightsError
from games import GAMES
from tests.tiny import store_tiny

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def backends(tmp_path_factory):
    weights = tmp_path_factory.mktemp("weights")
    patch = pytest.MonkeyPatch()
    patch.setenv("DREAMCADE_CACHE", str(tmp_path_factory.mktemp("cache")))
    store_tiny(weights)
    with patch.context():
        yield load_backend("racing", weights=str(weights)), TorchBackend("racing", weights, "cpu", 1)
    patch.undo()


TELEMETRY = len(GAMES["racing"].telemetry)
FLAGS = np.array([field.kind == "flag" for field in GAMES["racing"].telemetry])
TOTALS = np.array([field.kind in ("count", "event") for field in GAMES["racing"].telemetry])
RANGES = np.array([field.high - field.low for field in GAMES["racing"].telemetry])


def opening(steps: int = 8) -> Opening:
    random = np.random.default_rng(0)
    latents = random.standard_normal((steps, 16, 10, 15)).astype(np.float32)
    latents /= np.sqrt((latents**2).mean(1, keepdims=True))
    buttons = random.random((steps, 4)).astype(np.float32)
    told = random.random((steps, TELEMETRY)).astype(np.float32)
    told = np.where(FLAGS, told.round(), told)  # one in the middle would tip over by a rounding error
    return Opening(latents, buttons, np.full(steps, 4), told)


def test_openvino_is_chosen_on_a_cpu_that_has_it(backends):
    assert backends[0].name.startswith("openvino-")


def test_world_steps_agree_past_the_rings_rollover(backends, monkeypatch):
    # A number at the edge of its bounds would be put right by one and not by the other.
    monkeypatch.setenv("DREAMCADE_WITHOUT", "bounds")
    quick, plain = (backend.world() for backend in backends)
    expected = quick.open(opening(), noise_seed=3), plain.open(opening(), noise_seed=3)
    np.testing.assert_allclose(*expected, atol=0.05)
    for _ in range(8):  # more, and an event would come close to where rounding tips it over
        a, b = (world.step(np.array([1, 0, 0.5, 0], np.float32), 4) for world in (quick, plain))
        assert np.sqrt(np.mean((a.latent - b.latent) ** 2)) < 0.03
        apart = np.abs(a.telemetry - b.telemetry) / RANGES
        assert (apart[~TOTALS] < 0.05).all() and np.abs(a.telemetry - b.telemetry)[TOTALS].max() < 0.05


def test_same_seed_gives_the_same_dream_and_another_seed_another(backends):
    def dream(seed):
        world = backends[1].world()
        world.open(opening(), noise_seed=seed)
        return np.stack([world.step(np.zeros(4, np.float32), 4).latent for _ in range(4)])

    assert np.array_equal(dream(1), dream(1))
    assert not np.array_equal(dream(1), dream(2))


def test_some_steps_are_lively_by_lot_and_none_unless_the_config_says_so(backends):
    def drawn(**changed):
        world = backends[1].world()
        world.config = replace(world.config, **changed)
        world.open(opening(), noise_seed=1)
        vectors = []
        for _ in range(60):
            vectors.append(world.drawn())
            world.step(np.zeros(4, np.float32), 4)
        return np.stack(vectors)

    length = np.sqrt((drawn(temperature=0.001, lively=0.3) ** 2).mean(1))
    lively = length > 0.05
    assert 0.15 < lively.mean() < 0.45 and 0.8 < length[lively].mean() < 1.2
    assert length[~lively].max() < 0.005
    np.testing.assert_allclose(drawn(temperature=0.5), 0.5 * drawn(temperature=1.0), rtol=1e-6)


def test_decoders_and_encoders_agree(backends):
    latent = opening().latents[0]
    a, b = (backend.decoder().decode(latent) for backend in backends)
    assert a.shape == (480, 720, 3) and a.dtype == np.uint8 and a.flags.c_contiguous
    assert np.abs(a.astype(int) - b.astype(int)).mean() < 1.0
    pictures = np.random.default_rng(0).integers(0, 256, (2, 480, 720, 3), dtype=np.uint8)
    a, b = (backend.encoder().encode(pictures) for backend in backends)
    assert a.shape == (2, 16, 10, 15)
    assert np.sqrt(np.mean((a - b) ** 2)) < 0.03


def test_a_broken_cached_graph_is_made_anew(backends, tmp_path, monkeypatch):
    monkeypatch.setenv("DREAMCADE_CACHE", str(tmp_path))
    quick = backends[0]
    before = quick.decoder().decode(opening().latents[0])
    (graph,) = tmp_path.rglob("decoder.xml")
    graph.write_text("nonsense")
    assert np.array_equal(quick.decoder().decode(opening().latents[0]), before)


def test_missing_weights_are_named_with_advice(tmp_path):
    with pytest.raises(WeightsError, match="no weights for racing"):
        load_backend("racing", weights=str(tmp_path / "nowhere"))


def test_extrapolation_holds_at_the_newest_and_moves_beyond_it(backends):
    extrapolator = backends[0].extrapolator()
    latents, times, buttons = opening().latents[:2], np.array([0, 4]), np.zeros(4, np.float32)
    near = (latents[0] * 0.98 + latents[1] * 0.02).astype(np.float32)
    pair = np.stack((latents[0], near / np.sqrt((near**2).mean(0))))
    assert np.array_equal(extrapolator.extrapolate(pair, times, buttons, 4), pair[1])
    assert not np.allclose(extrapolator.extrapolate(pair, times, buttons, 6), pair[1])
    assert np.array_equal(extrapolator.extrapolate(pair[:1], times[:1], buttons, 6), pair[0])
