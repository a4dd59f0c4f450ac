"""The extrapolator as one graph against the one that runs its network alone."""

import numpy as np
import pytest
import torch

from engine.backend import Draft
from engine.fast.extrapolators import LearnedExtrapolator
from engine.fast.graphed_extrapolator import GraphedExtrapolator
from engine.fast.torch_backend import TorchBackend
from engine.models.extrapolator_net import ExtrapolatorNet
from tests.test_extrapolator import BUTTONS, CHANNELS, learned, small_net, steps, without_drafts
from tests.tiny import shaken, store_tiny, tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = (CHANNELS, 10, 15)
HELD = np.array([1, 0, 0, 1], np.float32)


def graphed_of(net: ExtrapolatorNet, device: str) -> GraphedExtrapolator:
    return GraphedExtrapolator(net.to(device), SHAPE, BUTTONS, capture=device == "cuda")


def compare(plain: LearnedExtrapolator, graphed: GraphedExtrapolator, atol: float) -> None:
    """Ahead, from two latents; towards a draft, from two and from one."""
    latents, times = steps([0.0, 0.2, 0.5])
    draft = Draft(steps([0.9])[0][0], 12.0)
    assert graphed.uses_buttons and graphed.takes_drafts is plain.takes_drafts
    for time in (9.0, 10.5, 40.0):
        made = graphed.extrapolate(latents, times, HELD, time)
        assert made.flags.owndata and np.abs(made - latents[-1]).max() > 1e-3
        np.testing.assert_allclose(made, plain.extrapolate(latents, times, HELD, time), atol=atol)
    for known in (latents, latents[-1:]):
        when = times[-len(known) :]
        for time in (8.5, 11.0, 12.0):
            made = graphed.interpolate(known, when, HELD, time, draft)
            assert np.abs(made - latents[-1]).max() > 1e-3
            expected = plain.interpolate(known, when, HELD, time, draft)
            np.testing.assert_allclose(made, expected, atol=atol)
    np.testing.assert_array_equal(graphed.extrapolate(latents, times, HELD, 8.0), latents[-1])
    np.testing.assert_array_equal(graphed.extrapolate(latents[:1], times[:1], HELD, 9.0), latents[0])


def test_graphed_extrapolator_gives_the_plain_ones_latents():
    net = small_net()
    assert net.takes_drafts
    compare(learned(net), graphed_of(net, "cpu"), 1e-5)


def test_a_network_that_knows_no_drafts_closes_the_gap_as_before():
    net = shaken(ExtrapolatorNet(without_drafts(tiny_config())))
    assert isinstance(net, ExtrapolatorNet)
    net.head.bias.data[-2:] = torch.tensor([-2.0, 0.0])
    compare(learned(net), graphed_of(net, "cpu"), 1e-5)


def test_nothing_made_is_overwritten_by_what_comes_next():
    graphed = graphed_of(small_net(), "cpu")
    latents, times = steps([0.0, 0.2, 0.5])
    first = graphed.extrapolate(latents, times, HELD, 9.0)
    kept = first.copy()
    graphed.extrapolate(latents, times, 1 - HELD, 12.0)
    graphed.interpolate(latents, times, HELD, 9.0, Draft(latents[0], 12.0))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(graphed.extrapolate(latents, times, HELD, 9.0), kept)


def test_another_estimate_of_more_latents_can_be_graphed():
    def oldest(latents, buttons, stride, ahead):
        return latents[:1] + ahead + buttons.sum() * stride

    graphed = GraphedExtrapolator(small_net(), SHAPE, BUTTONS, False, oldest, known=3)
    latents, times = steps([0.0, 0.2, 0.5])
    made = graphed.extrapolate(latents, times, np.ones(BUTTONS, np.float32), 9.0)
    np.testing.assert_allclose(made, latents[0] + 1 + 4 * BUTTONS, rtol=1e-6)
    two = graphed.extrapolate(latents[1:], times[1:], np.ones(BUTTONS, np.float32), 9.0)
    np.testing.assert_array_equal(two, latents[-1])


def test_a_cpu_backend_runs_the_network_alone(tmp_path):
    store_tiny(tmp_path)
    made = TorchBackend("racing", tmp_path, "cpu", 1).extrapolator()
    assert isinstance(made, LearnedExtrapolator) and not isinstance(made, GraphedExtrapolator)
    assert made.takes_drafts


@pytest.mark.gpu
def test_captured_extrapolator_gives_the_plain_ones_latents():
    compare(learned(small_net()), graphed_of(small_net(), "cuda"), 5e-3)  # TF32


@pytest.mark.gpu
def test_a_gpu_backend_fills_frames_by_captured_graphs(tmp_path):
    config = store_tiny(tmp_path)
    backend = TorchBackend("racing", tmp_path, "cuda", 1)
    graphed = backend.extrapolator()
    assert isinstance(graphed, GraphedExtrapolator)
    assert all(fill._replay._graph is not None for fill in (graphed._ahead, graphed._towards))
    plain = TorchBackend("racing", tmp_path, "cpu", 1).extrapolator()
    assert isinstance(plain, LearnedExtrapolator) and config.world.buttons == BUTTONS
    latents, times = steps([0.0, 0.2, 0.5])
    draft = Draft(steps([0.9])[0][0], 12.0)
    decoder = backend.decoder()
    for time in (9.0, 10.0, 11.0):
        made = graphed.interpolate(latents, times, HELD, time, draft)
        np.testing.assert_allclose(made, plain.interpolate(latents, times, HELD, time, draft), atol=5e-3)
        picture = decoder.decode(graphed.extrapolate(latents, times, HELD, time))
        assert picture.shape == (480, 720, 3) and picture.std() > 0
