"""The world model's step in Triton against the readable one: in Triton's interpreter on the CPU, on the GPU
itself where there is one."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from engine.config import WorldConfig
from engine.fast import cuda_graph
from engine.fast.cuda_graph import GraphWorld, make_body, plain_body
from engine.fast.fused_world import FusedStep
from engine.fast.many_step import LEAST_ROWS, ManyStep, takes
from engine.fast.static_world import Controls, StaticWorld
from engine.models.world_model import WorldModel
from tests.tiny import DEVICE, ON_GPU, shaken, tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")


def stepped(world: StaticWorld, steps: int) -> list[tuple[np.ndarray, ...]]:
    """Latents, telemetry after each step; every second world waits now and then."""
    config, random = world.config, np.random.default_rng(0)
    for i in range(world.slots):
        world.forget(i)
        start = random.standard_normal((2, config.channels, config.rows, config.columns)).astype(np.float32)
        start /= np.sqrt((start**2).mean(1, keepdims=True))
        world.place(i, start[0], start[1], random.random(config.telemetry))
    made = []
    for t in range(steps):
        active = np.array([1.0, t % 3 != 1] * world.slots)[: world.slots]
        buttons = random.random((world.slots, config.buttons))
        noise, strides = (
            random.standard_normal((world.slots, config.noise)),
            np.full(world.slots, 1.0 + t % 8),
        )
        world.step(Controls(buttons, noise, strides, active).packed())
        made.append(tuple(part.copy() for part in world.all_made()))
    return made


def small(**changed: int) -> WorldConfig:
    """Few tokens: the interpreter is slow."""
    return replace(tiny_config().world, rows=2, columns=3, context=2, layers=2, time_layers=(1,), **changed)


def model_of(config: WorldConfig) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(config)
    shaken(model)
    return model.to(DEVICE)


@pytest.mark.parametrize("body", [FusedStep, ManyStep])
@pytest.mark.parametrize("worlds, sizes", [(2, {"width": 80, "registers": 8}), (1, {})], ids=str)
def test_fused_step_gives_the_static_one_past_its_rollover(worlds, sizes, body):
    model = model_of(small(**sizes))
    plain, fused = (
        GraphWorld(model, worlds, torch.float32, capture=False, body=b) for b in (plain_body, body)
    )
    for expected, made in zip(stepped(plain, 4), stepped(fused, 4)):
        np.testing.assert_allclose(made[0], expected[0], atol=1e-3 if ON_GPU else 3e-5)
        np.testing.assert_allclose(made[1], expected[1], atol=1e-3 if ON_GPU else 3e-5)
    torch.testing.assert_close(fused.ring, plain.ring, atol=1e-3, rtol=1e-3)
    assert torch.equal(fused.number, plain.number) and torch.equal(fused.bias, plain.bias)


def test_many_worlds_take_large_products(monkeypatch):
    monkeypatch.setattr(cuda_graph, "has_kernels", lambda device: True)
    model = model_of(replace(tiny_config().world, layers=1, time_layers=(0,)))
    tokens = model.config.tokens
    enough = -(-LEAST_ROWS // tokens)
    few, many = (StaticWorld(model, n, torch.float32) for n in (enough - 1, enough))
    assert not takes(few) and takes(many)
    assert make_body(few) is FusedStep and make_body(many) is ManyStep
    crumbs = StaticWorld(model_of(small()), LEAST_ROWS, torch.float32)
    assert make_body(crumbs) is FusedStep, "a tile would have rows of three worlds"
    monkeypatch.setattr(cuda_graph, "has_kernels", lambda device: False)
    assert make_body(many) is plain_body


HOPPER = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import torch
from engine.fast import world_kernels as kernels
from engine.fast.fused_world import chosen_tile

def compile(kernel, floats, values, warps=4, stages=3):
    names = kernel.arg_names
    kinds = {name: "*bf16" if name.endswith("_pointer") else "i32" for name in names if name not in values}
    kinds |= {name + "_pointer": "*fp32" for name in floats if name + "_pointer" in kinds}
    kinds |= {name + "_pointer": "*i64" for name in ("number", "slot") if name + "_pointer" in kinds}
    kinds |= {"rates_pointer": "*fp64"} if "rates_pointer" in kinds else {}
    kinds |= {"scale": "fp32"} if "scale" in kinds else {}
    source = ASTSource(
        kernel,
        {name: kinds.get(name, "constexpr") for name in names},
        {(names.index(name),): value for name, value in values.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in kinds if name.endswith("_pointer")},
    )
    options = {"num_warps": warps, "num_stages": stages}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert made.asm["cubin"] and made.metadata.shared <= 227 * 1024
    return made.asm["ptx"]

none = dict(NORM=False, SHIFT=-1, SILU=False, BIAS=False, GELU=False, RESIDUAL=False, GATE=-1)
ways = [
    (320, 960, dict(NORM=True, SHIFT=0), ("x", "modulation")),
    (320, 1280, dict(NORM=True, SHIFT=3, GELU=True), ("x", "modulation")),
    (1280, 320, dict(RESIDUAL=True, GATE=5), ("out", "modulation")),
    (320, 140, dict(NORM=True, BIAS=True), ("x", "modulation", "out")),
]
for rows, projections in ((160, ways), (160 * 256, ways), (1, [(57, 320, dict(SILU=True, BIAS=True), ())])):
    for k, n, how, floats in projections:
        bm, bn, bk, warps, stages = chosen_tile(rows, n, k, torch.bfloat16)
        values = none | how | dict(K=k, N=n, WIDTH=320, ALONE=160 % bm == 0, PRECISION="ieee")
        values |= dict(BM=bm, BN=bn, BK=bk)
        assert "mma" in compile(kernels.project, floats, values, warps, stages)
scales = ("q_scale", "k_scale", "turn")
for block in (16, 64):
    values = dict(HEADS=8, WIDE=40, PRECISION="ieee", BM=block, BN=64, BD=64)
    compile(kernels.attend, scales, values, stages=2)
compile(kernels.attend_past, scales, dict(HEADS=8, HALF=20, CONTEXT=16, BT=4, BC=16, BH=32))
state = ("controls", "told", "condition", "turn", "change", "latent", "previous")
sizes = dict(BUTTONS=4, STRIDES=8, TOLD=12, NOISE=32, CONTEXT=16, HALF=20, BLOCK=64)
compile(kernels.begin, state, sizes, 1)
compile(kernels.file, state, dict(CHANNELS=128, TOLD=12, CONTROLS=38, BT=8, BC=128))
"""


def test_kernels_compile_for_hopper_without_one(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", HOPPER], env=environment, check=True, timeout=300)


@pytest.mark.gpu
@pytest.mark.parametrize("worlds, body", [(1, FusedStep), (24, FusedStep), (1, ManyStep), (24, ManyStep)])
def test_captured_fused_step_stays_near_and_repeats_itself(worlds, body):
    model = model_of(replace(tiny_config().world, width=320, heads=8, channels=128, registers=8))
    plain = stepped(GraphWorld(model, worlds, torch.float32, body=plain_body), 8)
    world = GraphWorld(model, worlds, body=body)
    first, again = stepped(world, 8), stepped(world, 8)
    for expected, made, same in zip(plain, first, again):
        assert np.sqrt(np.mean((made[0] - expected[0]) ** 2)) < 0.04
        assert np.array_equal(made[0], same[0]) and np.array_equal(made[1], same[1])
