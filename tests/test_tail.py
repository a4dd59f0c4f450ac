"""A decoder's last convolution anew: its stage, on a tiny one."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F

from engine.models.autoencoder import Decoder, from_bytes
from engine.models.weights import WIDE, load_part
from engine.training import data, tail
from engine.training.files import read_part
from engine.training.measures import gradient_energy
from tests.tiny import store_tiny, tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")


class Pool:
    """Three pictures of soft blobs, the left halves of class 1."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        coarse = torch.rand(3, 3, 20, 30)
        soft = F.interpolate(coarse, (480, 720), mode="bilinear")
        self.pictures = (soft.permute(0, 2, 3, 1) * 255).to(torch.uint8)
        self.classes = torch.zeros(3, 480, 720, dtype=torch.uint8)
        self.classes[..., :360] = 1


def refitted(
    truth: float, amount: float, worth: Sequence[float] = (1.0, 1.0)
) -> tuple[Decoder, Decoder, Pool]:
    """Before and after, and the pictures. Latents are random: only the fit matters."""
    torch.manual_seed(1)
    before = Decoder(tiny_config().autoencoder).eval()
    after = Decoder(tiny_config().autoencoder).eval()
    after.load_state_dict(before.state_dict())
    pool = Pool()
    tail.refit(after, latents(), pool, torch.tensor(worth), truth, amount)
    return before, after, pool


def latents() -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randn(3, tiny_config().autoencoder.channels, 10, 15)


def errors(decoder: Decoder, pool: Pool) -> tuple[float, float]:
    """Squared errors, in the left half and in the right one."""
    with torch.no_grad():
        square = (decoder(latents()) - from_bytes(pool.pictures)).square()
    return square[..., :360].mean().item(), square[..., 360:].mean().item()


def test_no_truth_and_no_detail_change_nothing():
    before, after, _ = refitted(0.0, 0.0)
    for name, value in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], value)


def test_the_truth_has_the_least_squared_error_and_half_way_is_between():
    before, half, pool = refitted(0.5, 0.0)
    least = refitted(1.0, 0.0)[1]
    error = [sum(errors(decoder, pool)) for decoder in (before, half, least)]
    assert error[2] < error[1] < error[0]
    nudged = Decoder(tiny_config().autoencoder).eval()
    for sign in (-1, 1):
        nudged.load_state_dict(least.state_dict())
        nudged.tail.weight.data *= 1 + 0.05 * sign
        assert sum(errors(nudged, pool)) > error[2]


def test_what_weighs_more_comes_nearer_to_the_truth():
    pool = Pool()
    even, left = (errors(refitted(1.0, 0.0, worth)[1], pool)[0] for worth in ([1.0, 1.0], [1.0, 50.0]))
    assert left < even


def test_detail_is_added_once_more():
    before, after, _ = refitted(0.0, 0.3)
    with torch.no_grad():
        plain, crisp = before(latents()), after(latents())
    wanted = plain + 0.3 * tail.detail(plain)
    assert (crisp - wanted).square().mean() < 0.2 * (plain - wanted).square().mean()
    assert gradient_energy(crisp).mean() > 1.1 * gradient_energy(plain).mean()


def test_detail_is_what_a_small_blur_takes():
    flat = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(tail.detail(flat), torch.zeros_like(flat))
    dot = torch.zeros(1, 3, 9, 9)
    dot[..., 4, 4] = 1
    assert tail.detail(dot)[0, 0, 4, 4] == 0.75 and tail.detail(dot)[0, 0, 4, 5] == -0.125


@pytest.mark.parametrize("part", ["decoder", WIDE])
def test_the_stage_changes_the_last_convolution_alone(part, tmp_path, monkeypatch, capsys):
    store_tiny(tmp_path / "weights")
    options = ["--pictures", "8", "--part", part, "--weights", str(tmp_path / "weights")]
    monkeypatch.setattr("sys.argv", ["tail", "racing", *options, "--out", str(tmp_path)])
    monkeypatch.setattr(data, "PLAYED_IN_FRAMES", 4)
    tail.main()
    made = read_part(tmp_path / f"racing-{part}.safetensors", part)
    for name, value in load_part(tmp_path / "weights", part).state_dict().items():
        same = torch.equal(made[name], value.to(torch.bfloat16).float())
        assert same == (not name.startswith("tail.")), name
    said = capsys.readouterr().out
    assert "before:" in said and "now:" in said


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--truth", "1.5"], "--truth"),
        (["--detail", "nan"], "--detail"),
        (["--pictures", "2"], "--pictures"),
        (["--mask", "nan"], "--mask"),
    ],
)
def test_what_makes_no_sense_is_refused(options, named, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tail", "racing", *options])
    with pytest.raises(SystemExit):
        tail.main()
    assert named in capsys.readouterr().err


def test_masks_of_another_number_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tail", "racing", "--mask", "1", "2"])
    with pytest.raises(SystemExit, match="--mask takes one weight"):
        tail.main()
