"""engine/fast/static_world and cuda_graph against the readable model: uncaptured on the CPU, captured where
there is CUDA (marked gpu)."""

from functools import partial

import numpy as np
import pytest
import torch

from engine.backend import Opening
from engine.config import WorldConfig
from engine.fast.cuda_graph import GraphDecoder, GraphWorld, compiled_body, plain_body
from engine.fast.dream import Dream
from engine.fast.pipeline import Pipeline, Shown
from engine.fast.static_dream import StaticDream
from engine.fast.static_world import Controls, StaticWorld
from engine.fast.torch_backend import TorchStep
from engine.models.autoencoder import Decoder, to_bytes
from engine.models.world_model import WorldModel
from tests.tiny import shaken, tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 13  # the tiny ring holds 5
TICKS = 5


def tiny_world() -> WorldModel:
    model = WorldModel(tiny_config().world)
    shaken(model)
    return model


def opening(config: WorldConfig, steps: int = 3, seed: int = 0) -> Opening:
    random = np.random.default_rng(seed)
    latents = random.standard_normal((steps, config.channels, 10, 15)).astype(np.float32)
    latents /= np.sqrt((latents**2).mean(1, keepdims=True))
    buttons = random.random((steps, config.buttons)).astype(np.float32)
    telemetry = random.random((steps, config.telemetry)).astype(np.float32)
    return Opening(latents, buttons, np.full(steps, 4), telemetry)


def dreamed(dream: Dream, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Opening and STEPS steps: latents [T, C, H, W], telemetry [T, F]."""
    expected = dream.open(opening(dream.config), noise_seed=seed)
    random = np.random.default_rng(1)
    steps = [
        dream.step(random.random(dream.config.buttons).astype(np.float32), 1 + t % 8) for t in range(STEPS)
    ]
    return np.concatenate((expected, [s.latent for s in steps])), np.stack([s.telemetry for s in steps])


def test_static_ring_gives_the_dream_past_its_rollover():
    model = tiny_world()
    latents, telemetry = dreamed(Dream("racing", model.config, TorchStep(model, torch.float32)))
    quick = StaticDream("racing", StaticWorld(model))
    for _ in range(2):  # opened again, nothing of the first dream is left
        made, told = dreamed(quick)
        np.testing.assert_allclose(made, latents, atol=2e-5)
        np.testing.assert_allclose(told, telemetry, atol=1e-3, rtol=1e-4)


def test_compiled_step_gives_the_dream_past_its_rollover(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # all but the codegen
    model = tiny_world()
    latents, _ = dreamed(Dream("racing", model.config, TorchStep(model, torch.float32)))
    quick = StaticDream("racing", GraphWorld(model, dtype=torch.float32, capture=False, body=compiled_body))
    np.testing.assert_allclose(dreamed(quick)[0], latents, atol=2e-5)


def test_worlds_keep_their_own_numbers_and_a_waiting_one_keeps_its_state():
    model = tiny_world()
    config = model.config
    both, random = StaticWorld(model, worlds=2), np.random.default_rng(4)
    alone = [StaticWorld(model) for _ in range(2)]
    latents = [opening(config, seed=i).latents[0] for i in range(2)]
    for i in range(2):
        for world, slot in ((both, i), (alone[i], 0)):
            world.place(slot, latents[i], latents[i], np.zeros(config.telemetry))
    for t in range(STEPS):
        controls = random_controls(random, config, 2)
        controls = Controls(controls.buttons, controls.noise, controls.strides, np.array([1, t % 3 == 1]))
        both.step(controls.packed())
        for i in range(2):
            if controls.active[i]:
                alone[i].step(controls.packed()[i : i + 1])
    for i in range(2):
        for made, expected in zip(both.made(i), alone[i].made(0)):
            np.testing.assert_allclose(made, expected, atol=2e-5)


def test_bfloat16_stays_near_and_keeps_its_ring_in_it():
    model = tiny_world()
    world = StaticWorld(model, dtype=torch.bfloat16)
    latents = dreamed(Dream("racing", model.config, TorchStep(model, torch.float32)))[0]
    made = dreamed(StaticDream("racing", world))[0]
    assert world.ring.dtype == torch.bfloat16 and world.latent.dtype == torch.float32
    assert np.sqrt(np.mean((made[:4] - latents[:4]) ** 2)) < 0.05


def random_controls(random: np.random.Generator, config: WorldConfig, worlds: int) -> Controls:
    return Controls(
        random.random((worlds, config.buttons)),
        random.standard_normal((worlds, config.noise)),
        random.integers(1, 9, worlds).astype(np.float32),
        np.ones(worlds),
    )


def tiny_decoder(device: str = "cpu") -> Decoder:
    torch.manual_seed(1)
    model = Decoder(tiny_config().autoencoder)
    shaken(model)
    return model.to(device)


def test_decoder_on_static_buffers_gives_the_models_bytes():
    model = tiny_decoder()
    quick = GraphDecoder(model, (16, 10, 15), dtype=torch.float32, capture=False)
    for latent in opening(tiny_config().world).latents:
        expected = to_bytes(model(torch.from_numpy(latent)[None]))[0].numpy()
        made = quick.decode(latent)
        assert made.shape == (480, 720, 3) and made.flags.c_contiguous and made.flags.owndata
        assert np.abs(made.astype(int) - expected).max() <= 1 and (made != expected).mean() < 1e-3


def piped(device: str, dtype: torch.dtype, capture: bool) -> tuple[list[Shown], list[np.ndarray]]:
    """TICKS ticks through a pipeline, and the latents of the same steps in order."""
    model, decoder = tiny_world().to(device), tiny_decoder(device)
    config = model.config
    worlds = [GraphWorld(model, 2, dtype, capture=capture) for _ in range(2)]
    decoders = [GraphDecoder(decoder, (16, 10, 15), 2, dtype, capture) for _ in range(2)]
    pipeline, random = Pipeline(worlds[0], decoders), np.random.default_rng(7)
    latents, shown = [], []
    for world in worlds:
        for i in range(2):
            start = opening(config, seed=i).latents[0]
            world.place(i, start, start, np.zeros(config.telemetry))
    for _ in range(TICKS):
        controls = random_controls(random, config, 2).packed()
        if (done := pipeline.push(controls)) is not None:
            shown.append(Shown(done.tick, done.pictures.copy(), done.told.copy()))
        worlds[1].step(controls)
        latents.append(worlds[1].latent.cpu().numpy().copy())
    return shown + [Shown(s.tick, s.pictures.copy(), s.told.copy()) for s in pipeline.flush()], latents


def check_piped(device: str, dtype: torch.dtype, capture: bool) -> None:
    shown, latents = piped(device, dtype, capture)
    assert [s.tick for s in shown] == list(range(TICKS))
    decoder = GraphDecoder(tiny_decoder(device), (16, 10, 15), dtype=dtype, capture=False)
    for one, latent in zip(shown, latents):
        off = np.abs(one.pictures[1].astype(int) - decoder.decode(latent[1]))
        assert off.max() <= (3 if device == "cuda" else 1)
        assert device == "cuda" or (off > 0).mean() < 1e-3


def test_pipeline_shows_every_tick_in_order():
    check_piped("cpu", torch.float32, capture=False)


# -- on a GPU: captured, in bfloat16 ------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("body", [None, plain_body, compiled_body])
def test_captured_step_gives_the_dream_past_its_rollover(body):
    model = tiny_world()
    latents, _ = dreamed(Dream("racing", model.config, TorchStep(model, torch.float32)))
    world = GraphWorld(model.cuda(), dtype=torch.float32, body=body)
    np.testing.assert_allclose(dreamed(StaticDream("racing", world))[0], latents, atol=5e-3)  # TF32
    half = dreamed(StaticDream("racing", GraphWorld(model, body=body)))[0]
    assert np.sqrt(np.mean((half - latents) ** 2)) < 0.05


@pytest.mark.gpu
def test_captured_pipeline_shows_every_tick_in_order():
    check_piped("cuda", torch.bfloat16, capture=True)


@pytest.mark.gpu
def test_captured_decoder_gives_the_models_bytes():
    model = tiny_decoder("cuda")
    quick, latent = GraphDecoder(model, (16, 10, 15)), opening(tiny_config().world).latents[0]
    expected = to_bytes(model(torch.from_numpy(latent)[None].cuda()))[0].cpu().numpy()
    assert np.abs(quick.decode(latent).astype(int) - expected).mean() < 1
