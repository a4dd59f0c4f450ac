"""Long plays of many seeds at once are those of each seed by itself."""

import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine.fast.slots import WorldSlots  # noqa: E402
from engine.fast.torch_backend import TorchBackend  # noqa: E402
from engine.training import evaluate  # noqa: E402
from engine.training.evaluation.batch import BatchPlayer  # noqa: E402
from engine.training.evaluation.canvas import AtOnce, OneByOne, canvas_of  # noqa: E402
from engine.training.evaluation.jobs import LongPlayer, Task  # noqa: E402
from engine.training.evaluation.judge import BY_MINUTE, Verdict, in_long_runs, longest, runs  # noqa: E402
from engine.training.evaluation.long_play import Trace, begin, dream, reference  # noqa: E402
from engine.training.evaluation.many_plays import dream_all, reference_all, start_all  # noqa: E402
from engine.training.evaluation.progress import counted  # noqa: E402
from engine.training.evaluation.results import long_play_json  # noqa: E402
from engine.training.evaluation.simulators import Simulators, captured_frame  # noqa: E402
from engine.training.evaluation.truth import Pilot  # noqa: E402
from engine.training.reader import Reader, new_net  # noqa: E402
from tests.tiny import store_tiny  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
GAME, STRIDE, STEPS, SEEDS = "platformer", 4, 18, (1_000_000, 1_000_003)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchBackend]:
    directory = tmp_path_factory.mktemp("weights")
    store_tiny(directory, GAME)
    yield TorchBackend(GAME, directory, "cpu", 1)


@pytest.fixture(scope="module")
def singles(backend: TorchBackend) -> list[tuple[Trace, Trace]]:
    """Dream and simulator of each seed by itself."""
    world, encoder, decoder = backend.world(), backend.encoder(), backend.decoder()
    played = []
    for seed in SEEDS:
        start = begin(GAME, seed, STRIDE, encoder)
        dreamed = dream(GAME, start, STRIDE, STEPS, world, encoder, decoder, keep={0, 2})
        played.append((dreamed, reference(GAME, start, STRIDE, 3, keep={3})))
    return played


def traces(*keep: int) -> list[Trace]:
    return [Trace(GAME, STRIDE, keep) for _ in SEEDS]


def assert_same(made: Trace, alone: Trace, telemetry: float = 0.0, shades: int = 0) -> None:
    """shades: how far a small picture's bytes may be apart."""
    np.testing.assert_allclose(np.stack(made.telemetry), np.stack(alone.telemetry), atol=telemetry)
    assert len(made.small) == len(alone.small) and made.moving == alone.moving
    looks = (torch.stack(one.small).int() for one in (made, alone))
    assert torch.sub(*looks).abs().max() <= shades
    for name in ("sharp", "spread", "astray", "astray_at_first"):
        np.testing.assert_allclose(getattr(made, name), getattr(alone, name), rtol=1e-4 + telemetry)
    assert made.pictures.keys() == alone.pictures.keys()
    for number, picture in made.pictures.items():
        assert np.abs(picture.astype(int) - alone.pictures[number]).max() <= shades


def test_a_batch_plays_what_each_seed_plays_by_itself(backend, singles):
    canvas, dreamed, real = canvas_of(backend, 2), traces(0, 2), traces(3)
    assert isinstance(canvas, OneByOne)
    starts = start_all(GAME, SEEDS, STRIDE, canvas, "cpu")
    dream_all(GAME, starts, dreamed, STEPS, backend.worlds(2), canvas, "")
    reference_all(starts, real, 3, "")
    for one, other, (dreamed_alone, real_alone) in zip(dreamed, real, singles):
        assert_same(one, dreamed_alone)
        assert_same(other, real_alone)


def test_the_gpus_way_gives_the_same_on_a_cpu_but_for_rounding(backend, singles):
    """Slots of one static world and one batch of pictures, more of both than seeds."""
    canvas, dreamed, worlds = AtOnce(backend, 3), traces(0, 2), backend.slots(3)
    starts = start_all(GAME, SEEDS, STRIDE, canvas, "cpu")
    dream_all(GAME, starts, dreamed, STEPS, worlds, canvas, "")
    assert isinstance(worlds, WorldSlots) and worlds.free == 3
    for one, (alone, _) in zip(dreamed, singles):
        assert_same(one, alone, telemetry=0.02, shades=2)


def test_a_captured_frame_is_a_frame():
    """On a CPU nothing is captured, but the world's tensors stay where they are."""
    plain, pinned = (Simulators(GAME, SEEDS, "cpu") for _ in range(2))
    pinned._frame = captured_frame(pinned._world, torch.ones(2, dtype=torch.bool))
    pilots = [[Pilot(GAME) for _ in SEEDS] for _ in range(2)]
    for _ in range(20):
        assert plain.steer(pilots[0], 4) == pinned.steer(pilots[1], 4)
    assert (plain.telemetry() == pinned.telemetry()).all()
    assert torch.equal(plain.render(), pinned.render())


def figures_of(verdict: Verdict) -> dict[str, float | None]:
    """Of a play shorter than ten seconds, which has nothing by minute and no gradient energies."""
    figures = asdict(verdict)
    assert not any(figures.pop(name) for name in BY_MINUTE) and set(figures.pop("gradient_energy")) == {None}
    return figures


def test_groups_of_seeds_have_the_verdicts_of_single_plays(backend, monkeypatch, capsys):
    monkeypatch.setattr("engine.training.evaluation.batch.SEEDS_AT_ONCE", 2)
    torch.manual_seed(0)
    reader = Reader(GAME, new_net(GAME))
    tasks = [Task(seed, STRIDE, 4, 2, frozenset({4}), frozenset({0})) for seed in (*SEEDS, 1_000_001)]
    batch = BatchPlayer(GAME, backend, reader, len(tasks)).play(tasks)
    assert "2 seeds from 1000000: long play" in capsys.readouterr().err
    player = LongPlayer(GAME, backend, reader)
    for made, alone in zip(batch, map(player.play, tasks)):
        assert made.seed == alone.seed
        for one, other in ((made.dreamed, alone.dreamed), (made.real, alone.real)):
            assert figures_of(one) == pytest.approx(figures_of(other))
        assert set(made.pictures) == {4} and set(made.pictures_real) == {0}
    without = BatchPlayer(GAME, backend, reader, 1).play([replace(tasks[0], reference_steps=0)])
    assert without[0].real is None and without[0].dreamed.freeze_max_s == batch[0].dreamed.freeze_max_s
    figures = long_play_json(0.1, without)["reference"]
    assert "freeze_max_s" in figures and set(figures.values()) == {None}


def test_runs_are_counted():
    torch.manual_seed(0)
    flags = torch.rand(300) < 0.7
    counts = [0]
    for flag in flags.tolist():
        counts.append(counts[-1] + 1 if flag else 0)
    assert runs(flags).tolist() == counts[1:] and longest(flags) == max(counts)
    inside = torch.zeros(300, dtype=torch.bool)
    for end in (runs(flags) >= 5).nonzero()[:, 0].tolist():
        inside[end - 4 : end + 1] = True
    assert inside.any() and torch.equal(in_long_runs(flags, 5), inside)
    assert longest(flags[:0]) == 0


def test_the_rate_is_told_now_and_then(capsys):
    clock = count(step=10.0)
    assert list(counted(900, 4, "two seeds", clock=lambda: next(clock))) == list(range(900))
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first == "two seeds: 0.0 of 1 minutes dreamed, 40 s" and second.endswith(" s")
    assert list(counted(3, 4, "")) == [0, 1, 2] and not capsys.readouterr().err


@pytest.mark.parametrize(
    ("device", "jobs", "plays"),
    [
        ("cuda", None, "BatchPlayer"),
        ("cuda", 2, "processes"),
        ("cpu", None, "LongPlayer"),
        ("cpu", 1, "LongPlayer"),
    ],
)
def test_a_gpu_plays_all_seeds_at_once_unless_told_otherwise(device, jobs, plays, monkeypatch):
    tasks = [Task(seed, STRIDE, 1, 0) for seed in SEEDS]

    class Asked:
        def __init__(self, game: str, backend: object, reader: object, *seeds: int) -> None:
            assert seeds in ((), (2,))

        def play(self, given: list[Task] | Task) -> object:
            return [given] if isinstance(given, Task) else given

    for name in ("BatchPlayer", "LongPlayer"):
        monkeypatch.setattr(evaluate, name, Asked if name == plays else None)
    monkeypatch.setattr(evaluate, "play_by_processes", lambda *given: tasks if plays == "processes" else None)
    args = Namespace(game=GAME, device=device, jobs=jobs)
    assert len(evaluate.play_tasks(args, None, None, None, tasks)) == 2


def test_a_bare_gpu_machine_can_evaluate():
    """It has torch and safetensors, and nothing that writes films, opens windows or talks."""
    lacking = ("av", "pygame", "openvino", "zmq", "msgspec", "typer", "rich", "platformdirs", "PIL")
    code = f"import sys; sys.modules.update(dict.fromkeys({lacking})); import engine.training.evaluate"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1], timeout=120)
