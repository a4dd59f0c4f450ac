"""One world model over several ranks: each holds a share of a frame's tokens, and of their ring.

Attention within a frame turns the share of tokens into a share of heads by one all-to-all, and back by
another (DeepSpeed-Ulysses, 2309.14509). Where ranks do not divide heads, keys and values go round instead
(Ring Attention, 2310.01889). Attention over time is each token's own and needs nothing. Rank 0 of the group
leads: it draws the noise and tells the others what to do by broadcasts on the host, before each step, so that
what the device does stays capturable."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from engine.config import WorldConfig
from engine.errors import UsageError
from engine.fast.static_world import StaticWorld, World

Group = Any
"""A torch.distributed process group; None is all ranks."""
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its older name
_END, _FORGET, _PLACE, _STEP = range(4)


def check_split(config: WorldConfig, ranks: int) -> None:
    """Raises UsageError where this model's tokens do not go over so many ranks."""
    if ranks < 1 or config.tokens % ranks:
        legal = [n for n in range(1, config.tokens + 1) if config.tokens % n == 0][:8]
        choices = ", ".join(map(str, legal))
        raise UsageError(f"{ranks} world ranks do not divide {config.tokens} tokens: choose one of {choices}")


class _Shared:
    def __init__(self, group: Group = None) -> None:
        self.group, self.rank, self.ranks = group, dist.get_rank(group), dist.get_world_size(group)

    def gather(self, x: Tensor) -> Tensor:
        """[B, S / ranks, D] -> [B, S, D]"""
        out = x.new_empty(self.ranks * x.shape[0], *x.shape[1:])
        _all_gather(out, x.contiguous(), self.group)
        return out.unflatten(0, (self.ranks, -1)).transpose(0, 1).flatten(1, 2)


class HeadSplit(_Shared):
    """DeepSpeed-Ulysses: for attention a rank holds all tokens of heads / ranks heads."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[B, S / ranks, heads, head_width] each -> the same."""
        packed = torch.stack((q, k, v)).unflatten(3, (self.ranks, -1))  # [3, B, S', ranks, heads / ranks, hd]
        swapped = self._all_to_all(
            packed.permute(3, 0, 1, 4, 2, 5)
        )  # [ranks of tokens, 3, B, heads', S', hd]
        q, k, v = swapped.permute(1, 2, 3, 0, 4, 5).flatten(3, 4)  # [B, heads / ranks, S, hd]
        y = F.scaled_dot_product_attention(q, k, v).unflatten(2, (self.ranks, -1))
        back = self._all_to_all(y.permute(2, 0, 3, 1, 4))  # [ranks of heads, B, S', heads', hd]
        return back.permute(1, 2, 0, 3, 4).flatten(2, 3)

    def _all_to_all(self, x: Tensor) -> Tensor:
        """x[i] goes to rank i; out[i] came from rank i."""
        x = x.contiguous()
        out = torch.empty_like(x)
        dist.all_to_all_single(out, x, group=self.group)
        return out


class RingSplit(_Shared):
    """Keys and values pass from rank to rank; the softmax is put together as they come, in float32."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[B, S / ranks, heads, head_width] each -> the same."""
        query = q.transpose(1, 2).float() * q.shape[-1] ** -0.5
        at_hand = torch.stack((k, v)).transpose(2, 3).contiguous()  # [2, B, heads, S', hd]
        top = query.new_full(query.shape[:-1], -torch.inf)[..., None]
        total, mixed = torch.zeros_like(top), torch.zeros_like(query)
        for hop in range(self.ranks):
            last = hop == self.ranks - 1
            pending, coming = ([], at_hand) if last else self._pass_on(at_hand)
            keys, values = at_hand.float()
            scores = query @ keys.transpose(-1, -2)
            highest = torch.maximum(top, scores.amax(-1, keepdim=True))
            weights, kept = torch.exp(scores - highest), torch.exp(top - highest)
            total = total * kept + weights.sum(-1, keepdim=True)
            mixed = mixed * kept + weights @ values
            for work in pending:
                work.wait()
            at_hand, top = coming, highest
        return (mixed / total).transpose(1, 2).to(q.dtype)

    def _pass_on(self, x: Tensor) -> tuple[list[Any], Tensor]:
        """Send x to the next rank; what the one before sends will be in the tensor returned."""
        coming = torch.empty_like(x)
        there, here = (self.rank + 1) % self.ranks, (self.rank - 1) % self.ranks
        operations = [
            dist.P2POp(dist.isend, x, group=self.group, group_peer=there),
            dist.P2POp(dist.irecv, coming, group=self.group, group_peer=here),
        ]
        return dist.batch_isend_irecv(operations), coming


def make_split(config: WorldConfig, group: Group = None) -> HeadSplit | RingSplit:
    """By heads where ranks divide them, in a ring where not. Raises UsageError."""
    ranks = dist.get_world_size(group)
    check_split(config, ranks)
    return HeadSplit(group) if config.heads % ranks == 0 else RingSplit(group)


@dataclass(frozen=True)
class _Order:
    """A broadcast from the leader: int64 [2] on the host, then what the kind needs."""

    kind: int
    world: int = 0

    def send(self, group: Group) -> None:
        dist.broadcast(torch.tensor([self.kind, self.world]), group=group, group_src=0)

    @classmethod
    def receive(cls, group: Group) -> "_Order":
        order = torch.empty(2, dtype=torch.int64)
        dist.broadcast(order, group=group, group_src=0)
        kind, world = order.tolist()
        return cls(kind, world)


class LeadingWorld:
    """Rank 0's end of a shared world: does what it is told and has the others do it. group: one whose
    broadcasts take host tensors (gloo)."""

    def __init__(self, own: StaticWorld | World, group: Group = None) -> None:
        self.own, self.group, self.config = own, group, own.config

    def place(self, world: int, latent: np.ndarray, previous: np.ndarray, told: np.ndarray) -> None:
        _Order(_PLACE, world).send(self.group)
        for value in (latent, previous, told):
            self._send(value)
        self.own.place(world, latent, previous, told)

    def forget(self, world: int) -> None:
        _Order(_FORGET, world).send(self.group)
        self.own.forget(world)

    def step(self, controls: np.ndarray) -> None:
        _Order(_STEP).send(self.group)
        self._send(controls)
        self.own.step(controls)

    def made(self, world: int) -> tuple[np.ndarray, np.ndarray]:
        return self.own.made(world)

    def close(self) -> None:
        """The followers' loops end."""
        _Order(_END).send(self.group)

    def _send(self, value: np.ndarray) -> None:
        dist.broadcast(torch.from_numpy(np.array(value, np.float32)), group=self.group, group_src=0)


def follow(own: StaticWorld, group: Group = None) -> None:
    """The other ranks' loop: do what the leader does, until it closes."""

    def received(like: Tensor) -> np.ndarray:
        value = torch.empty(like.shape)
        dist.broadcast(value, group=group, group_src=0)
        return value.numpy()

    while (order := _Order.receive(group)).kind != _END:
        if order.kind == _FORGET:
            own.forget(order.world)
        elif order.kind == _PLACE:
            i = order.world
            own.place(i, received(own.latent[i]), received(own.previous[i]), received(own.told[i]))
        else:
            own.step(received(own.controls))
