"""The extrapolator as one graph against the one that runs its network alone."""

import numpy as np
import pytest
import torch

from engine.fast.extrapolators import LearnedExtrapolator, TorchNet
from engine.fast.graphed_extrapolator import GraphedExtrapolator
from tests.test_extrapolator import BUTTONS, CHANNELS, small_net, steps

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = (CHANNELS, 10, 15)


def compare(device: str, atol: float) -> None:
    net = small_net()
    plain = LearnedExtrapolator(TorchNet(net, torch.float32))
    latents, times = steps([0.0, 0.2, 0.5])
    buttons = np.array([1, 0, 0, 1], np.float32)
    expected = [plain.extrapolate(latents, times, buttons, time) for time in (9.0, 10.5, 40.0)]
    graphed = GraphedExtrapolator(net.to(device), SHAPE, BUTTONS, capture=device == "cuda")
    assert graphed.uses_buttons
    for time, wanted in zip((9.0, 10.5, 40.0), expected):
        made = graphed.extrapolate(latents, times, buttons, time)
        assert made.flags.owndata and np.abs(made - latents[-1]).max() > 1e-3
        np.testing.assert_allclose(made, wanted, atol=atol)
    assert graphed.extrapolate(latents, times, buttons, 8.0) is not None
    np.testing.assert_array_equal(graphed.extrapolate(latents[:1], times[:1], buttons, 9.0), latents[0])


def test_graphed_extrapolator_gives_the_plain_ones_latents():
    compare("cpu", 1e-5)


def test_another_estimate_of_more_latents_can_be_graphed():
    def oldest(latents, buttons, stride, ahead):
        return latents[:1] + ahead + buttons.sum() * stride

    graphed = GraphedExtrapolator(small_net(), SHAPE, BUTTONS, False, oldest, known=3)
    latents, times = steps([0.0, 0.2, 0.5])
    made = graphed.extrapolate(latents, times, np.ones(BUTTONS, np.float32), 9.0)
    np.testing.assert_allclose(made, latents[0] + 1 + 4 * BUTTONS, rtol=1e-6)
    two = graphed.extrapolate(latents[1:], times[1:], np.ones(BUTTONS, np.float32), 9.0)
    np.testing.assert_array_equal(two, latents[-1])


@pytest.mark.gpu
def test_captured_extrapolator_gives_the_plain_ones_latents():
    compare("cuda", 5e-3)  # TF32
