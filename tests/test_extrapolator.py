"""Frames between true steps: the sphere's geometry, the gate, the learned network in every backend, its
training on a stub world, its benchmark."""

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.backend import Draft, load_backend
from engine.bench import extrapolation
from engine.config import GameConfig
from engine.fast.extrapolators import LearnedExtrapolator, SphereExtrapolator, TorchNet
from engine.models import extrapolator as maps
from engine.models.extrapolator_net import (
    ExtrapolatorNet,
    Heads,
    between,
    gate,
    last_motion,
    moved,
    time_features,
)
from engine.models.layers import perturb_on_sphere, to_sphere
from engine.models.weights import PARTS, WeightsError, build, has_part, load_part, store
from engine.training import extrapolator as train_extrapolator
from engine.training.clips import Scouted, choose
from engine.training.extrapolator import Step, noisy
from engine.training.latent_fit import CombinationFit, Metric, decoder_metric
from engine.training.optim import Training
from engine.training.pack import drop_stale, packed_config, read_parts
from engine.training.runs import RunBank, Runs, load_runs, save_runs, windows
from engine.training.token_worth import MOVERS_TIMES, filled_weights
from tests.tiny import shaken, store_tiny, tiny_config

CHANNELS, BUTTONS = 16, 4


def sphere(*shape: int, seed: int = 0) -> torch.Tensor:
    return to_sphere(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), -3)


def on_sphere(z: torch.Tensor) -> bool:
    return torch.allclose(z.square().mean(-3), torch.ones(()), atol=2e-3)


def circle(turns: list[float]) -> list[torch.Tensor]:
    """Latents [1, C, 10, 15] at these angles along one great circle per token."""
    start, other = sphere(1, CHANNELS, 10, 15), sphere(1, CHANNELS, 10, 15, seed=1)
    side = to_sphere(maps.tangential(start, other), -3)
    return [start * math.cos(turn) + side * math.sin(turn) for turn in turns]


def small_net(game: str = "racing") -> ExtrapolatorNet:
    config = tiny_config(game)
    torch.manual_seed(0)
    net = shaken(ExtrapolatorNet(config))
    assert isinstance(net, ExtrapolatorNet)
    net.head.bias.data[-2:] = torch.tensor([-2.0, 0.0])  # sure of itself
    return net


def learned(net: ExtrapolatorNet) -> LearnedExtrapolator:
    return LearnedExtrapolator(TorchNet(net, torch.float32), takes_drafts=net.takes_drafts)


def without_drafts(config: GameConfig) -> GameConfig:
    """Sizes of a network as they were before there were drafts."""
    return replace(config, extrapolator=replace(config.extrapolator, draft_blocks=0))


def steps(turns: list[float]) -> tuple[np.ndarray, np.ndarray]:
    latents = torch.cat(circle(turns)).numpy()
    return latents, np.arange(len(turns), dtype=np.float32) * 4


# -- geometry -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.25, 0.75, 2.0])
def test_exponential_map_is_exact_on_a_great_circle(ratio):
    before, newest, wanted = circle([0.0, 0.3, 0.3 + 0.3 * ratio])
    torch.testing.assert_close(maps.exponential(before, newest, ratio), wanted, atol=1e-3, rtol=0)


def test_log_map_leads_where_exp_map_arrives():
    a, b = sphere(2, CHANNELS, 10, 15), sphere(2, CHANNELS, 10, 15, seed=3)
    tangent = maps.log_map(a, b)
    torch.testing.assert_close((tangent * a).mean(1), torch.zeros(2, 10, 15), atol=1e-3, rtol=0)
    torch.testing.assert_close(maps.exp_map(a, tangent), b, atol=2e-3, rtol=0)


def test_linear_is_exact_on_a_straight_line_and_quadratic_on_a_parabola():
    start, push, bend = (sphere(1, CHANNELS, 10, 15, seed=s) for s in range(3))

    def at(t: float, curve: float) -> torch.Tensor:
        return start + 0.1 * t * push + curve * t * t * bend

    line, parabola = [at(t, 0.0) for t in (-2, -1, 0, 0.5)], [at(t, 0.02) for t in (-2, -1, 0, 0.5)]
    torch.testing.assert_close(maps.linear(*line[1:3], 0.5), to_sphere(line[3], 1))
    torch.testing.assert_close(maps.quadratic(*parabola[:3], 0.5), to_sphere(parabola[3], 1))


def every_map(oldest, before, newest, ratio):
    return {
        "hold": maps.hold(newest),
        "linear": maps.linear(before, newest, ratio),
        "quadratic": maps.quadratic(oldest, before, newest, ratio),
        "exponential": maps.exponential(before, newest, ratio),
        "in basis": maps.exponential_in_basis(oldest, before, newest, ratio),
        "gated": maps.extrapolate(before, newest, ratio),
        "combination": maps.combination(oldest, before, newest, torch.tensor([[0.1, -ratio, 1 + ratio]])),
    }


@pytest.mark.parametrize("ratio", [0.25, 1.0, 2.0])
def test_every_estimator_stays_on_the_sphere(ratio):
    newest = sphere(1, CHANNELS, 10, 15)
    noise = torch.randn(2, 1, CHANNELS, 10, 15)
    before, oldest = (perturb_on_sphere(newest, 0.3, n, dim=1) for n in noise)
    for name, made in every_map(oldest, before, newest, ratio).items():
        assert on_sphere(made), name


def test_every_map_holds_at_the_newest_latent_itself():
    newest = sphere(1, CHANNELS, 10, 15)
    before = perturb_on_sphere(newest, 0.3, torch.randn(1, CHANNELS, 10, 15), dim=1)
    for name, made in every_map(before, before, newest, 0.0).items():
        if name != "combination":
            torch.testing.assert_close(made, newest, atol=1e-3, rtol=0, msg=name)


def test_a_motion_that_all_neighbours_share_passes_the_tangent_basis_and_a_lone_one_is_damped():
    newest = sphere(1, CHANNELS, 1, 1).expand(-1, -1, 10, 15)
    side = to_sphere(maps.tangential(newest, sphere(1, CHANNELS, 1, 1, seed=1).expand_as(newest)), -3)
    before = newest * math.cos(0.3) - side * math.sin(0.3)
    lone = newest.clone()
    lone[..., 5, 7] = before[..., 5, 7]
    kept = maps.log_map(newest, maps.exponential_in_basis(before, before, newest, 1.0))
    alone = maps.log_map(newest, maps.exponential_in_basis(lone, lone, newest, 1.0))
    assert kept[..., 5, 7].square().mean().sqrt() > 0.2
    assert alone[..., 5, 7].square().mean().sqrt() < 0.05


# -- the gate -----------------------------------------------------------------------------------------


def test_the_gate_holds_on_a_cut_and_trusts_where_nothing_speaks_against_it():
    before, newest = sphere(1, CHANNELS, 10, 15), sphere(1, CHANNELS, 10, 15, seed=5)
    sure = Heads(torch.zeros_like(newest), torch.ones(1, 1, 10, 15), torch.zeros(1, 2, 10, 15))
    sure.log_errors[:, 0] = -3.0
    near = perturb_on_sphere(newest, 0.3, before, dim=1)
    assert gate(before, newest, sure).max() < 0.05
    assert gate(near, newest, sure).min() == 1.0


def test_the_gate_holds_tokens_that_it_expects_to_get_worse_and_damps_between():
    newest = sphere(1, CHANNELS, 10, 15)
    heads = Heads(newest, newest[:, :1], torch.zeros(1, 2, 10, 15))
    low, high = maps.ERROR_RATIO
    for row, ratio in enumerate((1.1 * high, (low + high) / 2, 0.9 * low)):
        heads.log_errors[0, 0, row] = math.log(ratio)
    trust = gate(newest, newest, heads)[0, 0]
    assert trust[0].max() == 0.0
    assert 0.1 < trust[1].min() <= trust[1].max() < 0.9
    assert trust[2].min() == 1.0


# -- the learned one ----------------------------------------------------------------------------------


def test_an_untrained_network_holds():
    net = ExtrapolatorNet(tiny_config())
    latents, times = steps([0.0, 0.2])
    made = learned(net).extrapolate(latents, times, np.zeros(BUTTONS, np.float32), 6)
    np.testing.assert_allclose(made, latents[-1], atol=1e-3)


def test_buttons_and_time_change_what_the_learned_one_makes_and_it_stays_on_the_sphere():
    fill = learned(small_net())
    latents, times = steps([0.0, 0.2, 0.4])
    idle, key = np.zeros(BUTTONS, np.float32), np.eye(BUTTONS, dtype=np.float32)[1]
    made = fill.extrapolate(latents, times, idle, 10)
    assert on_sphere(torch.from_numpy(made))
    assert fill.uses_buttons
    assert np.abs(fill.extrapolate(latents, times, key, 10) - made).max() > 1e-3
    assert np.abs(fill.extrapolate(latents, times, idle, 9) - made).max() > 1e-3
    late = fill.extrapolate(latents, times, idle, 16)
    assert np.array_equal(fill.extrapolate(latents, times, idle, 40), late)  # stands still beyond two steps
    assert np.array_equal(fill.extrapolate(latents, times, idle, 8), latents[-1])


def test_the_learned_one_holds_while_it_has_seen_no_motion():
    latents, times = steps([0.0])
    made = learned(small_net()).extrapolate(latents, times, np.ones(BUTTONS, np.float32), 3)
    assert np.array_equal(made, latents[0])


def test_a_gain_of_one_alone_is_the_exponential_map():
    before, newest = circle([0.0, 0.2])
    heads = Heads(torch.zeros_like(newest), torch.ones(1, 1, 10, 15), torch.zeros(1, 2, 10, 15))
    made = moved(newest, last_motion(before, newest), heads, torch.tensor(0.5))
    torch.testing.assert_close(made, maps.exponential(before, newest, 0.5), atol=1e-5, rtol=0)


def test_the_way_to_a_draft_is_exact_at_both_ends_and_on_the_sphere_between():
    newest, draft = circle([0.0, 0.6])
    heads = Heads(torch.randn_like(newest), torch.rand(1, 1, 10, 15), torch.zeros(1, 2, 10, 15))
    toward = maps.log_map(newest, draft)
    made = [between(newest, toward, heads, torch.tensor(ratio)) for ratio in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(made[0], newest, atol=1e-4, rtol=0)
    torch.testing.assert_close(made[2], draft, atol=2e-3, rtol=0)
    assert on_sphere(made[1]) and (made[1] - circle([0.3])[0]).abs().max() > 0.1


def test_no_token_bows_out_further_than_its_way_is_long():
    newest, draft = circle([0.0, 0.6])
    toward = maps.log_map(newest, draft)
    toward[..., :5, :] = 0.0  # what stands still
    heads = Heads(torch.randn_like(newest) * 9, torch.zeros(1, 1, 10, 15), torch.zeros(1, 2, 10, 15))
    made = between(newest, toward, heads, torch.tensor(0.5))
    torch.testing.assert_close(made[..., :5, :], newest[..., :5, :], atol=1e-4, rtol=0)
    far = maps.log_map(newest, made).norm(dim=1) / toward.norm(dim=1).clamp(min=1e-6)
    assert float(far[:, 5:].min()) > 0.4 and float(far[:, 5:].max()) < 1.51


def test_what_hardly_moves_towards_a_draft_hardly_bows_out():
    newest, draft = circle([0.0, 0.005])
    toward = maps.log_map(newest, draft)
    heads = Heads(torch.randn_like(newest) * 9, torch.zeros(1, 1, 10, 15), torch.zeros(1, 2, 10, 15))
    made = between(newest, toward, heads, torch.tensor(0.5))
    bow = maps.log_map(maps.exp_map(newest, toward * 0.5), made).norm(dim=1) / toward.norm(dim=1)
    assert float(bow.max()) < 0.2


def test_a_draft_and_the_time_change_what_the_learned_one_fills_in():
    fill = learned(small_net())
    latents, times = steps([0.0, 0.2, 0.4])
    nothing = np.zeros(BUTTONS, np.float32)
    near, far = (Draft(circle([turn])[0][0].numpy(), 12.0) for turn in (0.5, 0.8))
    made = fill.interpolate(latents, times, nothing, 10, far)
    assert on_sphere(torch.from_numpy(made))
    assert np.abs(fill.interpolate(latents, times, nothing, 10, near) - made).max() > 1e-2
    assert np.abs(fill.interpolate(latents, times, nothing, 9, far) - made).max() > 1e-2
    first = fill.interpolate(latents[-1:], times[-1:], nothing, 10, far)  # an epoch's first window
    assert on_sphere(torch.from_numpy(first))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    directory = tmp_path_factory.mktemp("weights")
    config = tiny_config()
    torch.manual_seed(0)
    models = {part: shaken(build(config, part)) for part in PARTS if part != "extrapolator"}
    store(directory, config, models | {"extrapolator": small_net()})
    patch = pytest.MonkeyPatch()
    patch.setenv("DREAMCADE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield directory
    patch.undo()


def test_openvino_and_pytorch_fill_alike(weights):
    pytest.importorskip("openvino")
    from engine.fast.torch_backend import TorchBackend

    quick, plain = load_backend("racing", weights=str(weights)), TorchBackend("racing", weights, "cpu", 1)
    latents, times = steps([0.0, 0.2, 0.4])
    for time in (9, 12, 16):
        a, b = (
            backend.extrapolator().extrapolate(latents, times, np.ones(BUTTONS, np.float32), time)
            for backend in (quick, plain)
        )
        assert np.sqrt(np.mean((a - b) ** 2)) < 0.02


def test_openvino_and_pytorch_fill_alike_towards_a_draft(weights):
    pytest.importorskip("openvino")
    from engine.fast.torch_backend import TorchBackend

    quick, plain = load_backend("racing", weights=str(weights)), TorchBackend("racing", weights, "cpu", 1)
    latents, times = steps([0.0, 0.2, 0.4])
    draft = Draft(circle([0.7])[0][0].numpy(), 12.0)
    for time in (9, 10, 11):
        a, b = (
            backend.extrapolator().interpolate(latents, times, np.ones(BUTTONS, np.float32), time, draft)
            for backend in (quick, plain)
        )
        assert np.sqrt(np.mean((a - b) ** 2)) < 0.02
        assert np.sqrt(np.mean((a - latents[-1]) ** 2)) > 0.05


def test_weights_from_before_there_were_drafts_load_and_arrive_at_one(tmp_path):
    pytest.importorskip("openvino")
    config = without_drafts(tiny_config())
    store(tmp_path, config, {"extrapolator": shaken(build(config, "extrapolator"))})
    told = json.loads((tmp_path / "config.json").read_text())
    del told["extrapolator"]["draft_blocks"]
    (tmp_path / "config.json").write_text(json.dumps(told))
    fill = load_backend("racing", roles=(), weights=str(tmp_path)).extrapolator()
    latents, times = steps([0.0, 0.2, 0.4])
    nothing = np.zeros(BUTTONS, np.float32)
    draft = Draft(circle([0.7])[0][0].numpy(), 12.0)
    alone, half, near = (
        fill.extrapolate(latents, times, nothing, 10),
        fill.interpolate(latents, times, nothing, 10, draft),
        fill.interpolate(latents, times, nothing, 11.999, draft),
    )
    np.testing.assert_allclose(near, draft.latent, atol=5e-3)
    assert on_sphere(torch.from_numpy(half)) and np.abs(alone - latents[-1]).max() > 1e-3
    assert np.square(half - draft.latent).sum() < np.square(alone - draft.latent).sum()


def test_weights_without_an_extrapolator_load_and_fall_back_to_the_sphere_map(tmp_path):
    config = store_tiny(tmp_path)
    (tmp_path / "extrapolator.safetensors.gz").unlink(missing_ok=True)
    store(tmp_path, config, {})
    assert not has_part(tmp_path, "extrapolator")
    made = load_backend("racing", weights=str(tmp_path)).extrapolator()
    assert isinstance(made, SphereExtrapolator) and not made.uses_buttons


def test_packing_one_part_keeps_the_shapes_of_the_others(weights):
    kept = packed_config("racing", weights, {"extrapolator": {}}, {})
    assert kept.world == tiny_config().world and kept.autoencoder == tiny_config().autoencoder
    assert kept.extrapolator != tiny_config().extrapolator


def test_a_new_encoder_drops_the_extrapolator_of_the_old_one(tmp_path):
    store_tiny(tmp_path)
    drop_stale(tmp_path, {"world"})
    assert (tmp_path / "extrapolator.safetensors.gz").exists()
    drop_stale(tmp_path, {"encoder", "decoder"})
    assert not (tmp_path / "extrapolator.safetensors.gz").exists()


# -- training -----------------------------------------------------------------------------------------


def stub_runs(count: int, frames: int = 25) -> Runs:
    """Worlds whose tokens turn steadily; button 0 makes them turn the other way."""
    torch.manual_seed(0)
    start, side = sphere(count, CHANNELS, 10, 15), sphere(count, CHANNELS, 10, 15, seed=9)
    side = to_sphere(maps.tangential(start, side), -3)
    buttons = (torch.rand(count, 1, BUTTONS) < 0.5).float().expand(-1, frames, -1).clone()
    angles = torch.arange(frames) * 0.05 * (1 - 2 * buttons[:, :1, 0])
    angles = angles[..., None, None, None]
    latents = start[:, None] * angles.cos() + side[:, None] * angles.sin()
    calm, alike = torch.zeros(count, frames, dtype=torch.bool), torch.ones(count, frames, 10, 15)
    return Runs(latents.to(torch.bfloat16), buttons, calm, alike)


def test_windows_reach_as_far_as_they_say(tmp_path):
    save_runs(tmp_path / "runs.safetensors", stub_runs(8))
    batch = windows(load_runs(tmp_path / "runs.safetensors"), 256)
    assert batch.strides.min() == 1 and batch.strides.max() == 8
    assert (batch.aheads >= 1).all() and (batch.aheads <= 2 * batch.strides).all()
    turn = maps.log_map(batch.newest, batch.truth).square().mean(1).sqrt().mean((1, 2))
    torch.testing.assert_close(turn, batch.aheads * 0.05, atol=0.02, rtol=0)
    back = maps.log_map(batch.newest, batch.before).square().mean(1).sqrt().mean((1, 2))
    torch.testing.assert_close(back, batch.strides * 0.05, atol=0.02, rtol=0)


def test_windows_with_a_draft_lie_between_it_and_the_newest_latent():
    batch = windows(stub_runs(8), 256, drafted=0.5)
    has = batch.drafted
    assert 0.2 < has.float().mean() < 0.7 and (batch.strides[has] > 1).all()
    assert (batch.aheads[has] >= 1).all() and (batch.aheads[has] < batch.strides[has]).all()
    turn = maps.log_map(batch.newest, batch.draft).square().mean(1).sqrt().mean((1, 2))
    torch.testing.assert_close(turn, batch.strides * has * 0.05, atol=0.02, rtol=0)
    assert not windows(stub_runs(8), 64).drafted.any()


def test_noise_that_inputs_share_with_the_truth_keeps_them_on_the_sphere():
    batch = noisy(windows(stub_runs(4), 32))
    assert all(on_sphere(z) for z in (batch.before, batch.newest, batch.truth))


def test_a_few_updates_reduce_the_loss_on_a_stub_world():
    torch.manual_seed(0)
    runs, metric = stub_runs(16), Metric(torch.eye(CHANNELS))
    net = ExtrapolatorNet(tiny_config())
    model, training = Step(net, metric), Training(net, 1e6, lr=3e-3, muon_lr=None, warmup=5)
    removed = []
    for _ in range(60):
        loss, errors, _ = model(windows(runs, 16), None)
        training.backward(loss)
        training.apply()
        removed.append(float(1 - errors[0, 0] / errors[0, 2]))
    assert sum(removed[:5]) / 5 < 0.2
    assert sum(removed[-5:]) / 5 > 0.6


def test_a_few_updates_teach_the_way_to_a_draft_on_a_stub_world():
    """Whose tokens go round on small circles: the way there bows out from the great one."""
    torch.manual_seed(0)
    middle, right, up = torch.linalg.qr(torch.randn(CHANNELS, 3))[0].T.reshape(3, CHANNELS, 1, 1) * 4
    turns = (torch.arange(25) * 0.2 + torch.rand(16, 1) * 6)[..., None, None, None]
    latents = 0.6 * middle + 0.8 * (right * turns.cos() + up * turns.sin())
    latents = latents.expand(-1, -1, -1, 10, 15).to(torch.bfloat16)
    calm, alike = torch.zeros(16, 25, dtype=torch.bool), torch.ones(16, 25, 10, 15)
    runs = Runs(latents, torch.zeros(16, 25, BUTTONS), calm, alike)
    net = ExtrapolatorNet(tiny_config())
    model = Step(net, Metric(torch.eye(CHANNELS)))
    training = Training(net, 1e6, lr=3e-3, muon_lr=None, warmup=5)
    ratios = []
    for _ in range(60):
        loss, errors, _ = model(windows(runs, 32, drafted=1.0, usual=1.0), None)
        training.backward(loss)
        training.apply()
        ratios.append(float(errors[1, 0] / errors[1, 1]))
    assert ratios[0] == pytest.approx(1.0, abs=1e-3)  # the great circle, while it knows nothing
    assert sum(ratios[-5:]) / 5 < 0.8


def test_a_network_without_drafts_is_gone_on_from_and_is_the_same_without_one(tmp_path):
    config = tiny_config()
    plain = shaken(ExtrapolatorNet(without_drafts(config)))
    save_file({f"extrapolator.{k}": v for k, v in plain.state_dict().items()}, tmp_path / "x.safetensors")
    net = ExtrapolatorNet(config)
    train_extrapolator.resume(net, config, tmp_path / "x.safetensors")
    latents, times = steps([0.0, 0.2, 0.4])
    old, new = (
        learned(one).extrapolate(latents, times, np.ones(BUTTONS, np.float32), 10) for one in (plain, net)
    )
    np.testing.assert_allclose(old, new, atol=1e-6)
    wide = replace(config, extrapolator=replace(config.extrapolator, width=32))
    with pytest.raises(WeightsError, match="sizes"):
        train_extrapolator.resume(ExtrapolatorNet(wide), wide, tmp_path / "x.safetensors")


def test_edges_that_are_soft_cost():
    class Straight(torch.nn.Module):
        def forward(self, z):
            return z[:, :3]

    sharp = torch.zeros(1, 3, 32, 32)
    sharp[..., 16:] = 1.0
    soft = torch.nn.functional.avg_pool2d(sharp, 5, 1, 2)
    loss = train_extrapolator.PixelLoss(Straight(), 0.0, 1.0)
    alike = torch.ones(1, 1, 2, 2)
    assert loss(soft, sharp, alike) > 0.01 and loss(sharp, sharp, alike) == 0


def test_what_counts_more_costs_more():
    torch.manual_seed(0)
    runs, net = stub_runs(8), ExtrapolatorNet(tiny_config())
    runs.weights[..., :5, :] = 3.0
    batch = windows(runs, 16)
    torch.testing.assert_close(batch.weights.mean((1, 2, 3)), torch.ones(16))
    assert batch.weights.amax() == pytest.approx(1.5) and batch.weights.amin() == pytest.approx(0.5)
    # The upper half is far off, then the lower one: same errors, other weights.
    upper = torch.zeros(10, 15)
    upper[:5] = 1
    off = [
        replace(batch, truth=torch.where(half > 0, -batch.newest, batch.newest))
        for half in (upper, 1 - upper)
    ]
    step = Step(net, Metric(torch.eye(CHANNELS)))
    losses = [step(one, None)[0].item() for one in off]
    pixels = train_extrapolator.PixelLoss(lambda z: z[:, :3], 1.0, 0.0)
    shown = [float(pixels(one.newest, one.truth, one.weights)) for one in off]
    assert losses[0] > 2 * losses[1] and shown[0] == pytest.approx(3 * shown[1], rel=0.3)


def test_the_fitted_combination_beats_hold_on_a_great_circle():
    fit = CombinationFit(Metric(torch.eye(CHANNELS)), "cpu")
    for _ in range(20):
        fit.add(windows(stub_runs(16), 64))
    net = ExtrapolatorNet(tiny_config())
    net.coefficients.copy_(fit.coefficients())
    batch = windows(stub_runs(16), 64)
    by = net.combined(batch.strides, batch.aheads, batch.deep)
    made = maps.combination(batch.oldest, batch.before, batch.newest, by)
    assert (made - batch.truth).square().mean() < 0.1 * (batch.newest - batch.truth).square().mean()


def test_the_decoders_metric_weighs_what_the_picture_shows():
    class OneChannel(torch.nn.Module):
        def forward(self, z):
            return z[:, 3:4].expand(-1, 3, -1, -1)

    metric = decoder_metric(OneChannel(), sphere(2, CHANNELS, 10, 15), rounds=4)
    seen, unseen = torch.zeros(2, 1, CHANNELS, 1, 1)
    seen[:, 3], unseen[:, 4] = 1, 1
    assert metric.squared(seen) > 50 * metric.squared(unseen)


def test_runs_come_from_the_simulator_with_buttons_and_events():
    from engine.training.data import Simulation

    bank = RunBank(
        Simulation("platformer", 2, "cpu"),
        lambda pictures: sphere(len(pictures), CHANNELS, 10, 15),
        size=2,
        frames=3,
        gap=(1, 4),
    )
    bank.refresh()
    bank.refresh()
    runs = bank.runs()
    assert runs.latents.shape == (2, 3, CHANNELS, 10, 15)
    assert runs.buttons.shape == (2, 3, 3) and set(runs.buttons.unique().tolist()) <= {0.0, 1.0}
    assert runs.eventful.shape == (2, 3)
    assert runs.weights.shape == (2, 3, 10, 15) and runs.weights.min() == 1 and runs.weights.max() > 1


def test_tokens_of_what_moves_by_itself_count_most():
    classes = torch.zeros(1, 480, 720, dtype=torch.uint8)
    classes[:, :48, :48], classes[:, :48, 48:96] = 1, 2
    weights = filled_weights(classes, [2])[0]
    assert weights[0, :3].tolist() == [5.0, 5.0 * MOVERS_TIMES, 1.0]


def test_runs_of_another_version_are_refused(tmp_path):
    save_file({"latents": torch.zeros(1)}, tmp_path / "runs.safetensors")
    with pytest.raises(WeightsError, match="remove it"):
        load_runs(tmp_path / "runs.safetensors")


def test_told_features_have_the_buttons_and_the_time():
    told = time_features(torch.ones(1, BUTTONS), torch.tensor([4.0]), torch.tensor([6.0]))
    assert told.tolist() == [[1.0] * BUTTONS + [0.5, 0.75, 1.5, 0.25]]


def test_the_stage_writes_what_pack_packs(weights, tmp_path, monkeypatch):
    stage = ["extrapolator", "racing", "--weights", str(weights), "--out", str(tmp_path), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*stage, "--small", "--updates", "2", "--minutes", "5"])
    train_extrapolator.main()
    (state,) = read_parts("racing", tmp_path).values()
    net = build(tiny_config(), "extrapolator")
    net.load_state_dict(state)
    assert state["coefficients"].shape == (2, 8, 16, 3)
    again = [*stage, "--small", "--updates", "1", "--pixels", "1", "--resume"]
    monkeypatch.setattr(sys, "argv", [*again, str(tmp_path / "racing-extrapolator.safetensors")])
    train_extrapolator.main()
    monkeypatch.setattr(sys, "argv", [*again, str(weights)])
    train_extrapolator.main()


def test_training_only_the_way_to_a_draft_leaves_the_rest_as_it_was(weights, tmp_path, monkeypatch):
    stage = ["extrapolator", "racing", "--weights", str(weights), "--out", str(tmp_path), "--device", "cpu"]
    small = ["--small", "--updates", "3", "--minutes", "5", "--only-drafts", "--resume", str(weights)]
    monkeypatch.setattr(sys, "argv", stage + small)
    train_extrapolator.main()
    (state,) = read_parts("racing", tmp_path).values()
    old = load_part(weights, "extrapolator").state_dict()
    changed = {
        name for name, value in old.items() if not torch.equal(value.bfloat16(), state[name].bfloat16())
    }
    assert changed and all(name.startswith("draft.") for name in changed)


# -- the benchmark ------------------------------------------------------------------------------------


def test_clips_are_sorted_into_cases_by_what_happens_on_their_way():
    held, eventful = torch.zeros(900, 1, dtype=torch.int64), torch.zeros(900, 1, dtype=torch.bool)
    held[500:] = 1
    eventful[700] = True
    scouted = Scouted(torch.tensor([1]), held, eventful)
    assert scouted.case(0, 498, 4, 1) == "steady"
    assert scouted.case(0, 498, 4, 2) == "buttons"
    assert scouted.case(0, 699, 4, 1) == "events"
    assert scouted.case(0, 703, 4, 4) == "events"
    assert scouted.case(0, 704, 4, 4) == "steady"
    chosen, shares = choose(scouted, 4, {"steady": 2, "buttons": 1, "events": 1})
    assert len(chosen) == 4 and abs(sum(shares.values()) - 1) < 0.01


def test_bench_ends_with_one_json_line(weights, monkeypatch, capsys):
    pytest.importorskip("openvino")
    options = ["--clips", "1", "--seeds", "1", "--frames", "280", "--stride", "2", "--threads", "1", "--json"]
    monkeypatch.setattr(sys, "argv", ["bench", "racing", "--weights", str(weights), *options])
    extrapolation.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])["racing"]
    figures = result["as_played"]["1"]["learned"]
    assert set(figures) == {"psnr_db", "ssim", "excess_mse_removed"}
    assert result["as_played"]["1"]["hold"]["excess_mse_removed"] in (0.0, None)
    assert result["key_to_pixel_frames"]["without"] == 1.5
