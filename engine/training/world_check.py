"""What stage `world` says of itself at its end: next step and rollouts on held-out seeds."""

import torch
from torch import Tensor

from engine.models.autoencoder import from_bytes
from engine.models.world_model import WorldModel
from engine.training import measures
from engine.training.autoencoder import Autoencoder
from engine.training.context import conditions
from engine.training.data import ClipBank, Clips, Simulation


@torch.no_grad()
def check(game: str, model: WorldModel, autoencoder: Autoencoder, device: str, small: bool) -> None:
    """Held-out seeds, stride 4, no mixed precision: PSNR of the next step and of rollouts beside hold and
    beside the autoencoder's ceiling, and sharpness."""
    worlds, context, wanted = (4, 4, (1, 3)) if small else (32, 16, (1, 4, 15))
    bank, pictures = true_steps(game, autoencoder, worlds, context + max(wanted) + 2, device)
    clips = bank.clips()
    made = rollout(model, clips, context, max(wanted), device)
    parts = []
    for steps in wanted:
        true, hold = pictures[context + steps], pictures[context]
        dream = autoencoder.decoder(made[steps - 1]).clamp(0, 1)
        ceiling = autoencoder.decoder(bank.latents[:, context + steps].float()).clamp(0, 1)
        sharp = measures.gradient_energy(dream).mean() / measures.gradient_energy(true).mean()
        parts.append(
            f"{steps}: {measures.psnr(dream, true).mean():.2f} (hold {measures.psnr(hold, true).mean():.2f}, "
            f"ceiling {measures.psnr(ceiling, true).mean():.2f}, sharp {sharp:.2f})"
        )
    print(f"{game} held-out psnr after steps  " + "  ".join(parts), flush=True)


def true_steps(
    game: str, autoencoder: Autoencoder, worlds: int, steps: int, device: str
) -> tuple[ClipBank, list[Tensor]]:
    """A bank of `steps` steps of stride 4 on held-out seeds, and their pictures, each [B, 3, H, W]."""
    simulation = Simulation(game, worlds, device, range(1_000_000, 1_000_000 + worlds))
    simulation.lifetime += 10**6
    simulation.advance(torch.full((worlds,), 64, device=device), 64)
    bank = ClipBank(simulation, autoencoder.encoder, autoencoder.config.channels, steps, fixed_stride=4)
    pictures = []
    for _ in range(steps):
        bank.advance()
        pictures.append(from_bytes(simulation.world.render()))
    return bank, pictures


def rollout(model: WorldModel, clips: Clips, context: int, steps: int, device: str) -> list[Tensor]:
    """`steps` latents [B, C, H, W] dreamed on from the first context + 1, with the clips' buttons."""
    level = torch.zeros(len(clips.latents), device=device)
    latents, told = clips.latents[:, : context + 1], clips.telemetry[:, 1 : context + 1]
    made = []
    for t in range(steps):
        window = clips.window(t, t + context + 2)
        inputs = conditions(model.config, window, told, level)
        following, read = model(latents[:, 1:], latents[:, :-1], inputs)
        made.append(following[:, -1])
        latents = torch.cat((latents[:, 1:], following[:, -1:]), 1)
        told = torch.cat((told[:, 1:], read[:, -1:]), 1)
    return made
