"""Evaluation says what is true: figures on dreams whose quality is known, and every field of the JSON."""

import json
import multiprocessing
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine.backend import Opening, Step  # noqa: E402
from engine.models.weights import WeightsError  # noqa: E402
from engine.training import evaluate, measures, reader  # noqa: E402
from engine.training.evaluation import pictures, rollout  # noqa: E402
from engine.training.evaluation.actions import ActionFollowing, balanced_accuracy  # noqa: E402
from engine.training.evaluation.distribution import frechet  # noqa: E402
from engine.training.evaluation.figures import Figures  # noqa: E402
from engine.training.evaluation.jobs import Models, Task, play_by_processes  # noqa: E402
from engine.training.evaluation.long_play import Start, dream  # noqa: E402
from engine.training.evaluation.pictures import halved  # noqa: E402
from engine.training.evaluation.results import where_told  # noqa: E402
from engine.training.evaluation.rollout import Evaluation  # noqa: E402
from engine.training.evaluation.truth import CONTEXT_STEPS, Pilot, TrueClip  # noqa: E402
from games import GAMES  # noqa: E402
from tests.tiny import store_tiny  # noqa: E402

STEPS, STRIDE = 15, 4
SPEC = GAMES["racing"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def latent_of(number: int) -> np.ndarray:
    return np.full((1, 10, 15), number, np.float32)


class StubBackend:
    """A latent is a picture's number, written in the picture's first pixel. The dream goes on by `pace`
    pictures a step: 1 is perfect, 0 stands still."""

    name, device, decoder_name, weights_id, latent_shape = "stub", "cpu", "cpu", "0", (1, 10, 15)

    def __init__(self, clip: TrueClip, pace: int) -> None:
        self.clip, self.pace = clip, pace

    def world(self) -> "StubBackend":
        return self

    encoder = decoder = extrapolator = world

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        return np.stack([latent_of(int(picture[0, 0, 0])) for picture in pictures])

    def decode(self, latent: np.ndarray) -> np.ndarray:
        return self.clip.pictures[int(latent[0, 0, 0])]

    def open(self, opening: Opening, noise_seed: int) -> np.ndarray:
        self.at = int(opening.latents[-1][0, 0, 0])
        return opening.latents[1:] if self.pace else opening.latents[:-1]

    def step(self, buttons: np.ndarray, stride: int) -> Step:
        self.at = (self.at + self.pace) % len(self.clip.pictures)
        return Step(latent_of(self.at), self.clip.telemetry[self.at])


@pytest.fixture(scope="module")
def clip() -> TrueClip:
    """Stripes that move, numbered in their first pixel; made of nothing that a simulator knows."""
    total, rng = CONTEXT_STEPS + STEPS, np.random.default_rng(0)
    columns = np.arange(720)[None, :, None] / 20 + np.arange(3)
    pictures = {}
    for t in range(total):
        wave = 127 + 100 * np.sin(columns + 0.4 * t) + np.zeros((480, 1, 1))
        pictures[t] = wave.astype(np.uint8)
        pictures[t][0, 0] = t
    small = reader.small(torch.from_numpy(np.stack(list(pictures.values()))))
    buttons = rng.integers(0, 2, (total, SPEC.n_buttons)).astype(np.float32)
    telemetry = rng.random((total, len(SPEC.telemetry)), np.float32)
    classes = {t: (np.arange(480 * 720).reshape(480, 720) % 3).astype(np.uint8) for t in range(total)}
    return TrueClip(small, buttons, telemetry, pictures, classes)


def evaluated(clip: TrueClip, pace: int) -> Evaluation:
    torch.manual_seed(0)
    net = reader.Reader("racing", reader.new_net("racing"))
    evaluation = Evaluation("racing", StubBackend(clip, pace), STRIDE, STEPS, net)  # type: ignore[arg-type]
    evaluation.measure(clip)
    return evaluation


def test_a_perfect_dream_has_the_best_figures(clip: TrueClip) -> None:
    evaluation = evaluated(clip, pace=1)
    mean = evaluation.figures.mean
    assert mean("autoencoder") == mean("next") == mean("rollout 15") == 45
    assert mean("next ssim") == pytest.approx(1)
    assert mean("autoencoder mask car") == 45 and mean("autoencoder mask marking") is None
    assert evaluation.figures.ratio("sharp dream 1", "sharp true 1") == 1
    assert mean("telemetry speed 15") == 0
    for name in reader.PROBES["racing"]:
        assert mean(f"probe {name} 1") == pytest.approx(mean(f"floor {name} 1"))


def test_what_the_reader_cannot_tell_on_real_pictures_is_left_out(
    clip: TrueClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tolerance, share in ((10.0, 1.0), (0.0, 0.0)):  # of a value's range
        monkeypatch.setattr(rollout, "TOLD", tolerance)
        evaluation = evaluated(clip, pace=0)
        told = where_told(evaluation)
        assert told and set(told) == {"speed", "lateral", "heading_error"}
        for name, by_second in told.items():
            whole = {
                "dream": evaluation.figures.mean(f"probe {name} 1"),
                "real": evaluation.figures.mean(f"floor {name} 1"),
            }
            for column, value in whole.items():
                assert by_second["1"][column] == (pytest.approx(value, abs=1e-3) if share else None)
            assert by_second["1"]["share"] == share


def test_a_dream_that_stands_still_is_as_good_as_hold(clip: TrueClip) -> None:
    evaluation = evaluated(clip, pace=0)
    mean = evaluation.figures.mean
    assert mean("next") == mean("next hold") < 40
    for n in evaluation.points:
        assert mean(f"rollout {n}") == mean(f"hold {n}") < 40
        assert mean(f"ceiling {n}") == 45


def test_psnr_is_capped_for_each_picture() -> None:
    black, grey = torch.zeros(1, 3, 48, 48), torch.full((1, 3, 48, 48), 0.1)
    assert measures.psnr(black, black).tolist() == [45]
    both = measures.psnr(torch.cat((black, black)), torch.cat((black, grey)))
    assert both.tolist() == pytest.approx([45, 20])
    everywhere = torch.ones(1, 48, 48, dtype=torch.bool)
    assert measures.masked_psnr(black, black, everywhere) == 45
    assert np.isnan(measures.masked_psnr(black, black, ~everywhere))


def test_ratios_come_from_unrounded_values() -> None:
    figures = Figures()
    figures.add("above", 0.0004)
    figures.add("below", 0.0005)
    assert figures.ratio("above", "below") == pytest.approx(0.8)
    assert figures.ratio("above", "nothing") is None


def test_the_frechet_distance_is_known_for_gaussians() -> None:
    torch.manual_seed(0)
    a = torch.randn(4000, 3)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a, a + 2) == pytest.approx(12, rel=1e-5)
    assert frechet(a, 3 * a) == pytest.approx(12, rel=0.1), "three times (3 - 1)^2"


def test_action_following_tells_an_obedient_dream_from_a_deaf_one() -> None:
    held = torch.arange(40)[:, None] % 2 == 0
    sure = torch.where(held, 0.99, 0.01)
    deaf = torch.full_like(sure, 0.99)
    for dreamed, ratio in ((sure, 1.0), (deaf, 0.5)):
        following = ActionFollowing(("LEFT",))
        following.add(held.float().numpy(), sure, dreamed)
        accuracy, least, notes = following.result()
        assert accuracy and accuracy["LEFT"]["real"] == 1 and least == ratio and not notes
    assert balanced_accuracy(held[:6, 0], held[:6, 0]) is None, "too few frames"


def test_a_reader_that_fails_on_real_pictures_judges_nothing() -> None:
    held = torch.arange(40)[:, None] % 2 == 0
    wrong = torch.full((40, 1), 0.99)
    following = ActionFollowing(("LEFT",))
    following.add(held.float().numpy(), wrong, wrong)
    accuracy, least, notes = following.result()
    assert accuracy and accuracy["LEFT"]["ratio"] is None and least is None and notes


def test_long_play_runs_on_the_dream_alone(clip: TrueClip) -> None:
    backend = StubBackend(clip, pace=1)
    opening = clip.opening(backend.encode(np.stack([clip.pictures[t] for t in range(CONTEXT_STEPS)])), STRIDE)
    start = Start(None, Pilot("racing"), opening, clip.pictures[0])  # type: ignore[arg-type]
    trace = dream("racing", start, STRIDE, 10, backend, backend, backend, keep={0, 10})
    assert len(trace.small) == len(trace.telemetry) == len(trace.moving) == 11
    assert set(trace.pictures) == {0, 10}
    last = clip.pictures[CONTEXT_STEPS - 1 + 10]
    assert (trace.pictures[10] == halved(last)).all()
    assert not start.pilot.telemetry, "the start can be used again"


def test_the_reader_is_stored_checked_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "SHIPPED", tmp_path / "none")
    assert reader.load_reader("racing", tmp_path) is None
    net = reader.new_net("racing").eval()
    reader.store_reader(tmp_path, "racing", net, {"updates": 0})
    path = tmp_path / "probes.safetensors.gz"
    assert path.stat().st_size < 500_000
    again = reader.load_reader("racing", tmp_path)
    assert again and again.facts["updates"] == 0
    looks = torch.rand(5, 3, 60, 90)
    made = again.read(looks, STRIDE)
    assert made.fields.shape == (3, 3) and made.buttons.shape == (3, 4) and made.seen.shape == (3,)
    assert (made.seen - reader.Reader("racing", net).read(looks, STRIDE).seen).abs().max() < 0.02
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="altered"):
        reader.load_reader("racing", tmp_path)


def evaluated_by_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *given: str):
    """The JSON that `evaluate platformer` ends with."""
    monkeypatch.setattr("sys.argv", ["evaluate", "platformer", "--stride", "8", "--json", *given])
    evaluate.main()
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_long_play_by_two_processes_is_that_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DREAMCADE_WITHOUT", "openvino")  # exporting takes longest
    monkeypatch.setattr(pictures, "SHEET_SECONDS", (1, 2, 60))
    store_tiny(tmp_path, "platformer")
    reader.store_reader(tmp_path, "platformer", reader.new_net("platformer"), {})
    given = ["--long-play-only", "--seeds", "1000000:1000002", "--weights", str(tmp_path), "--threads", "1"]
    run = partial(evaluated_by_command, capsys, monkeypatch, *given, "--minutes", "0.04")
    one, two = run(), run("--jobs", "2", "--sheet", str(tmp_path / "sheet.jpg"))
    assert one == two
    none = run("--reference-minutes", "0")["long_play"]
    assert none["by_seed"] == one["long_play"]["by_seed"] and set(none["reference"].values()) == {None}
    assert list(two) == ["game", "seeds", "stride", "backend", "decoder", "weights", "long_play", "notes"]
    long_play, rows = two["long_play"], two["long_play"]["by_seed"]
    assert [row["seed"] for row in rows] == [1000000, 1000001]
    assert long_play["freeze_max_s"] == max(row["freeze_max_s"] for row in rows)
    with av.open(str(tmp_path / "sheet.jpg")) as sheet:
        (picture,) = sheet.decode(video=0)
    gap = pictures.GAP_PX
    assert (picture.width, picture.height) == (360 + gap + 360, 240 + gap + 240), "two seeds at 1 and 2 s"


def test_what_a_process_raises_is_the_commands_error(tmp_path: Path) -> None:
    models = Models("platformer", weights=tmp_path / "none")
    with pytest.raises(WeightsError, match="no weights for platformer"):
        play_by_processes(models, [Task(seed, STRIDE, 8, 8) for seed in range(2)], jobs=2)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["--long-play-only"], "--long-play-only needs --minutes"),
        (["--sheet", "a.jpg"], "--sheet needs --minutes"),
        (["--sheet", "a.jpg", "--minutes", "0.1"], "--sheet begins at 10 s"),
        (["--sheet", "a.png", "--minutes", "1"], "a .jpg file"),
        (["--jobs", "0"], "1 to 256"),
        (["--reference-minutes", "-1"], "0 (none) to 600"),
        (["--report", "out", "--reference-minutes", "0"], "--reference-minutes must be above 0"),
    ],
)
def test_what_does_not_go_together_is_said_at_once(
    given: list[str], error: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        evaluated_by_command(capsys, monkeypatch, *given)
    assert error in capsys.readouterr().err


def test_the_whole_command_gives_every_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DREAMCADE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(evaluate, "measure_filled", lambda *given: {})  # has tests of its own
    weights = tmp_path / "weights"
    store_tiny(weights, "platformer")
    reader.store_reader(weights, "platformer", reader.new_net("platformer"), {})
    command = "evaluate platformer --seeds 1000000:1000001 --stride 8 --steps 8 --threads 1 --minutes 0.03"
    places = ["--json", "--weights", str(weights), "--report", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*command.split(), *places])
    evaluate.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    numbers = ("next_step_psnr_db", "next_step_hold_psnr_db", "next_step_ssim")
    assert all(type(result[name]) is float for name in numbers)
    assert result["seeds"] == "1000000:1000001" and result["stride"] == 8 and result["backend"]
    assert type(result["autoencoder_psnr_db"][result["decoder"]]) is float
    assert set(result["autoencoder_mask_psnr_db"]) == set(GAMES["platformer"].masks)
    for name in ("rollout_psnr_db", "hold_psnr_db", "ceiling_psnr_db"):
        assert list(result[name]) == ["1", "2", "4", "8"]
    assert type(result["sharpness_ratio"]["1"]) is float
    assert set(result["action_accuracy"]) == {"LEFT", "RIGHT", "JUMP"}
    assert set(result["probe_error"]) == {"x", "y", "grounded", "alive"}
    long_play = result["long_play"]
    assert type(long_play["freeze_max_s"]) is float and 0 <= long_play["drivable_fraction"] <= 1
    assert 0 <= long_play["detected_fraction"] <= 1 and long_play["colour_drift"] is None
    assert "filled" in result and "action_accuracy_ratio_min" in result
    written = {path.suffix for path in (tmp_path / "out").iterdir()}
    assert {".png", ".mp4", ".html", ".json"} <= written
