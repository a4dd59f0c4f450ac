"""One world model over several ranks: each holds a share of a frame's tokens, and of their ring.

Attention within a frame turns the share of tokens into a share of heads by one all-to-all, and back by
another (DeepSpeed-Ulysses, 2309.14509). Where ranks do not divide heads, keys and values go round instead
(Ring Attention, 2310.01889). Attention over time is each token's own and needs nothing. Who tells the ranks
when to step: leading.py."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from engine.config import WorldConfig
from engine.fast.orders import Group
from engine.team import check_tokens

_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its older name


CHUNKS = 2
"""Of a rank's heads, where it divides them."""


class _Shared:
    def __init__(self, group: Group = None) -> None:
        self.group, self.rank, self.ranks = group, dist.get_rank(group), dist.get_world_size(group)

    def gather(self, x: Tensor) -> Tensor:
        """[B, S / ranks, D] -> [B, S, D]"""
        out = x.new_empty(self.ranks * x.shape[0], *x.shape[1:])
        _all_gather(out, x.contiguous(), self.group)
        return out.unflatten(0, (self.ranks, -1)).transpose(0, 1).flatten(1, 2)


class HeadSplit(_Shared):
    """DeepSpeed-Ulysses: for attention a rank holds all tokens of heads / ranks heads. They go in chunks, so
    that one chunk's attention is computed while another one travels. Tokens are the outermost of what a rank
    gets: what came from all of them is one tensor with one stride a token, and is attended to in place."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[B, S / ranks, heads, head_width] each -> the same."""
        own = q.shape[2] // self.ranks
        chunks = CHUNKS if own % CHUNKS == 0 else 1
        asked = (x.unflatten(2, (self.ranks, chunks, -1)).permute(3, 2, 1, 0, 4, 5) for x in (q, k, v))
        sent = torch.stack(tuple(asked), 4)  # [chunks, ranks, S', B, 3, heads', head_width]
        coming, returning = [self._exchanged(chunk) for chunk in sent], []
        for came, work in coming:
            work.wait()
            mixed = F.scaled_dot_product_attention(*came.flatten(0, 1).permute(2, 1, 3, 0, 4))
            back = mixed.permute(2, 0, 1, 3).unflatten(0, (self.ranks, -1))  # [ranks of tokens, S', B, ...]
            returning.append(self._exchanged(back.contiguous()))
        for _, work in returning:
            work.wait()
        back = torch.stack([came for came, _ in returning])  # [chunks, ranks of heads, S', B, heads', hd]
        return back.permute(3, 2, 1, 0, 4, 5).flatten(2, 4)

    def _exchanged(self, x: Tensor) -> tuple[Tensor, Any]:
        """x[i] goes to rank i; out[i] comes from rank i, and is there when the work was waited for."""
        out = torch.empty_like(x)
        return out, dist.all_to_all_single(out, x, group=self.group, async_op=True)


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
    check_tokens(config, ranks)
    return HeadSplit(group) if config.heads % ranks == 0 else RingSplit(group)
