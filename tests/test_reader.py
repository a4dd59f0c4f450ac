"""The reader learns from pictures alone: no button is told from the situation, and no batch has a size of its
own."""

import time
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from engine.training import probes, reader  # noqa: E402
from engine.training.data import Simulation  # noqa: E402
from engine.training.reader_data import (  # noqa: E402
    MASHERS,
    MixedBank,
    PictureBank,
    Triples,
    smeared,
    without_hero,
)
from games import simulator  # noqa: E402

SMALL = probes.sizes_for("cpu", True)


class Operations(TorchDispatchMode):
    """Names of the operations that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("often", [0.9, 0.1])
def test_a_picture_that_shows_nothing_leaves_a_button_open(often: float) -> None:
    """Half of the rows show the button, half show nothing; in both it is held `often`."""
    held = (torch.arange(200) % 10 < round(often * 10)).float()[:, None]
    shows = (torch.arange(200) >= 100).float()[:, None]
    told = torch.cat((shows * (2 * held - 1), torch.ones(200, 1)), 1)

    def chance_of_nothing(plain: bool) -> tuple[float, float]:
        line = torch.zeros(2, 1, requires_grad=True)
        optimiser = torch.optim.Adam([line], lr=0.1)
        for _ in range(300):
            logits = told @ line
            if plain:
                losses = F.binary_cross_entropy_with_logits(logits, held, reduction="none")
            else:
                losses = probes.button_loss(logits, held, held.mean(0))
            optimiser.zero_grad()
            losses.mean().backward()
            optimiser.step()
        chances = (told @ line).sigmoid()
        return chances[0].item(), ((chances[100:] > 0.5) == (held[100:] > 0.5)).float().mean().item()

    assert chance_of_nothing(plain=False) == (pytest.approx(0.5, abs=0.02), 1)
    assert abs(chance_of_nothing(plain=True)[0] - 0.5) > 0.35, "what this is about"


def test_held_and_free_weigh_the_same_in_all() -> None:
    held = torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.0, 1.0], [0.0, 0.5]])
    at_even = probes.button_loss(torch.zeros(4, 2), held, held.mean(0)).mean(0)
    assert at_even.tolist() == pytest.approx([torch.tensor(2.0).log().item()] * 2)
    never = probes.button_loss(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(2))
    assert never.isfinite().all(), "a button that nobody held yet"


@pytest.mark.parametrize("game", ["racing", "platformer"])
def test_a_simulation_of_one_style_is_driven_in_it(game: str) -> None:
    mashed, mixed = Simulation(game, 6, "cpu", style="masher"), Simulation(game, 6, "cpu")
    drivers = simulator(game).Drivers(mashed.drivers.seeds, style="masher")
    pressed = mashed.drivers.act(mashed.world)
    assert torch.equal(pressed, drivers.act(mashed.world))
    assert not torch.equal(pressed, mixed.drivers.act(mixed.world))


def test_a_share_of_every_batch_is_the_mashers() -> None:
    bank = MixedBank("platformer", 6, 8, "cpu", played_in=5)
    styled, mashed = bank.styled.simulation, bank.mashed.simulation
    assert (styled.batch, mashed.batch) == (6 - round(6 * MASHERS), round(6 * MASHERS))
    assert (mashed.drivers.style == mashed.drivers.STYLES.index("masher")).all()
    assert not set(styled.drivers.seeds.tolist()) & set(mashed.drivers.seeds.tolist())
    for _ in range(4):
        bank.advance()
    bank.mashed.strides.fill_(99)
    told = bank.sample(30)
    assert len(told.strides) == len(told.pictures) == 30
    assert int((told.strides == 99).sum()) == round(30 * MASHERS)


def test_a_batch_has_the_size_asked_for_and_avoids_restarts() -> None:
    bank = PictureBank("platformer", Simulation("platformer", 4, "cpu"), 4)
    for _ in range(4):
        bank.advance()
    bank.fresh.zero_()
    bank.fresh[0], bank.strides[0] = True, 99
    bank.fields.zero_()
    bank.fields[1], bank.strides[1] = 1.5, 99  # a respawn
    told = bank.sample(16)
    assert told.pictures.shape == (16, 3, 3, 60, 90) and told.buttons.shape == (16, 3)
    assert (told.strides != 99).all()
    bank.fresh.fill_(True)
    assert len(bank.sample(16).strides) == 16


def test_a_smear_is_the_mean_of_a_square() -> None:
    pictures = torch.rand(2, 3, 3, 60, 90)
    square = F.avg_pool2d(pictures.flatten(0, 1), 15, 1, 7, count_include_pad=False).view_as(pictures)
    torch.testing.assert_close(smeared(pictures, 15), square)


def test_the_hero_is_covered_with_what_lies_aside() -> None:
    columns = torch.arange(90.0).expand(32, 3, 3, 60, 90)
    hero = torch.zeros(32, 3, 60, 90)
    hero[:, :, 20:30, 70] = 1
    empty = torch.zeros(32, 0)
    covered = without_hero(Triples(columns, hero, torch.ones(32), empty, empty))
    moved = columns - covered
    assert (moved[..., :68] == 0).all() and (moved[..., 73:] == 0).all() and (moved[..., :18, :] == 0).all()
    shifts = moved[..., 20:30, 68:73].flatten(1)
    assert (shifts == shifts[:, :1]).all() and shifts.min() >= 30 and shifts.max() <= 60
    assert shifts[:, 0].unique().numel() > 5, "in each triple elsewhere"


def test_the_reader_trains_on_live_simulation() -> None:
    run = probes.ReaderTraining("platformer", 100.0, "cpu", SMALL)
    run.training.seconds = time.monotonic() - run.training.started + 2  # however long filling the bank took
    before = [parameter.detach().clone() for parameter in run.net.parameters()]
    trained, facts = run.run()
    assert facts["updates"] > 0 and facts["pictures"] >= 8
    kept = zip(before, trained.net.parameters(), run.training.average)
    # The trained weights are rounded to bfloat16: what an update moves shows in the average.
    assert all(not torch.equal(a, c) and (b - c).abs().max() < 0.01 for a, b, c in kept)
    assert (run.shares != 0.5).all(), "how often each is held was learned"
    held_out = probes.check(trained, worlds=2, steps=4, device="cpu")
    assert set(held_out["error"]) == set(reader.PROBES["platformer"])
    assert (
        set(held_out["held_free_sure"])
        == set(held_out["held_free_sure_mashers"])
        == {"LEFT", "RIGHT", "JUMP"}
    )


def test_an_update_waits_for_no_value_and_carries_none_from_the_host() -> None:
    """What a CUDA graph cannot hold; the names are PyTorch's."""
    run = probes.ReaderTraining("platformer", 100.0, "cpu", SMALL)
    parts = vars(run.bank.sample(8)).values()
    with Operations() as operations:
        run._learn(*parts)
    assert {"convolution_backward", "gather", "lerp_"} <= operations.names
    waiting = {"_local_scalar_dense", "item", "nonzero", "masked_select", "lift_fresh", "scalar_tensor"}
    assert not operations.names & waiting


@pytest.mark.gpu
def test_a_captured_update_of_the_reader_goes_on_learning() -> None:
    run = probes.ReaderTraining("platformer", 100.0, "cuda", SMALL)
    for _ in range(12):
        weights, shares = run.net.out.weight.detach().clone(), run.shares.clone()
        assert run.step().isfinite().all()
        assert not torch.equal(weights, run.net.out.weight) and not torch.equal(shares, run.shares)
