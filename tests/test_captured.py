"""What training captures: worlds at fixed places play as before, updates read what they are given anew."""

import pytest
import torch
from torch import nn

from engine.config import AutoencoderConfig
from engine.models.autoencoder import Decoder
from engine.training.captured import WARM_UP_CALLS, Captured, Pinned
from engine.training.data import Simulation
from engine.training.optim import Training, is_hidden
from games.select import either


@pytest.mark.parametrize("game", ["racing", "platformer"])
def test_pinned_worlds_play_what_free_ones_play(game):
    simulations = []
    for pinned in (False, True):
        torch.manual_seed(0)
        simulation = Simulation(game, 4, "cpu")
        simulation.lifetime = torch.tensor([40, 90, 200, 300])
        if pinned:
            simulation.pinned = [Pinned(simulation.world), Pinned(simulation.drivers)]
        simulations.append(simulation)
    fixed = simulations[1]
    places = [place.data_ptr() for place in fixed.pinned[0].places]
    restarts = 0
    for step in range(40):
        strides = torch.randint(1, 9, (4,))
        told = []
        for simulation in simulations:
            torch.manual_seed(step)
            restarts += int(simulation.replace_old().sum())
            told.append((simulation.advance(strides, 8), simulation.world.telemetry()))
        assert torch.equal(told[0][0], told[1][0]) and torch.equal(told[0][1], told[1][1])
    assert restarts >= 4
    assert [place.data_ptr() for place in fixed.pinned[0].places] == places


def test_what_computes_on_the_cpu_is_not_captured_where_there_is_a_gpu_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    simulation = Simulation("racing", 2, "cpu")
    for _ in range(2 * WARM_UP_CALLS):
        before = simulation.world.state.s.clone()
        simulation.play_on()
        moved = simulation.world.state.s - before
    assert (moved != 0).any(), "it goes on behind the calls that warm up"
    training = Training(nn.Conv2d(3, 4, 3), seconds=1000, lr=1e-2, muon_lr=None, warmup=1)
    for _ in range(2 * WARM_UP_CALLS):
        weights = training.parameters[0].detach().clone()
        training.backward(training.model(torch.rand(1, 3, 8, 8)).square().mean())
        training.apply()
        assert not torch.equal(weights, training.parameters[0])


@pytest.mark.parametrize("yes", [torch.tensor([1.5, 2.5]), torch.tensor([1, 2]), 3, 0.5])
@pytest.mark.parametrize("no", [torch.tensor([7.0, 8.0]), torch.tensor([7, 8]), -1, 2.0])
def test_either_is_where_in_values_and_types(yes, no):
    condition = torch.tensor([True, False])
    wanted, made = torch.where(condition, yes, no), either(condition, yes, no)
    assert made.dtype == wanted.dtype and torch.equal(made, wanted)


def test_muon_takes_kernels_between_stem_and_head():
    decoder = Decoder(AutoencoderConfig(decoder_widths=(16, 8, 8), decoder_blocks=(1, 1, 1)))
    hidden = {name for name, parameter in decoder.named_parameters() if is_hidden(name, parameter)}
    assert "body.1.conv1.weight" in hidden and "body.2.conv.weight" in hidden
    assert not hidden & {"body.0.weight", "tail.weight", "body.1.conv1.bias"}


def test_gradients_are_gathered_in_their_parameters_memory_layout():
    decoder = Decoder(AutoencoderConfig(channels=8, decoder_widths=(8, 8, 8), decoder_blocks=(1, 1, 1)))
    decoder = decoder.to(memory_format=torch.channels_last)
    training = Training(decoder, seconds=100, lr=1e-3, muon_lr=1e-3, warmup=1)
    latents = torch.randn(2, 8, 2, 2)
    decoder(latents).square().mean().backward()
    wanted = [parameter.grad.clone() for parameter in decoder.parameters()]
    decoder.zero_grad(set_to_none=True)
    training.backward(decoder(latents).square().mean())
    for mine, true, parameter in zip(training.gradients, wanted, decoder.parameters()):
        assert mine.stride() == parameter.stride()
        torch.testing.assert_close(mine, true)
    before = [parameter.detach().clone() for parameter in decoder.parameters()]
    training.apply()
    moved = [not torch.equal(a, b) for a, b in zip(before, decoder.parameters())]
    assert all(moved)


@pytest.mark.gpu
def test_a_captured_update_learns_as_an_eager_one():
    def losses(captured: bool) -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 3, 3)).cuda()
        training = Training(model, seconds=1000, lr=1e-2, muon_lr=None, warmup=1)

        def learn(pictures: torch.Tensor) -> torch.Tensor:
            loss = (model(pictures) - pictures[..., 2:-2, 2:-2]).square().mean()
            training.backward(loss)
            return loss.detach()

        step = Captured(learn) if captured else learn
        if not captured:
            training.captured = training._update  # type: ignore[assignment]
        values = []
        for _ in range(30):
            values.append(step(torch.rand(4, 3, 16, 16, device="cuda")).item())
            training.apply()
        return values

    eager, replayed = losses(False), losses(True)
    assert replayed[-1] < 0.8 * replayed[0]
    torch.testing.assert_close(torch.tensor(replayed), torch.tensor(eager), rtol=1e-3, atol=1e-4)
