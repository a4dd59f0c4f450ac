"""A small net that reads off one latent what telemetry tells of the picture: where the next pit, wall and
enemy are. See engine/fast/sight.py."""

import torch.nn.functional as F
from torch import Tensor, nn

from engine.config import GameConfig


class SightNet(nn.Module):
    """latents [B, C, H, W] -> telemetry fields [B, F], scaled as engine.models.telemetry has them: those of
    the config's `sight`."""

    def __init__(self, config: GameConfig) -> None:
        super().__init__()
        sizes, world = config.sight, config.world
        assert sizes is not None
        self.each = nn.Conv2d(world.channels, sizes.width, 1)
        self.near = nn.Conv2d(sizes.width, sizes.width, 3, padding=1)
        self.all = nn.Linear(sizes.width * world.latent_tokens, sizes.hidden)
        self.tell = nn.Linear(sizes.hidden, len(sizes.fields))

    def forward(self, latents: Tensor) -> Tensor:
        x = F.relu(self.near(F.relu(self.each(latents))))
        return self.tell(F.relu(self.all(x.flatten(1))))
