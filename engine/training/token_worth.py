"""What a token's error counts in training: more where small important things are."""

import torch
from torch import Tensor

from games.spec import GameSpec

MOVERS_TIMES = 3.0
"""In frames that are filled in, tokens that show some of GameSpec.movers count so many times what other small
things do."""


def token_weights(classes: Tensor) -> Tensor:
    """Class maps uint8 [B, 480, 720] -> [B, 10, 15]: 1, up to 5 where a token is full of small important
    things."""
    important = (classes > 0).float().unflatten(2, (15, 48)).unflatten(1, (10, 48)).mean((2, 4))
    return 1 + 4 * (important * 4).clamp(max=1)


def mover_classes(spec: GameSpec) -> list[int]:
    """Numbers in a class map of what moves by itself."""
    return [number for number, mask in enumerate(spec.masks, 1) if mask in spec.movers]


def tokens_with(classes: Tensor, wanted: list[int]) -> Tensor:
    """Class maps uint8 [B, 480, 720] -> [B, 10, 15]: 1 where a token shows any of the wanted classes, else
    0."""
    there = torch.zeros_like(classes, dtype=torch.bool)
    for number in wanted:
        there |= classes == number
    return there.unflatten(2, (15, 48)).unflatten(1, (10, 48)).any(4).any(2).float()


def filled_weights(classes: Tensor, movers: list[int]) -> Tensor:
    """Class maps uint8 [B, 480, 720] -> [B, 10, 15]: what a token's error counts. In frames that are filled
    in, what moves by itself is what smears, and it is little of a picture."""
    return token_weights(classes) * (1 + (MOVERS_TIMES - 1) * tokens_with(classes, movers))
