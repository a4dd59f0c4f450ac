"""Training on a stub game: clips line up, restarts break them, the optimiser and its clock work."""

import types

import pytest
import torch
from torch import nn

from engine.training import data
from engine.training.context import OwnPast
from engine.training.data import ClipBank, FramePool, Simulation
from engine.training.optim import Muon, Training, orthogonalise
from engine.training.token_worth import token_weights, tokens_with
from games import GAMES
from tests.tiny import tiny_config


class StubWorld:
    """Distance grows by 1 a frame, by 2 with the first button; the picture's brightness is the distance."""

    def __init__(self, seeds, device="cpu"):
        self.spec = GAMES["racing"]
        self.distance = torch.zeros(len(seeds))
        self.made = len(seeds)

    def step(self, buttons, active=None):
        self.distance = self.distance + torch.where(active, 1.0 + (buttons & 1), 0.0)

    def restart(self, where, seeds):
        self.distance = torch.where(where, 0.0, self.distance)

    def render_classes(self):
        value = (self.distance % 256).to(torch.uint8)[:, None, None]
        return value[..., None].expand(-1, 480, 720, 3), (value > 0).to(torch.uint8).expand(-1, 480, 720)

    def telemetry(self):
        row = torch.zeros(len(self.distance), len(self.spec.telemetry))
        row[:, self.spec.field_index("progress")] = self.distance * 1e-4
        return row


class StubDrivers:
    def __init__(self, seeds, device="cpu", style=None):
        self.count = len(seeds)

    def act(self, world):
        return torch.randint(0, 2, (self.count,))


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.setattr(
        data, "simulator", lambda name: types.SimpleNamespace(World=StubWorld, Drivers=StubDrivers)
    )
    torch.manual_seed(0)
    made = Simulation("racing", 6, "cpu")
    made.displaced = 0.0
    return made


def brightness(pictures):
    """An 'encoder' whose latents are the picture's mean, [B, 4, 10, 15]."""
    return pictures.mean((1, 2, 3))[:, None, None, None].expand(-1, 4, 10, 15)


def test_each_step_lies_between_its_latents_with_its_own_buttons_and_stride(simulation):
    simulation.lifetime += 10**6
    bank = ClipBank(simulation, brightness, channels=4, length=20)
    for _ in range(16):
        bank.advance()
    clips = bank.sample(8, steps=5)
    assert clips.latents.shape == (8, 7, 4, 10, 15)
    passed = (clips.latents[:, 1:, 0, 0, 0] - clips.latents[:, :-1, 0, 0, 0]) * 255
    expected = clips.strides[:, 1:] * (1 + clips.buttons[:, 1:, 0])
    # bfloat16 keeps brightness to about one part in 256.
    torch.testing.assert_close(passed % 256, expected, atol=2.5, rtol=0)
    rate = clips.telemetry[:, 1:, GAMES["racing"].field_index("progress")] * 0.001 / 1e-4
    torch.testing.assert_close(rate, 1 + clips.buttons[:, 1:, 0], atol=1e-3, rtol=0)


def test_so_many_clips_have_an_event_on_the_way_where_there_are_any(simulation):
    simulation.lifetime += 10**6
    bank = ClipBank(simulation, brightness, channels=4, length=20)
    for _ in range(16):
        bank.advance()
    assert not bank.cut.any(), "nobody crashes here"
    bank.sample(8, steps=5, eventful=4)
    bank.cut[1, 10] = True
    at_event = bank.latents[1, 10].float()
    clips = bank.sample(8, steps=5, eventful=4)
    there = (clips.latents[:, 2:] == at_event).flatten(2).all(2).any(1)
    assert clips.latents.shape[0] == 8 and bool(there[4:].all())


def test_worlds_are_played_in_each_for_a_while_of_its_own_before_its_lifetime(simulation):
    left = simulation.lifetime.clone()
    simulation.play_in(300)
    assert torch.equal(simulation.lifetime - simulation.age, left)
    assert simulation.age.unique().numel() >= 4 and 60 < simulation.age.max() < 300
    assert (simulation.world.distance >= simulation.age).all()


def test_training_puts_some_cars_elsewhere_and_says_which():
    torch.manual_seed(0)
    simulation = Simulation("racing", 6, "cpu")
    simulation.play_in(30)
    simulation.displaced = 0.5
    before = simulation.world.state
    told = simulation.world.telemetry()
    moved = simulation.replace_old()
    assert 0 < moved.sum() < 6
    same = simulation.world.state.x == before.x
    assert torch.equal(same, ~moved)
    assert torch.equal(simulation.world.telemetry()[~moved], told[~moved])
    length = simulation.world.track.length[:, None]
    gaps = [torch.remainder(c.rival_s - c.s[:, None], length) for c in (before, simulation.world.state)]
    torch.testing.assert_close(*gaps, atol=0.01, rtol=0)


def test_worlds_that_judge_are_left_to_their_drivers():
    assert Simulation("racing", 2, "cpu").displaced > 0
    assert Simulation("racing", 2, "cpu", range(1_000_000, 1_000_002)).displaced == 0


def test_clips_cross_no_restart(simulation):
    simulation.lifetime[:] = 60
    bank = ClipBank(simulation, brightness, channels=4, length=64)
    for _ in range(60):
        bank.advance()
    assert bank.fresh[:, 1:].any()
    clips = bank.sample(16, steps=3)
    progress = clips.telemetry[:, 1:, GAMES["racing"].field_index("progress")]
    assert (progress > 0).all()


def test_a_fixed_stride_holds(simulation):
    bank = ClipBank(simulation, brightness, channels=4, length=8, fixed_stride=4)
    for _ in range(6):
        bank.advance()
    assert (bank.strides[:, :6] == 4).all()


def test_pool_windows_show_what_was_rendered(simulation):
    pool = FramePool(simulation, size=12, stride=3)
    pool.refresh()
    pictures, classes = pool.sample(5, 96, 144)
    assert pictures.shape == (5, 3, 96, 144) and classes.shape == (5, 96, 144)
    shown = set((simulation.world.distance % 256).int().tolist())
    assert set((pictures[:, 0, 0, 0] * 255).round().int().tolist()) <= shown


def test_tokens_with_movers_are_those_that_show_any_part_of_one():
    classes = torch.zeros(1, 480, 720, dtype=torch.uint8)
    classes[0, 47, 48], classes[0, 96, 0] = 2, 3
    assert tokens_with(classes, [2])[0].nonzero().tolist() == [[0, 1]]
    assert tokens_with(classes, [2, 3])[0].nonzero().tolist() == [[0, 1], [2, 0]]
    assert float(tokens_with(classes, []).sum()) == 0


def test_token_weights_rise_where_classes_are():
    classes = torch.zeros(1, 480, 720, dtype=torch.uint8)
    classes[:, 48:96, 96:144] = 2
    weights = token_weights(classes)
    assert weights[0, 1, 2] == 5 and weights.sum() == 150 + 4


def test_own_past_keeps_the_true_beginning_and_replaces_the_rest(simulation):
    config = tiny_config().world
    bank = ClipBank(simulation, brightness, channels=4, length=20)
    for _ in range(14):
        bank.advance()
    clips = bank.sample(4, steps=8)
    zeros = lambda latents, previous, inputs: (torch.zeros_like(latents), torch.zeros_like(inputs.telemetry))  # noqa: E731
    latents, told = OwnPast(zeros, config)(clips, torch.zeros(4), passes=1)
    same = (latents == clips.latents[:, :-1]).flatten(2).all(-1)
    assert same[:, :2].all(), "the two latents a rollout begins with are true"
    assert not same[:, -1].any(), "the last is the model's own"
    assert torch.equal(told[:, 0], clips.telemetry[:, 1])
    untouched, _ = OwnPast(zeros, config)(clips, torch.zeros(4), passes=0)
    assert torch.equal(untouched, clips.latents[:, :-1])


def test_orthogonalised_matrices_have_singular_values_near_one():
    made = orthogonalise(torch.randn(3, 32, 16))
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.5 and values.max() < 1.5


def test_muon_and_adam_reduce_a_loss_and_the_average_follows():
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])

        def forward(self, x):
            return self.blocks[1](torch.tanh(self.blocks[0](x)))

    model, x = Model(), torch.randn(64, 8)
    target = torch.tanh(x @ torch.randn(8, 8))
    training = Training(model, seconds=100, lr=1e-2, muon_lr=2e-2, warmup=10)
    assert isinstance(training.optimisers[1], Muon)
    losses = []
    for _ in range(150):
        loss = (model(x) - target).square().mean()
        training.backward(loss)
        training.apply()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert 0 < training.progress < 1
    averaged = training.averaged()
    assert set(averaged) == {name for name, _ in model.named_parameters()}
    assert all(value.dtype == torch.bfloat16 for value in averaged.values())
