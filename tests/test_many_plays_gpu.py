"""Many seeds' long play on a GPU: captured, fused, and what each seed plays by itself as long as rounding
lets it."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine.backend import load_backend  # noqa: E402
from engine.training.evaluation.batch import BatchPlayer  # noqa: E402
from engine.training.evaluation.canvas import AtOnce, canvas_of  # noqa: E402
from engine.training.evaluation.jobs import Task  # noqa: E402
from engine.training.evaluation.long_play import Start, Trace, begin, dream  # noqa: E402
from engine.training.evaluation.many_plays import dream_all, reference_all, start_all  # noqa: E402
from engine.training.reader import load_reader  # noqa: E402
from games import GAMES  # noqa: E402

GAME, STRIDE, STEPS, SEEDS = "platformer", 4, 20, (1_000_000, 1_000_003)
X = GAMES[GAME].field_index("x")
ROLES = ("world", "decoder", "encoder")


@pytest.mark.gpu
def test_two_seeds_at_once_on_a_gpu_are_two_single_plays():
    backend = load_backend(GAME, device="cuda", roles=ROLES)
    canvas = canvas_of(backend, 2)
    assert isinstance(canvas, AtOnce)
    starts = start_all(GAME, SEEDS, STRIDE, canvas, "cuda")
    made, real = ([Trace(GAME, STRIDE, {STEPS}) for _ in SEEDS] for _ in range(2))
    dream_all(GAME, starts, made, STEPS, backend.worlds(2), canvas, "")
    world, encoder, decoder = backend.world(), backend.encoder(), backend.decoder()
    for number, trace in enumerate(made):
        opening, pilot = starts.openings[number], starts.pilots[number]
        start = Start(None, pilot, opening, starts.pictures[number].cpu().numpy())  # type: ignore[arg-type]
        alone = dream(GAME, start, STRIDE, STEPS, world, encoder, decoder, {STEPS})
        assert np.isfinite(np.stack(trace.telemetry)).all() and np.isfinite(trace.spread).all()
        assert trace.astray_at_first == pytest.approx(alone.astray_at_first, rel=0.05)
        assert trace.sharp[0] == pytest.approx(alone.sharp[0], rel=0.02)
        assert trace.pictures.keys() == alone.pictures.keys()
        for early in range(6):  # later a jump may begin a frame apart
            apart = (trace.small[early].float() - alone.small[early].float()).abs().mean()
            assert apart < 2.0, "shades of 255"
            assert abs(trace.telemetry[early][X] - alone.telemetry[early][X]) < 0.25, "tiles"
    reference_all(starts, real, STEPS, "")
    assert all(len(trace.small) == STEPS + 1 and STEPS in trace.pictures for trace in real)


@pytest.mark.gpu
def test_simulators_on_a_gpu_start_where_those_of_a_cpu_do():
    backend = load_backend(GAME, device="cuda", roles=ROLES)
    starts = start_all(GAME, SEEDS, STRIDE, canvas_of(backend, 2), "cuda")
    for seed, opening, picture in zip(SEEDS, starts.openings, starts.pictures):
        alone = begin(GAME, seed, STRIDE, backend.encoder())
        np.testing.assert_allclose(opening.telemetry[:, X], alone.opening.telemetry[:, X], atol=0.5)
        assert np.abs(picture.cpu().numpy().astype(int) - alone.picture).mean() < 10.0


@pytest.mark.gpu
def test_verdicts_of_a_gpu_are_figures():
    backend = load_backend(GAME, device="cuda", roles=ROLES)
    tasks = [Task(seed, STRIDE, 40, 20) for seed in (*SEEDS, 1_000_005)]
    for played in BatchPlayer(GAME, backend, load_reader(GAME), len(tasks)).play(tasks):
        for verdict in (played.dreamed, played.real):
            assert verdict and verdict.detected_fraction is not None
            assert 0 <= verdict.detected_fraction <= 1 and verdict.freeze_max_s >= 0
        assert played.dreamed.astray_last is not None and np.isfinite(played.dreamed.astray_last)
