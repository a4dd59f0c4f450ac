"""A whole step of a StaticWorld by the kernels of engine/fast/world_kernels.py.

The way of a step, 13.7 M parameters, 9 layers of which 3 look back, some 70 kernels for eager's 375:
    begin                     conditions, rotary angles, the ring's slot
    project x 3               conditions -> shared modulation; all layers' modulation is one sum
    conv, sum, project x 2    latents, buttons and telemetry -> tokens (the convolution is PyTorch's)
    a layer that looks back   project (norm inside) | attend_past (q/k norm, rotary, ring) | project (sum)
    every layer               project (norm, modulation inside) | attend (q/k norm) | project (gate, residual)
                              project (norm, modulation, GELU) | project (gate, residual)
    heads                     project (norm) | file (sphere, active worlds, telemetry, number)

Residuals are added in place: no two programs write one place, so the same step gives the same bytes. What may
come next stands in engine/bench/STEP.md."""

import math
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from engine.fast import world_kernels as kernels
from engine.fast.packed_weights import Affine, LayerWeights, TimeWeights
from engine.fast.static_world import StaticWorld

_PROCESSORS = 132  # of an H200
# What `tuned` tries: BM, BN, BK, warps, stages.
_CONFIGS = [
    triton.Config({"BM": bm, "BN": bn, "BK": bk}, num_warps=warps, num_stages=stages)
    for bm, bn, bk, warps, stages in (
        (16, 16, 64, 1, 5), (16, 16, 128, 2, 4), (16, 32, 64, 2, 5), (16, 32, 128, 4, 4), (16, 64, 64, 4, 4),
        (32, 16, 64, 2, 5), (32, 32, 64, 4, 5), (32, 32, 128, 4, 3), (32, 64, 64, 4, 4), (64, 32, 64, 4, 4),
        (64, 64, 64, 4, 3), (64, 128, 64, 4, 2), (128, 128, 64, 8, 2),
    )
]  # fmt: skip
_tuned = triton.autotune(
    _CONFIGS,
    key=["rows", "K", "N", "NORM", "SHIFT", "SILU", "BIAS", "GELU", "RESIDUAL", "GATE"],
    restore_value=["out_pointer"],  # a kernel that adds to it runs many times over
)(triton.heuristics({"ALONE": lambda given: given["tokens"] % given["BM"] == 0})(kernels.project))
_TILES = ((128, 128), (128, 64), (64, 64), (32, 64), (32, 32), (16, 32))


class FusedStep:
    """`body` of `world`, all of whose tokens are here. What its kernels write stays where it is from step to
    step."""

    def __init__(self, world: StaticWorld, tuned: bool = False) -> None:
        """tuned: try all tiles at the first call, a minute or more."""
        assert world.split.ranks == 1, "a world over ranks is not fused"
        self.world, self.tuned, config = world, tuned, world.config
        self.tokens, worlds, device = config.tokens, world.slots, world.device

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        kind, rows, half = world.dtype, worlds * config.tokens, config.head_width // 2
        self.action = config.buttons + config.max_stride
        self.condition = empty(worlds, self.action + config.telemetry + 1 + config.noise)
        self.hidden = [empty(worlds, config.width, dtype=kind) for _ in range(2)]
        self.shared = empty(worlds, 6 * config.width)
        self.turn, self.slot = empty(worlds, 2, half), empty(worlds, dtype=torch.int64)
        self.x = empty(worlds, config.tokens, config.width)
        self.qkv, self.mixed = (empty(rows, n * config.width, dtype=kind) for n in (3, 1))
        self.wide = empty(rows, config.mlp_ratio * config.width, dtype=kind)
        self.change = empty(rows, config.channels + config.telemetry)
        rates = torch.arange(half, dtype=torch.float64) * (-math.log(100.0) / half)
        self.rates = torch.exp(rates).to(device)

    @torch.no_grad()
    def __call__(self) -> None:
        weights = self.world.weights
        self._begin()
        modulations = self._modulations()
        self._embed()
        rings = iter(self.world.ring)
        for layer, modulation in zip(weights.layers, modulations):
            if layer.time is not None:
                self._over_time(layer.time, next(rings))
            self._within_frame(layer, modulation)
        self._affine(self._rows(self.x), weights.heads, self.change, NORM=True)
        self._file()

    def _begin(self) -> None:
        world, config = self.world, self.world.config
        kernels.begin[(world.slots,)](
            world.controls, world.told, world.number, world.bias, self.rates,
            self.condition, self.turn, self.slot,
            BUTTONS=config.buttons, STRIDES=config.max_stride, TOLD=config.telemetry, NOISE=config.noise,
            CONTEXT=config.context, HALF=len(self.rates),
            BLOCK=triton.next_power_of_2(max(self.condition.shape[1], len(self.rates))), num_warps=1,
        )  # fmt: skip

    def _modulations(self) -> Tensor:
        """[layers, B, 6, D] float32"""
        given = self.condition
        for i, (layer, out) in enumerate(zip(self.world.weights.conditions, (*self.hidden, self.shared))):
            self._affine(given, layer, out, SILU=i > 0)
            given = out
        return self.shared.unflatten(1, (6, -1))[None] + self.world.weights.table

    def _embed(self) -> None:
        """Latents, buttons and telemetry -> self.x."""
        world, weights, pictured = self.world, self.world.weights, self.world.config.latent_tokens
        latents = torch.cat((world.latent, world.previous), 1).to(world.dtype)
        picture = F.conv2d(latents, weights.embed.weight, weights.embed.bias, padding=1)
        self.x.copy_(weights.position.expand_as(self.x))
        self.x[:, :pictured] += picture.flatten(2).transpose(1, 2)
        told = slice(self.action, self.action + world.config.telemetry)
        own = ((self.condition[:, : self.action], weights.embed_action),
               (self.condition[:, told], weights.embed_telemetry))  # fmt: skip
        for i, (given, layer) in enumerate(own, pictured):
            self._affine(given, layer, self.x[:, i], RESIDUAL=True)

    def _over_time(self, layer: TimeWeights, ring: Tensor) -> None:
        """ring [2, B, S, heads, context, head_width]: the own entry is written, then read."""
        world, config, x = self.world, self.world.config, self._rows(self.x)
        self._project(x, layer.qkv, self.qkv, NORM=True)
        block, wide = 4, config.head_width
        kernels.attend_past[(triton.cdiv(self.tokens, block), config.heads, world.slots)](
            self.qkv, layer.q_scale, layer.k_scale, self.turn, self.slot, world.bias, ring, self.mixed,
            self.tokens, wide**-0.5,
            HEADS=config.heads, HALF=wide // 2, CONTEXT=config.context,
            BT=block, BC=triton.next_power_of_2(config.context), BH=triton.next_power_of_2(wide // 2),
        )  # fmt: skip
        self._project(self.mixed, layer.out, x, RESIDUAL=True)

    def _within_frame(self, layer: LayerWeights, modulation: Tensor) -> None:
        """modulation [B, 6, D]: shift, 1 + scale and gate of attention, then of the MLP."""
        world, config, x = self.world, self.world.config, self._rows(self.x)
        self._project(x, layer.qkv, self.qkv, modulation, NORM=True, SHIFT=0)
        few = world.slots * config.heads * triton.cdiv(self.tokens, 64) < _PROCESSORS
        block = 16 if few else 64
        kernels.attend[(triton.cdiv(self.tokens, block), config.heads, world.slots)](
            self.qkv, layer.q_scale, layer.k_scale, self.mixed, self.tokens, config.head_width**-0.5,
            HEADS=config.heads, WIDE=config.head_width, PRECISION="ieee",
            BM=block, BN=64, BD=max(16, triton.next_power_of_2(config.head_width)), num_stages=2,
        )  # fmt: skip
        self._project(self.mixed, layer.out, x, modulation, RESIDUAL=True, GATE=2)
        self._project(x, layer.mlp_in, self.wide, modulation, NORM=True, SHIFT=3, GELU=True)
        self._project(self.wide, layer.mlp_out, x, modulation, RESIDUAL=True, GATE=5)

    def _file(self) -> None:
        world, config, block = self.world, self.world.config, 8
        kernels.file[(triton.cdiv(config.latent_tokens, block), world.slots)](
            self.change, world.controls, world.latent, world.previous, world.told, world.number,
            self.tokens, config.latent_tokens,
            CHANNELS=config.channels, TOLD=config.telemetry, CONTROLS=world.controls.shape[1],
            BT=block, BC=triton.next_power_of_2(max(config.channels, config.telemetry)),
        )  # fmt: skip

    def _affine(self, x: Tensor, layer: Affine, out: Tensor, **how: Any) -> None:
        self._project(x, layer.weight, out, bias=layer.bias, **how)

    def _project(
        self,
        x: Tensor,
        weight: Tensor,
        out: Tensor,
        modulation: Tensor | None = None,
        bias: Tensor | None = None,
        **how: Any,
    ) -> None:
        """x [rows, K], weight [N, K] -> out [rows, N]; how: see kernels.project."""
        (rows, k), n = x.shape, len(weight)
        assert x.stride(1) == out.stride(1) == 1 and weight.is_contiguous()
        inputs = (
            x, weight, weight if bias is None else bias, self.shared if modulation is None else modulation,
            out, rows, self.tokens, x.stride(0), out.stride(0),
        )  # fmt: skip
        constants: dict[str, Any] = {
            "NORM": False,
            "SHIFT": -1,
            "SILU": False,
            "GELU": False,
            "RESIDUAL": False,
            "GATE": -1,
        }
        constants |= {"K": k, "N": n, "WIDTH": self.world.config.width, "BIAS": bias is not None}
        constants |= {"PRECISION": "ieee"} | how
        if self.tuned:
            _tuned[lambda tile: (triton.cdiv(rows, tile["BM"]), triton.cdiv(n, tile["BN"]))](
                *inputs, **constants
            )
            return
        bm, bn, bk, warps, stages = chosen_tile(rows, n, k, weight.dtype)
        kernels.project[(triton.cdiv(rows, bm), triton.cdiv(n, bn))](
            *inputs, **constants, ALONE=self.tokens % bm == 0, BM=bm, BN=bn, BK=bk,
            num_warps=warps, num_stages=stages,
        )  # fmt: skip

    @staticmethod
    def _rows(x: Tensor) -> Tensor:
        return x.flatten(0, 1)


def tuned_tiles() -> dict[str, str]:
    """What tuning found: rows, K, N and how -> the best tile."""
    return {" ".join(map(str, key)): str(best) for key, best in _tuned.cache.items()}


def chosen_tile(rows: int, n: int, k: int, kind: torch.dtype) -> tuple[int, int, int, int, int]:
    """BM, BN, BK, warps, stages: the largest tile that still gives every processor work."""
    for bm, bn in _TILES:
        if bm < 2 * rows and bn < 2 * n and triton.cdiv(rows, bm) * triton.cdiv(n, bn) >= _PROCESSORS:
            break
    large = bm * bn > 4096
    bk = min(64 if large or k < 1024 else 128, max(16, triton.next_power_of_2(k)))
    return bm, bn, bk, (8 if bm * bn > 8192 else 4), (2 if large or kind == torch.float32 else 4)
