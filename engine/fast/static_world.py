"""The world model's step on buffers that never move: what one CUDA graph replays, and what ranks share.

The twin of `WorldModel.step` for B worlds at once, each at its own step number. The ring of keys and values
has `context` slots: a step writes its own entry first (its slot is an index tensor, so a graph can replay it)
and then attends to all of them. Nothing in `advance` waits for the device."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.config import WorldConfig
from engine.fast.packed_weights import Affine, LayerWeights, PackedWeights, TimeWeights
from engine.fast.token_split import OneRank, TokenSplit
from engine.models.layers import rotary, rotate, to_sphere
from engine.models.world_model import WorldModel

EMPTY = -1e9
"""Attention bias of a slot that holds nothing yet."""


@dataclass(frozen=True)
class Controls:
    """What drives one step of B worlds: buttons [B, N] shares, noise [B, D], strides [B] in frames, active
    [B] 1 or 0: an inactive world keeps its state. float32 on the host."""

    buttons: np.ndarray
    noise: np.ndarray
    strides: np.ndarray
    active: np.ndarray

    def packed(self) -> np.ndarray:
        """[B, N + D + 2]: one copy to the device instead of four."""
        columns = (self.buttons, self.noise, self.strides[:, None], self.active[:, None])
        return np.concatenate(columns, 1).astype(np.float32)


class World(Protocol):
    """What a dream steps: a StaticWorld as it is, captured, or led over ranks."""

    config: WorldConfig
    slots: int
    """How many worlds it holds."""

    def place(self, world: int, latent: np.ndarray, previous: np.ndarray, told: np.ndarray) -> None:
        """Set what the next step of one world begins from: latents [C, H, W], told [F] in model's terms."""

    def forget(self, world: int) -> None:
        """Empty one world's ring."""

    def keep(self, world: int) -> None:
        """Remember what the next step of one world begins from."""

    def back(self, world: int) -> None:
        """Let it begin from there again. What the ring holds of the step between is in the slot that the next
        one writes."""

    def step(self, controls: np.ndarray) -> None:
        """One true step of the active worlds. controls: Controls.packed."""

    def made(self, world: int) -> tuple[np.ndarray, np.ndarray]:
        """The newest latent [C, H, W] and told [F]; waits for the device."""

    def all_made(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of all worlds, [B, C, H, W] and [B, F], in one copy each."""


class StaticWorld:
    """B worlds on one device, or this rank's tokens of them. State: latent, previous [B, C, H, W] and told
    [B, F] float32; number [B]; ring [time layers, 2, B, S / ranks, heads, context, head_width] in `dtype`."""

    def __init__(
        self,
        model: WorldModel,
        worlds: int = 1,
        dtype: torch.dtype = torch.float32,
        split: TokenSplit | None = None,
    ) -> None:
        config, self.slots = model.config, worlds
        self.config = config
        self.weights, self.dtype, self.split = PackedWeights.of(model, dtype), dtype, split or OneRank()
        share = config.tokens // self.split.ranks
        assert share * self.split.ranks == config.tokens, "ranks must divide tokens"
        self.own = slice(self.split.rank * share, (self.split.rank + 1) * share)
        device = self.device = model.position.device
        shape = (worlds, config.channels, config.rows, config.columns)
        self.latent, self.previous = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        self.told = torch.zeros(worlds, config.telemetry, device=device)
        self.controls = torch.zeros(worlds, config.buttons + config.noise + 2, device=device)
        self.number = torch.zeros(worlds, dtype=torch.int64, device=device)
        self.bias = torch.full((worlds, config.context), EMPTY, device=device, dtype=dtype)
        ring = (len(config.time_layers), 2, worlds, share, config.heads, config.context, config.head_width)
        self.ring = torch.zeros(ring, device=device, dtype=dtype)
        self.worlds = torch.arange(worlds, device=device)
        self.kept: dict[int, tuple[Tensor, ...]] = {}  # by world: what a draft began from
        self.stride_names = torch.arange(1.0, config.max_stride + 1, device=device)[None]

    # -- the host's side: see World -------------------------------------------------------------------

    def place(self, world: int, latent: np.ndarray, previous: np.ndarray, told: np.ndarray) -> None:
        for buffer, value in ((self.latent, latent), (self.previous, previous), (self.told, told)):
            buffer[world].copy_(torch.from_numpy(np.array(value, np.float32)))

    def forget(self, world: int) -> None:
        self.number[world] = 0
        self.bias[world] = EMPTY

    def keep(self, world: int) -> None:
        self.kept[world] = tuple(buffer[world].clone() for buffer in self._state)

    def back(self, world: int) -> None:
        for buffer, value in zip(self._state, self.kept[world]):
            buffer[world].copy_(value)

    @property
    def _state(self) -> tuple[Tensor, ...]:
        return self.latent, self.previous, self.told, self.number

    def step(self, controls: np.ndarray) -> None:
        self.controls.copy_(torch.from_numpy(controls))
        self.advance()

    def made(self, world: int) -> tuple[np.ndarray, np.ndarray]:
        return self.latent[world].cpu().numpy().copy(), self.told[world].cpu().numpy().copy()

    def all_made(self) -> tuple[np.ndarray, np.ndarray]:
        return self.latent.cpu().numpy().copy(), self.told.cpu().numpy().copy()

    # -- the device's side ----------------------------------------------------------------------------

    @torch.inference_mode()
    def advance(self) -> None:
        """`controls` and the state -> the next state, in place."""
        self.body()

    def body(self) -> None:
        """`advance` for torch.compile, which cannot enter inference mode on the way: its functionalisation
        loses the buffers that were made outside. Call it under no_grad."""
        x, shared = self._tokens()
        slots = self.number % self.config.context
        self.bias.scatter_(1, slots[:, None], 0.0)
        cos, sin = (a[:, None, None] for a in rotary(self.number, self.config.head_width))
        rings = iter(self.ring)
        for layer, modulation in zip(self.weights.layers, shared[None] + self.weights.table):
            if layer.time is not None:
                x = x + self._over_time(layer.time, x, cos, sin, next(rings), slots)
            x = self._within_frame(layer, x, modulation)
        self._file(*self._heads(x))

    def _tokens(self) -> tuple[Tensor, Tensor]:
        """Own tokens [B, S / ranks, D] and shared modulation [B, 6, D], float32. Every rank makes the whole
        embedding: it is 1 % of a step, a halo would be one more exchange."""
        config, weights = self.config, self.weights
        buttons, noise, strides, _ = self.controls.split((config.buttons, config.noise, 1, 1), 1)
        action = torch.cat((buttons, (strides == self.stride_names).float()), 1)
        shared = torch.cat((action, self.told, torch.zeros_like(strides), noise), 1)
        for i, layer in enumerate(weights.conditions):
            shared = self._affine(F.silu(shared) if i else shared, layer)
        latents = torch.cat((self.latent, self.previous), 1).to(self.dtype)
        picture = F.conv2d(latents, weights.embed.weight, weights.embed.bias, padding=1)
        own = (
            self._affine(action, weights.embed_action),
            self._affine(self.told, weights.embed_telemetry),
        )
        registers = picture.new_zeros(()).expand(len(action), config.registers, config.width)
        x = torch.cat((picture.flatten(2).transpose(1, 2), torch.stack(own, 1), registers), 1)
        x = x[:, self.own] + weights.position[self.own]
        return x, shared.float().unflatten(-1, (6, -1))

    def _over_time(
        self, layer: TimeWeights, x: Tensor, cos: Tensor, sin: Tensor, ring: Tensor, slots: Tensor
    ) -> Tensor:
        """x [B, S', D]; ring [2, B, S', heads, context, head_width]: the own entry is written, then read."""
        q, k, v = self._heads_of(_rms(x), layer.qkv)
        ring[0][self.worlds, :, :, slots] = rotate(_rms(k, layer.k_scale), cos, sin).to(self.dtype)
        ring[1][self.worlds, :, :, slots] = v
        q = rotate(_rms(q, layer.q_scale), cos, sin).to(self.dtype)
        # Tokens stand beside heads, as more heads: one query each, and the bias needs no copy per token.
        keys, values = ring.flatten(2, 3)
        y = F.scaled_dot_product_attention(
            q.flatten(1, 2)[:, :, None], keys, values, attn_mask=self.bias[:, None, None]
        )
        return self._linear(y.reshape(x.shape), layer.out)

    def _within_frame(self, layer: LayerWeights, x: Tensor, modulation: Tensor) -> Tensor:
        """x [B, S', D]; modulation [B, 6, D]: shift, 1 + scale and gate of attention, then of the MLP."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unsqueeze(2).unbind(1)
        q, k, v = self._heads_of(_rms(x) * scale1 + shift1, layer.qkv)
        q, k = _rms(q, layer.q_scale).to(self.dtype), _rms(k, layer.k_scale).to(self.dtype)
        x = x + gate1 * self._linear(self.split.attend(q, k, v).flatten(2), layer.out)
        hidden = F.gelu(self._linear(_rms(x) * scale2 + shift2, layer.mlp_in), approximate="tanh")
        return x + gate2 * self._linear(hidden, layer.mlp_out)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Own tokens -> the next latent and telemetry, on every rank."""
        config = self.config
        out = self.split.gather(self._affine(_rms(x), self.weights.heads).float())
        change = out[:, : config.latent_tokens, : config.channels].transpose(1, 2)
        latent = to_sphere(self.latent + change.unflatten(2, (config.rows, config.columns)), dim=1)
        return latent, self.told + out[:, config.latent_tokens + 1, config.channels :]

    def _file(self, latent: Tensor, told: Tensor) -> None:
        active = self.controls[:, -1] > 0
        kept = active[:, None, None, None]
        self.previous.copy_(torch.where(kept, self.latent, self.previous))
        self.latent.copy_(torch.where(kept, latent, self.latent))
        self.told.copy_(torch.where(active[:, None], told, self.told))
        self.number.add_(active)

    def _heads_of(self, x: Tensor, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, S', D] -> q, k, v, each [B, S', heads, head_width]."""
        q, k, v = self._linear(x, qkv).unflatten(-1, (3, self.config.heads, -1)).unbind(2)
        return q, k, v

    def _linear(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x.to(self.dtype), weight)

    def _affine(self, x: Tensor, layer: Affine) -> Tensor:
        return F.linear(x.to(self.dtype), layer.weight, layer.bias)


def _rms(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """models.layers.RMSNorm; float32 out where a scale comes with it."""
    x = x if scale is None else x.float()
    return F.rms_norm(x, x.shape[-1:], scale, eps=1e-6)
