"""The world model's weights as the quick step wants them: in the step's dtype, norm scales folded into the
projections that follow, the layers' own modulation in one table, both heads one matrix."""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.models.layers import RMSNorm
from engine.models.world_model import Block, WorldModel


@dataclass(frozen=True)
class TimeWeights:
    """A layer's time attention; the norm's scale lies in qkv. Scales stay float32."""

    qkv: Tensor
    out: Tensor
    q_scale: Tensor
    k_scale: Tensor


@dataclass(frozen=True)
class LayerWeights:
    qkv: Tensor
    out: Tensor
    q_scale: Tensor
    k_scale: Tensor
    mlp_in: Tensor
    mlp_out: Tensor
    time: TimeWeights | None


@dataclass(frozen=True)
class Affine:
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class PackedWeights:
    """table [layers, 1, 6, D] float32, 1 added to the scales; position [S, D] float32; heads [C + F, D]."""

    layers: tuple[LayerWeights, ...]
    table: Tensor
    position: Tensor
    embed: Affine
    embed_action: Affine
    embed_telemetry: Affine
    conditions: tuple[Affine, Affine, Affine]
    heads: Affine

    @classmethod
    @torch.no_grad()
    def of(cls, model: WorldModel, dtype: torch.dtype) -> "PackedWeights":
        table = torch.stack([block.modulation for block in model.blocks])[:, None].float().clone()
        table[:, :, [1, 4]] += 1
        both = torch.cat((model.to_latent.weight, model.to_telemetry.weight))
        assert model.norm.scale is not None
        heads = Affine(
            (both * model.norm.scale).to(dtype),
            torch.cat((model.to_latent.bias, model.to_telemetry.bias)).to(dtype),
        )
        first, second = (_affine(model.condition[i], dtype) for i in (0, 2))
        return cls(
            layers=tuple(_layer(block, dtype) for block in model.blocks),
            table=table,
            position=model.position.float(),
            embed=_affine(model.embed, dtype),
            embed_action=_affine(model.embed_action, dtype),
            embed_telemetry=_affine(model.embed_telemetry, dtype),
            conditions=(first, second, _affine(model.modulate, dtype)),
            heads=heads,
        )


def _affine(module: torch.nn.Module, dtype: torch.dtype) -> Affine:
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
    return Affine(weight.to(dtype), bias.to(dtype))


def _layer(block: Block, dtype: torch.dtype) -> LayerWeights:
    space, time, over = block.space, block.time, None
    if time is not None:
        assert time.norm.scale is not None
        qkv = (time.qkv.weight * time.norm.scale).to(dtype)
        over = TimeWeights(qkv, time.out.weight.to(dtype), _scale(time.q_norm), _scale(time.k_norm))
    return LayerWeights(
        space.qkv.weight.to(dtype),
        space.out.weight.to(dtype),
        _scale(space.q_norm),
        _scale(space.k_norm),
        block.mlp_in.weight.to(dtype),
        block.mlp_out.weight.to(dtype),
        over,
    )


def _scale(norm: RMSNorm) -> Tensor:
    assert norm.scale is not None
    return norm.scale.float()
