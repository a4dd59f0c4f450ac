"""The models: one-step form against the whole clip, the sphere, telemetry's scale, configs, the score."""

import json

import pytest
import torch

from engine.config import ConfigError, GameConfig, WorldConfig
from engine.models.autoencoder import Decoder, Encoder, from_bytes, to_bytes
from engine.models.extrapolator import extrapolate
from engine.models.layers import perturb_on_sphere, rotary, to_sphere
from engine.models.telemetry import TelemetryScale
from engine.models.world_model import Inputs, WorldModel
from engine.training.score import Made, energy_score
from games import GAMES
from tests.tiny import shaken, tiny_config


def random_inputs(config: WorldConfig, batch: int, steps: int) -> Inputs:
    return Inputs(
        buttons=torch.rand(batch, steps, config.buttons),
        strides=torch.randint(1, 9, (batch, steps)).float(),
        telemetry=torch.randn(batch, steps, config.telemetry) * 0.3,
        context_noise=torch.zeros(batch, steps),
        noise=torch.randn(batch, steps, config.noise),
    )


def test_ring_of_keys_and_values_gives_what_the_whole_clip_gives_across_rollover():
    config = tiny_config().world
    model = shaken(WorldModel(config))
    steps = 3 * config.context
    latents = to_sphere(torch.randn(1, steps, config.channels, 10, 15), 2)
    previous = torch.cat((latents[:, :1], latents[:, :-1]), 1)
    inputs = random_inputs(config, 1, steps)
    whole, whole_telemetry = model(latents, previous, inputs)
    slots = config.context - 1
    ring = torch.zeros(len(config.time_layers), 2, slots, config.tokens, config.heads, config.head_width)
    bias = torch.full((slots,), -1e9)
    for t in range(steps):
        one = Inputs(*(value[:, t : t + 1] for value in vars(inputs).values()))
        cos, sin = rotary(torch.tensor(t), config.head_width)
        made, telemetry, entries = model.step(latents[:, t], previous[:, t], one, cos, sin, ring, bias)
        ring[:, :, t % slots], bias[t % slots] = entries, 0
        torch.testing.assert_close(made, whole[:, t], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(telemetry, whole_telemetry[:, t], atol=2e-5, rtol=1e-4)


def test_world_model_sees_no_future_and_no_more_than_its_context():
    config = tiny_config().world
    model = shaken(WorldModel(config))
    steps = 12
    latents = to_sphere(torch.randn(1, steps, config.channels, 10, 15), 2)
    inputs = random_inputs(config, 1, steps)
    before = model(latents, latents, inputs)[0]
    changed = latents.clone()
    changed[:, 4] = to_sphere(torch.randn(1, config.channels, 10, 15), 1)
    after = model(changed, changed, inputs)[0]
    same = torch.isclose(before, after, atol=1e-5).flatten(2).all(-1)[0]
    assert same[:4].all()
    assert not same[4 : 4 + config.context].any()
    # Two layers over time reach twice the window back, no further.
    assert same[4 + 2 * config.context - 1 :].all()


def test_buttons_stride_and_noise_change_the_next_latent():
    config = tiny_config().world
    model = shaken(WorldModel(config))
    latents = to_sphere(torch.randn(1, 2, config.channels, 10, 15), 2)
    inputs = random_inputs(config, 1, 2)
    base = model(latents, latents, inputs)[0]
    for name in ("buttons", "strides", "noise", "telemetry"):
        changed = Inputs(**{**vars(inputs), name: 1 + getattr(inputs, name)})
        assert (model(latents, latents, changed)[0] - base).abs().max() > 1e-4, name


def test_latents_live_on_the_sphere():
    config = tiny_config()
    latents = Encoder(config.autoencoder)(torch.rand(2, 3, 96, 144))
    assert latents.shape == (2, 16, 2, 3)
    torch.testing.assert_close(latents.square().mean(1), torch.ones(2, 2, 3), atol=1e-3, rtol=0)
    moved = perturb_on_sphere(latents, 0.3, torch.randn_like(latents), dim=1)
    torch.testing.assert_close(moved.square().mean(1), torch.ones(2, 2, 3), atol=1e-3, rtol=0)


def test_decoder_split_into_bands_with_a_halo_is_exact():
    decoder = shaken(Decoder(tiny_config().autoencoder))
    latents = torch.randn(1, 16, 10, 15)
    whole, top = decoder(latents), decoder(latents[:, :, :8])
    # The tiny decoder reaches 4.5 latent rows: of 8 rows the first 3 cannot know that the rest is missing.
    torch.testing.assert_close(top[:, :, :144], whole[:, :, :144], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(top[:, :, 336:], whole[:, :, 336:384], atol=1e-5)


def test_bytes_survive_the_way_to_floats_and_back():
    pictures = torch.arange(256, dtype=torch.uint8).repeat(3, 16).view(1, 64, 64, 3)
    assert torch.equal(to_bytes(from_bytes(pictures)), pictures)


def test_extrapolation_continues_a_great_circle_and_holds_what_it_does_not_trust():
    a = torch.zeros(1, 4, 1, 2)
    a[:, 0] = 2.0
    b = a.clone()
    angle = 0.2
    b[:, 0, :, 0], b[:, 1, :, 0] = 2 * torch.cos(torch.tensor(angle)), 2 * torch.sin(torch.tensor(angle))
    b[:, 0, :, 1], b[:, 1, :, 1] = 0.0, 2.0  # a right angle: not trusted
    made = extrapolate(a, b, 1.0, gain=1.0, trust_cos=0.5)
    gate = (torch.cos(torch.tensor(angle)) - 0.5) / 0.5
    torch.testing.assert_close(
        torch.atan2(made[0, 1, 0, 0], made[0, 0, 0, 0]), angle * (1 + gate), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(made[..., 1], b[..., 1])


@pytest.mark.parametrize("game", GAMES)
def test_telemetry_survives_the_way_to_the_models_terms_and_back(game):
    spec = GAMES[game]
    scale = TelemetryScale(spec.telemetry)
    before = torch.tensor([(f.low + f.high) / 2 if f.kind != "flag" else 0.0 for f in spec.telemetry])
    move = {
        "value": lambda f: (f.high - f.low) / 8,
        "flag": lambda f: 1.0,
        "count": lambda f: f.high * 2,
        "event": lambda f: 1.0,
    }
    now = before + torch.tensor([move[f.kind](f) for f in spec.telemetry])
    back = scale.in_units(scale.scaled(now, before, torch.tensor(4.0)), before, 4)
    torch.testing.assert_close(back, now, atol=1e-4, rtol=1e-4)


def expected_score(samples, futures, weights):
    """Two samples against each of two futures that are as likely."""
    scores = [energy_score(samples, truth, weights) for truth in futures]
    return sum(score.loss for score in scores) / 2


def test_energy_score_prefers_two_samples_that_cover_two_futures_to_their_average():
    torch.manual_seed(0)
    latents, told = to_sphere(torch.randn(2, 1, 1, 16, 10, 15), 3), torch.randn(2, 1, 1, 5)
    weights = torch.ones(1, 1, 10, 15)
    futures = [Made(z, t) for z, t in zip(latents, told)]
    average = Made(latents.mean(0), told.mean(0))
    pairs = [[a, b] for a in futures for b in futures]
    covering = sum(expected_score(pair, futures, weights) for pair in pairs) / 4
    assert covering < expected_score([average, average], futures, weights)


def test_energy_score_prefers_telemetry_that_belongs_to_its_picture():
    torch.manual_seed(0)
    latents, told = to_sphere(torch.randn(2, 1, 1, 16, 10, 15), 3), torch.randn(2, 1, 1, 5)
    weights = torch.ones(1, 1, 10, 15)
    futures = [Made(z, t) for z, t in zip(latents, told)]
    swapped = [Made(z, t) for z, t in zip(latents, told.flip(0))]
    assert expected_score(futures, futures, weights) < expected_score(swapped, futures, weights)


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"world": {"heads": 3}},
        {"world": {"width": "wide"}},
        {"world": {"colour": 1}},
        {"autoencoder": []},
    ],
)
def test_impossible_configs_raise_config_errors(change):
    with pytest.raises(ConfigError):
        GameConfig.from_json({**tiny_config().to_json(), **change})


def test_config_survives_json():
    config = tiny_config()
    assert GameConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
