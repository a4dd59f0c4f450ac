"""What a dream tells of what lies ahead is put right by what its picture shows.

A world model is told at every step what it told before, and goes by it: once it tells of an enemy where none
is drawn, the hero dies of it. So those fields of its telemetry are read off its latent as well, and where the
two part, the picture is right: for who reads it and for the model's next step. Where they agree the model's
own is kept, which trembles less.

In the way of a frame: between what the world model made and what is filed of it, see Dream."""

from pathlib import Path

import numpy as np

from engine.models.sight_net import SightNet
from engine.models.weights import SIGHT, has_part, load_config, load_part
from engine.without import without
from games import GAMES

END, APART = 0.1, 0.1
"""In halves of a field's range: a reading so near to its end is the end, as there is no enemy, no wall; told
and read part from here on."""


class Sight:
    """Of one game's trained net, on the host."""

    def __init__(self, net: SightNet, fields: tuple[int, ...], alive: int | None = None) -> None:
        """Positions in the game's telemetry: fields, what it reads; alive, the flag of who looks ahead: of a
        dead hero's picture nothing can be read, and his death has to go on as it is told."""
        self._fields, self._alive = list(fields), alive
        weights = {name: value.detach().float().numpy() for name, value in net.state_dict().items()}
        self._each, self._each_bias = weights["each.weight"][:, :, 0, 0], weights["each.bias"][:, None]
        near, self._near_bias = weights["near.weight"], weights["near.bias"][:, None]
        self._near = near.transpose(0, 2, 3, 1).reshape(len(near), -1)
        self._all, self._all_bias = weights["all.weight"], weights["all.bias"]
        self._tell, self._tell_bias = weights["tell.weight"], weights["tell.bias"]

    def corrected(self, latent: np.ndarray, told: np.ndarray) -> np.ndarray:
        """told [F] in model's terms, itself where latent [C, H, W] shows the same."""
        if self._alive is not None and told[self._alive] <= 0:
            return told
        own, read = told[self._fields], self.read(latent)
        wrong = np.abs(own - read) > APART
        if not wrong.any():
            return told
        right = told.copy()
        right[self._fields] = np.where(wrong, read, own)
        return right

    def read(self, latent: np.ndarray) -> np.ndarray:
        """SightNet's numbers for one latent, [F]. Plain numpy: 2 MFLOP are not worth a thread."""
        channels, rows, columns = latent.shape
        x = np.maximum(self._each @ latent.reshape(channels, -1).astype(np.float32) + self._each_bias, 0)
        padded = np.pad(x.reshape(-1, rows, columns), ((0, 0), (1, 1), (1, 1)))
        around = np.concatenate(
            [padded[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
        ).reshape(9 * len(padded), -1)
        x = np.maximum(self._near @ around + self._near_bias, 0).ravel()
        read = self._tell @ np.maximum(self._all @ x + self._all_bias, 0) + self._tell_bias
        return np.where(np.abs(read) > 1 - END, np.sign(read), read).astype(np.float32)


def load_sight(game: str, directory: Path) -> Sight | None:
    """None where the weights have none, or DREAMCADE_WITHOUT=sight. Raises WeightsError."""
    if "sight" in without() or not has_part(directory, SIGHT):
        return None
    net, sizes = load_part(directory, SIGHT), load_config(directory)[0].sight
    assert isinstance(net, SightNet) and sizes is not None
    respawn = GAMES[game].respawn
    return Sight(net, sizes.fields, GAMES[game].field_index(respawn.alive) if respawn else None)
