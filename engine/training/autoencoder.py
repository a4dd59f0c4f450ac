"""Stage `autoencoder`: pictures of one game -> encoder and CPU decoder.

    python -m engine.training.autoencoder racing --minutes 8 --out OUT

With several GPUs: torchrun --nproc-per-node N -m engine.training.autoencoder racing ...

First 240x240 windows at a large batch, then whole pictures. Loss: L1 + 3 MSE + 0.5 gradient, small important
things (the renderer's class maps) weighted; tangential noise on the latents, so that latents beside the
sphere's trained points decode as well. Prints a line every ten seconds; writes bf16 weights at the end."""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.config import AutoencoderConfig
from engine.models.autoencoder import Decoder, Encoder, from_bytes
from engine.models.layers import perturb_on_sphere
from engine.training import measures
from engine.training.captured import Captured
from engine.training.data import PLAYED_IN_FRAMES, FramePool, Simulation
from engine.training.optim import Training, join_ranks

MASK_WEIGHT = 5.0
EDGE_WEIGHT = 1.0
WHOLE_FROM = 0.6
"""Share of the time spent on windows; the rest is on whole pictures."""


class Autoencoder(nn.Module):
    """Encoder, noise on the sphere, decoder, loss: one training step's forward pass."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def forward(
        self, pictures: Tensor, classes: Tensor, noise: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        """pictures [B, 3, H, W]; noise like the latents; sigma [B, 1, 1, 1]. Returns loss and the plain
        MSE."""
        latents = perturb_on_sphere(self.encoder(pictures), sigma, noise, dim=1)
        return picture_loss(self.decoder(latents).float(), pictures, classes)


def edge_strength(pictures: Tensor) -> Tensor:
    """[B, 3, H, W] -> root mean square of neighbouring pixels' differences in windows of 8x8 pixels, half a
    window apart."""
    down = (pictures[:, :, 1:, :-1] - pictures[:, :, :-1, :-1]).square()
    right = (pictures[:, :, :-1, 1:] - pictures[:, :, :-1, :-1]).square()
    return torch.sqrt(F.avg_pool2d((down + right).mean(1, keepdim=True), 8, 4) + 1e-5)


def picture_loss(
    made: Tensor, true: Tensor, classes: Tensor, edge: float = EDGE_WEIGHT, mask: float = MASK_WEIGHT
) -> tuple[Tensor, Tensor]:
    """Weighted L1 + 3 MSE + 0.5 gradient + `edge` x edge strength, and the unweighted MSE (detached). Pixels
    of a class weigh 1 + `mask`, all others 1.

    An edge that is not known to the pixel is blurred by every loss that compares pixels; strength in a
    window asks for it to be drawn as sharp as it is, wherever that is."""
    weight = 1 + mask * (classes > 0).float()[:, None]
    weight = weight / weight.mean()
    error = made - true
    down = (error[:, :, 1:] - error[:, :, :-1]).abs() * weight[:, :, 1:]
    right = (error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]
    square = error.square()
    loss = (error.abs() * weight).mean() + 3 * (square * weight).mean() + 0.5 * (down.mean() + right.mean())
    loss = loss + edge * (edge_strength(made) - edge_strength(true)).abs().mean()
    return loss, square.mean().detach()


class AutoencoderTraining:
    """One run: a pool of fresh pictures, the model, its optimiser; `run` until the time is over."""

    whole_from = WHOLE_FROM
    first_seed = 0

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.game, self.out, self.small = args, args.game, args.out, args.small
        self.most_noise = args.noise
        self.device, self.rank = join_ranks(args.device)
        torch.manual_seed(0)
        model = self._model().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model, self.config = model, model.config
        self.compiled = torch.compile(model, dynamic=False) if self.device == "cuda" else model
        torch.manual_seed(self.rank)
        worlds, size, self.crops, self.wholes = (8, 16, 4, 1) if self.small else (512, 8192, 96, 24)
        self.refresh_every = 1 if self.small else 32
        seed = self.first_seed + self.rank * 400_000
        simulation = Simulation(self.game, worlds, self.device, offset=seed)
        simulation.play_in(60 if self.small else PLAYED_IN_FRAMES)
        self.pool = FramePool(simulation, size, stride=6)
        for _ in range(2 if self.small else 8):
            self.pool.refresh()
        print(f"{self.game}: a pool of {self.pool.filled} pictures", flush=True)
        self.learn = Captured(self._learn)
        seconds = args.minutes * 60
        self.training = Training(self._learner(), seconds, lr=4e-4, muon_lr=args.muon_lr, warmup=300)

    def _model(self) -> Autoencoder:
        """What the run begins with."""
        model = Autoencoder(AutoencoderConfig())
        if self.args.resume:
            state = {k: v.float() for path in self.args.resume for k, v in load_file(path).items()}
            model.load_state_dict(state)
        return model

    def _learner(self) -> nn.Module:
        """The part of the model that learns."""
        return self.model

    def run(self) -> None:
        self.training.run(self.step, self.game)
        if self.rank == 0:
            self.finish()

    def step(self) -> Tensor:
        """One update on windows, later on whole pictures. Returns the mean squared error."""
        if self.training.updates % self.refresh_every == 0:
            self.pool.refresh()
        whole = self.training.progress >= self.whole_from
        pictures, classes = self.pool.sample(self.wholes) if whole else self.pool.sample(self.crops, 240, 240)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        count, _, height, width = pictures.shape
        noise = torch.randn(count, self.config.channels, height // 48, width // 48, device=self.device)
        sigma = torch.rand(count, 1, 1, 1, device=self.device) * self.most_noise
        square = self.learn(pictures, classes, noise, sigma)
        self.training.apply()
        return square.clone()

    def _learn(self, pictures: Tensor, classes: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        half = torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda", cache_enabled=False)
        with half:
            loss, square = self.compiled(pictures, classes, noise, sigma)
        self.training.backward(loss)
        return square

    def finish(self) -> None:
        """Save the average, print its figures on held-out seeds."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = self.training.averaged()
        save_file(state, self.out / f"{self.game}-autoencoder.safetensors")
        averaged = Autoencoder(self.config).to(self.device)
        averaged.load_state_dict({name: value.float() for name, value in state.items()})
        report(self.game, averaged, held_out_pool(self.game, self.device, self.small))
        print(f"{self.game}: autoencoder, {self.training.updates} updates", flush=True)


def held_out_pool(game: str, device: str, small: bool) -> FramePool:
    """Pictures of seeds that no training sees."""
    pool = FramePool(
        Simulation(game, 4 if small else 64, device, range(1_000_000, 1_100_000)),
        8 if small else 512,
        stride=8,
    )
    for _ in range(2 if small else 8):
        pool.refresh()
    return pool


@torch.no_grad()
def report(name: str, model: Autoencoder, pool: FramePool) -> None:
    """PSNR on the pool's pictures, overall and inside each mask, and sharpness over the truth's."""
    squares: list[float] = []
    sharp: list[Tensor] = []
    masks: dict[str, list[float]] = {mask: [] for mask in pool.simulation.spec.masks}
    for first in range(0, pool.filled, 16):
        pictures = from_bytes(pool.pictures[first : first + 16])
        made = model.decoder(model.encoder(pictures)).clamp(0, 1)
        error = (made - pictures).square().mean(1)
        squares += error.mean((1, 2)).tolist()
        sharp.append(
            torch.stack((measures.gradient_energy(made), measures.gradient_energy(pictures))).mean(1)
        )
        for k, mask in enumerate(masks, start=1):
            inside = error[pool.classes[first : first + 16] == k]
            masks[mask].append(inside.mean().item() if inside.numel() else float("nan"))
    psnr = -10 * torch.tensor(squares).log10()
    dream, true = torch.stack(sharp).mean(0).tolist()
    print(
        f"{name} held-out psnr mean {psnr.mean():.2f} worst {psnr.min():.2f} dB sharpness {dream / true:.3f}"
    )
    for mask, values in masks.items():
        print(f"  inside {mask}: {-10 * torch.tensor(values).nanmean().log10():.2f} dB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=("racing", "platformer"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--resume", type=Path, nargs="*", help="go on from these weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--muon-lr", type=float, default=1e-3)
    parser.add_argument("--noise", type=float, default=0.15, help="most noise on the latents before decoding")
    parser.add_argument("--small", action="store_true", help="tiny batches, to try the script on a CPU")
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    AutoencoderTraining(args).run()


if __name__ == "__main__":
    main()
