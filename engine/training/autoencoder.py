"""Stage `autoencoder`: pictures of one game -> encoder and CPU decoder.

    python -m engine.training.autoencoder racing --minutes 8 --out OUT

First 240x240 windows at a large batch, then whole pictures. Loss: L1 + 3 MSE + 0.5 gradient, small important
things (the renderer's class maps) weighted; tangential noise on the latents, so that latents beside the
sphere's trained points decode as well. Prints a line every ten seconds; writes bf16 weights at the end."""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.config import AutoencoderConfig
from engine.models.autoencoder import Decoder, Encoder
from engine.models.layers import perturb_on_sphere
from engine.training.data import FramePool, Simulation
from engine.training.optim import Training, join_ranks

MASK_WEIGHT = 5.0


class Autoencoder(nn.Module):
    """Encoder, noise on the sphere, decoder, loss: one training step's forward pass."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def forward(
        self, pictures: Tensor, classes: Tensor, noise: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        """pictures [B, 3, H, W]; noise like the latents; sigma [B, 1, 1, 1]. Returns loss and the plain
        MSE."""
        latents = perturb_on_sphere(self.encoder(pictures), sigma, noise, dim=1)
        return picture_loss(self.decoder(latents).float(), pictures, classes)


def picture_loss(made: Tensor, true: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted L1 + 3 MSE + 0.5 gradient, and the unweighted MSE (detached)."""
    weight = 1 + MASK_WEIGHT * (classes > 0).float()[:, None]
    weight = weight / weight.mean()
    error = made - true
    down = (error[:, :, 1:] - error[:, :, :-1]).abs() * weight[:, :, 1:]
    right = (error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]
    square = error.square()
    loss = (error.abs() * weight).mean() + 3 * (square * weight).mean() + 0.5 * (down.mean() + right.mean())
    return loss, square.mean().detach()


def train(
    game: str,
    seconds: float,
    out: Path,
    device: str,
    config: AutoencoderConfig,
    start: Path | None,
    small: bool,
    decoder_only: bool,
    most_noise: float,
) -> None:
    device, rank = join_ranks(device)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    worlds, pool_size, crops, wholes = (8, 16, 4, 1) if small else (512, 8192, 96, 24)
    model = Autoencoder(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start:
        model.load_state_dict({k: v.float() for k, v in load_file(start).items()})
    began = time.monotonic()
    torch.manual_seed(rank)
    pool = FramePool(Simulation(game, worlds, device, offset=rank * 400_000), pool_size, stride=6)
    for _ in range(2 if small else 8):
        pool.refresh()
    print(f"{game}: pool of {pool.filled} pictures after {time.monotonic() - began:.1f} s", flush=True)
    step = torch.compile(model, dynamic=False) if device == "cuda" else model
    model.encoder.requires_grad_(not decoder_only)
    trained = model.decoder if decoder_only else model
    training = Training(trained, seconds, lr=4e-4, muon_lr=None, warmup=300)
    said, losses, refresh_every = time.monotonic(), [], 32 if not small else 1
    while training.progress < 1:
        whole = training.progress > (0.4 if decoder_only else 0.55)
        if training.updates % refresh_every == 0:
            pool.refresh()
        pictures, classes = pool.sample(wholes) if whole else pool.sample(crops, 240, 240)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        b, h, w = len(pictures), pictures.shape[2] // 48, pictures.shape[3] // 48
        noise = torch.randn(b, config.channels, h, w, device=device)
        sigma = torch.rand(b, 1, 1, 1, device=device) * most_noise
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss, mse = step(pictures, classes, noise, sigma)
        loss.backward()
        training.apply()
        losses.append(mse)
        if rank == 0 and time.monotonic() - said > 10:
            said = time.monotonic()
            psnr = -10 * torch.stack(losses).mean().log10()
            print(
                f"{game} {training.progress:4.0%} update {training.updates} train psnr {psnr:.2f} dB whole={whole}",
                flush=True,
            )
            losses = []
            if not psnr.isfinite():
                raise SystemExit("the loss is not finite: stopping")
    if rank:
        return
    out.mkdir(parents=True, exist_ok=True)
    prefix = "decoder." if decoder_only else ""
    kept = {prefix + name: value for name, value in training.averaged().items()}
    save_file(kept, out / f"{game}-{'decoder' if decoder_only else 'autoencoder'}.safetensors")
    averaged = Autoencoder(config).to(device)
    averaged.load_state_dict(model.state_dict() | {k: v.float() for k, v in kept.items()})
    report(game, averaged, device, small)
    print(f"{game}: autoencoder {training.updates} updates in {time.monotonic() - began:.0f} s", flush=True)


@torch.no_grad()
def report(game: str, model: Autoencoder, device: str, small: bool) -> None:
    """PSNR on held-out seeds, overall and inside each mask."""
    pool = FramePool(
        Simulation(game, 4 if small else 64, device, range(1_000_000, 1_100_000)),
        8 if small else 512,
        stride=8,
    )
    for _ in range(2 if small else 8):
        pool.refresh()
    squares, masks = [], {name: [] for name in pool.simulation.spec.masks}  # type: ignore[var-annotated]
    for first in range(0, pool.filled, 16):
        pictures = pool.pictures[first : first + 16].permute(0, 3, 1, 2).float() / 255
        error = (model.decoder(model.encoder(pictures)).clamp(0, 1) - pictures).square().mean(1)
        squares += error.mean((1, 2)).tolist()
        for k, name in enumerate(masks, start=1):
            inside = error[pool.classes[first : first + 16] == k]
            masks[name].append(inside.mean().item() if inside.numel() else float("nan"))
    psnr = -10 * torch.tensor(squares).log10()
    print(f"{game} held-out psnr mean {psnr.mean():.2f} worst {psnr.min():.2f} dB", flush=True)
    for name, values in masks.items():
        print(f"  inside {name}: {-10 * torch.tensor(values).nanmean().log10():.2f} dB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=("racing", "platformer"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--start", type=Path, help="go on from these weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--decoder-only", action="store_true", help="leave the encoder, and so the latents, as they are"
    )
    parser.add_argument(
        "--noise", type=float, default=0.2, help="largest noise on the latents before decoding"
    )
    parser.add_argument("--small", action="store_true", help="tiny batches, to try the script on a CPU")
    args = parser.parse_args()
    train(
        args.game,
        args.minutes * 60,
        args.out,
        args.device,
        AutoencoderConfig(),
        args.start,
        args.small,
        args.decoder_only,
        args.noise,
    )


if __name__ == "__main__":
    main()
