"""How one frame's tokens lie over ranks, as the quick step sees it: all here, or shared out."""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class TokenSplit(Protocol):
    """q, k, v are this rank's [B, S / ranks, heads, head_width], keys and queries normed."""

    rank: int
    ranks: int

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of the own tokens to all of them; the shape of q."""

    def gather(self, x: Tensor) -> Tensor:
        """[B, S / ranks, D] -> [B, S, D], on every rank."""


class OneRank:
    """All tokens here."""

    rank, ranks = 0, 1

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    def gather(self, x: Tensor) -> Tensor:
        return x
