"""The world model: this latent, the buttons held over the next `stride` frames, a random vector -> the next
latent and the telemetry, in one pass.

A transformer over one frame's tokens. Every layer attends within the frame; a few also attend over time, each
token to its own past, through a ring of keys and values. Conditioning (buttons, stride, noise, telemetry)
enters as a token and as adaptive norms whose projection all layers share (adaLN-single, 2310.00426). The
random vector enters through the same norms (FGN, 2506.10772): trained with a proper score, it chooses among
the futures that are possible."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.config import WorldConfig
from engine.models.layers import RMSNorm, rotary, rotate, to_sphere

MOST_STEPS = 256
"""Of a clip that `WorldModel.forward` takes."""


@dataclass(frozen=True)
class Inputs:
    """What conditions T steps of B worlds, besides the latents. All float32.

    buttons [B, T, N] share of the coming step each button is held; strides [B, T] in frames; telemetry [B, T,
    F] scaled to [-1, 1], as it is before the step; context_noise [B, T] root mean square that was put on the
    latents; noise [B, T, D] the random vector."""

    buttons: Tensor
    strides: Tensor
    telemetry: Tensor
    context_noise: Tensor
    noise: Tensor


class SpaceAttention(nn.Module):
    """Attention among the tokens of one frame, queries and keys normed."""

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.q_norm, self.k_norm = RMSNorm(config.head_width), RMSNorm(config.head_width)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, S, D] -> [B, S, D]"""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype), v)
        return self.out(y.transpose(1, 2).flatten(2))


class TimeAttention(nn.Module):
    """Attention of each token to its own last `context` steps; rotary over step numbers."""

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        self.heads, self.context = config.heads, config.context
        self.norm = RMSNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        nn.init.zeros_(self.out.weight)
        self.q_norm, self.k_norm = RMSNorm(config.head_width), RMSNorm(config.head_width)

    def _qkv(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return rotate(self.q_norm(q), cos, sin).to(v.dtype), rotate(self.k_norm(k), cos, sin).to(v.dtype), v

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [B, T, S, D], cos and sin [T, head_width / 2] -> [B, T, S, D]; causal, windowed."""
        steps = torch.arange(x.shape[1], device=x.device)
        age = steps[:, None] - steps[None, :]
        window = (age >= 0) & (age < self.context)
        q, k, v = (
            a.permute(0, 2, 3, 1, 4).flatten(0, 1)
            for a in self._qkv(x, cos[:, None, None], sin[:, None, None])
        )
        # Some ten thousand tiny problems: two batched products and one fused softmax, no tiled kernel.
        scores = (q @ k.mT) * q.shape[-1] ** -0.5
        y = scores.float().masked_fill(~window, -1e9).softmax(-1).to(v.dtype) @ v
        return self.out(y.unflatten(0, (x.shape[0], x.shape[2])).permute(0, 3, 1, 2, 4).flatten(3))

    def step(self, x: Tensor, cos: Tensor, sin: Tensor, ring: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """One step of one world: x [S, D]; ring [2, R, S, heads, head_width], keys and values of past steps
        in any order; bias [R] is 0 for a filled slot, very negative for an empty one. Returns [S, D] and the
        step's own keys and values [2, S, heads, head_width]. Sums instead of matrix products: no
        transposition of the ring."""
        q, k, v = self._qkv(x, cos, sin)
        q = q * q.shape[-1] ** -0.5
        scores = torch.cat(((ring[0] * q).sum(-1) + bias[:, None, None], (k * q).sum(-1)[None]))
        weights = scores.softmax(0)[..., None]
        y = (weights[:-1] * ring[1]).sum(0) + weights[-1] * v
        return self.out(y.flatten(1)), torch.stack((k, v))


class Block(nn.Module):
    """Space attention and MLP under adaptive norms; before them, where configured, time attention."""

    def __init__(self, config: WorldConfig, over_time: bool) -> None:
        super().__init__()
        width = config.width
        self.time = TimeAttention(config) if over_time else None
        self.space = SpaceAttention(config)
        self.norm1, self.norm2 = RMSNorm(width, affine=False), RMSNorm(width, affine=False)
        self.mlp_in = nn.Linear(width, config.mlp_ratio * width, bias=False)
        self.mlp_out = nn.Linear(config.mlp_ratio * width, width, bias=False)
        self.modulation = nn.Parameter(torch.zeros(6, width))
        self.modulation.data[[2, 5]] = 0.5 / config.layers**0.5

    def frame(self, x: Tensor, shared: Tensor) -> Tensor:
        """x [B, S, D] within frames; shared [B, 6, D] from the conditioning."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            (shared + self.modulation).to(x.dtype).unsqueeze(2).unbind(1)
        )
        x = x + gate1 * self.space(self.norm1(x) * (1 + scale1) + shift1)
        hidden = F.gelu(self.mlp_in(self.norm2(x) * (1 + scale2) + shift2), approximate="tanh")
        return x + gate2 * self.mlp_out(hidden)


class WorldModel(nn.Module):
    """See the module's text. `forward` runs whole clips for training, `step` one step with a ring, the same
    numbers."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed = nn.Conv2d(2 * config.channels, width, 3, padding=1)
        self.position = nn.Parameter(torch.randn(config.tokens, width) * 0.02)
        self.embed_action = nn.Linear(config.buttons + config.max_stride, width)
        self.embed_telemetry = nn.Linear(config.telemetry, width)
        conditions = config.buttons + config.max_stride + config.telemetry + 1 + config.noise
        self.condition = nn.Sequential(
            nn.Linear(conditions, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.modulate = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        blocks = [Block(config, i in config.time_layers) for i in range(config.layers)]
        self.blocks: Iterable[Block] = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.norm = RMSNorm(width)
        self.to_latent = nn.Linear(width, config.channels)
        self.to_telemetry = nn.Linear(width, config.telemetry)
        nn.init.zeros_(self.to_latent.weight)
        nn.init.zeros_(self.to_telemetry.weight)
        # Of a clip's steps, once: a compiled clip would take them anew for every token, in float64.
        for name, angles in zip(("cos", "sin"), rotary(torch.arange(MOST_STEPS), config.head_width)):
            self.register_buffer(name, angles, persistent=False)

    def forward(self, latents: Tensor, previous: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """latents and previous (those one step before) [B, T, C, H, W] -> the next latents, likewise, and the
        next telemetry [B, T, F]; position t sees steps t - context + 1 to t."""
        batch, steps = latents.shape[:2]
        x, shared = self._tokens(latents.flatten(0, 1), previous.flatten(0, 1), inputs)
        cos, sin = self.cos[:steps], self.sin[:steps]
        for block in self.blocks:
            if block.time is not None:
                x = x + block.time(x.unflatten(0, (batch, steps)), cos, sin).flatten(0, 1)
            x = block.frame(x, shared)
        following, telemetry = self._heads(x, latents.flatten(0, 1), inputs.telemetry.flatten(0, 1))
        return following.unflatten(0, (batch, steps)), telemetry.unflatten(0, (batch, steps))

    def step(
        self,
        latent: Tensor,
        previous: Tensor,
        inputs: Inputs,
        cos: Tensor,
        sin: Tensor,
        ring: Tensor,
        bias: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One world, one step: latent, previous [1, C, H, W], inputs with B = T = 1, rotary angles of this
        step's number, ring [time layers, 2, context - 1, S, heads, head_width] and its bias [context - 1].
        Returns the next latent [1, C, H, W], telemetry [1, F], this step's ring entries [time layers, 2, S,
        heads, head_width]."""
        x, shared = self._tokens(latent, previous, inputs)
        entries: list[Tensor] = []
        for block in self.blocks:
            if block.time is not None:
                change, entry = block.time.step(x[0], cos, sin, ring[len(entries)], bias)
                entries.append(entry)
                x = x + change
            x = block.frame(x, shared)
        following, telemetry = self._heads(x, latent, inputs.telemetry[0])
        return following, telemetry, torch.stack(entries)

    def _tokens(self, latents: Tensor, previous: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Tokens [B*T, S, D] and shared modulation [B*T, 6, D]."""
        strides = (
            inputs.strides[..., None] == torch.arange(1, self.config.max_stride + 1, device=latents.device)
        ).float()
        action = torch.cat((inputs.buttons, strides), -1).flatten(0, 1)
        telemetry = inputs.telemetry.flatten(0, 1)
        chance = torch.cat((inputs.context_noise[..., None], inputs.noise), -1).flatten(0, 1)
        shared = self.modulate(self.condition(torch.cat((action, telemetry, chance), -1))).unflatten(
            -1, (6, -1)
        )
        picture = self.embed(torch.cat((latents, previous), 1)).flatten(2).transpose(1, 2)
        own = torch.stack((self.embed_action(action), self.embed_telemetry(telemetry)), 1)
        registers = torch.zeros_like(own[:, :1]).expand(-1, self.config.registers, -1)
        # Under mixed precision the tokens stay in the narrow type from here on: half the memory traffic.
        return (torch.cat((picture, own, registers), 1) + self.position).to(picture.dtype), shared

    def _heads(self, x: Tensor, latents: Tensor, telemetry: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(x)
        count = self.config.latent_tokens
        change = (
            self.to_latent(x[:, :count]).transpose(1, 2).unflatten(2, (self.config.rows, self.config.columns))
        )
        return to_sphere(latents + change.float(), dim=1), telemetry + self.to_telemetry(
            x[:, count + 1]
        ).float()
