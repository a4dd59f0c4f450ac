"""A discriminator of latents: what of a predicted latent no picture has, wherever else it may be right.

A score that compares samples with the truth forgives a token that is half one thing and half another; a
player does not. The discriminator sees latents of pictures and predicted ones, token by token with what is
around, and nothing of the past: whether this can be a picture is asked here, whether it is what follows is
the score's. Relativistic pairs (R3GAN, 2501.05441), each prediction with its own truth, so that what
levels hold counts for neither; its slope is held down by how much little noise changes its answer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, LAYERS = 256, 3
NOISE, STEADY = 0.1, 50.0
"""Root mean square of that noise, and the weight of the answer's change, squared."""
LR, BETAS = 2e-4, (0.0, 0.99)


class Discriminator(nn.Module):
    """Latents [B, C, H, W] -> one answer a token, [B, 1, H, W]: the more, the more of a picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, WIDTH, 1), nn.LeakyReLU(0.2)]
        for _ in range(LAYERS):
            layers += [nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Conv2d(WIDTH, 1, 1))

    def forward(self, latents: Tensor) -> Tensor:
        return self.body(latents)


class Adversary:
    """A discriminator that learns beside a world model, and what it says against that."""

    def __init__(self, channels: int, device: str) -> None:
        net = Discriminator(channels).to(device)
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        on_gpu = device == "cuda"
        self.optimiser = torch.optim.Adam(
            self.net.parameters(),
            lr=torch.tensor(LR, device=device),
            betas=BETAS,
            fused=on_gpu,
            capturable=on_gpu,
        )

    def update(self, made: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """One update of the discriminator on predictions and their truth [B, C, H, W], both detached; then
        the slope of what it says against the predictions, like them, and how often it is right."""
        made, true = (z.contiguous(memory_format=torch.channels_last) for z in (made, true))
        noisy = true + NOISE * torch.randn_like(true)
        said_true, said_made, said_noisy = self.net(torch.cat((true, made, noisy))).float().chunk(3)
        loss = F.softplus(said_made - said_true).mean()
        loss = loss + STEADY * (said_noisy - said_true).square().mean()
        for parameter in self.net.parameters():
            parameter.grad = None
        loss.backward()
        self.optimiser.step()
        leaf = made.detach().requires_grad_(True)
        against = F.softplus(said_true.detach() - self.net(leaf).float()).mean()
        (slope,) = torch.autograd.grad(against, leaf)
        return slope, (said_true > said_made).float().mean()
