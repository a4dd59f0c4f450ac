"""Stage `autoencoder`: pictures of one game -> encoder and CPU decoder.

    python -m engine.training.autoencoder racing --minutes 8 --out OUT

With several GPUs: torchrun --nproc-per-node N -m engine.training.autoencoder racing ...

First 240x240 windows at a large batch, then whole pictures. Loss: L1 + 3 MSE + 0.5 gradient, small important
things (the renderer's class maps) weighted; tangential noise on the latents, so that latents beside the
sphere's trained points decode as well. Prints a line every ten seconds; writes bf16 weights at the end.

With --wide the GPUs' decoder learns beside the CPU's, each with half of the loss, so that the encoder keeps
what either can paint; it is written to a file of its own, which stage `wide_decoder` can go on from."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.config import AutoencoderConfig, ConfigError, WideDecoderConfig
from engine.models.autoencoder import Decoder, Encoder, from_bytes, with_decoder_of
from engine.models.layers import perturb_on_sphere
from engine.training import measures
from engine.training.captured import Captured
from engine.training.command import errors_said
from engine.training.data import PLAYED_IN_FRAMES, FramePool, Simulation
from engine.training.files import read_part, write_part
from engine.training.optim import Training, join_ranks
from engine.training.widen import widened
from games import GAMES

MASK_WEIGHT = 5.0
EDGE_WEIGHT = 1.0
WHOLE_FROM = 0.6
"""Share of the time spent on windows; the rest is on whole pictures."""
NEW = Path()
"""Stands for no file of a wide decoder."""


class Autoencoder(nn.Module):
    """Encoder, noise on the sphere, decoder; and the GPUs' wide decoder, where one learns beside it."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.wide: Decoder | None = None

    def forward(self, pictures: Tensor, noise: Tensor, sigma: Tensor) -> list[Tensor]:
        """pictures [B, 3, H, W]; noise like the latents; sigma [B, 1, 1, 1]. Returns each decoder's pictures,
        float [B, 3, H, W]."""
        latents = perturb_on_sphere(self.encoder(pictures), sigma, noise, dim=1)
        decoders = [self.decoder] if self.wide is None else [self.decoder, self.wide]
        return [decoder(latents).float() for decoder in decoders]


def class_worth(game: str, masks: Sequence[float]) -> Tensor:
    """masks: what pixels of the game's masks weigh beyond all others' 1, one number for all or one for each.
    Returns what a pixel of each class weighs, [1 + masks]. Raises ConfigError."""
    names = GAMES[game].masks
    if len(masks) not in (1, len(names)) or min(masks) < 0:
        raise ConfigError(f"--mask takes one weight of 0 and more, or one for each of {', '.join(names)}")
    return torch.tensor([1.0] + [1 + mask for mask in masks] * (len(names) // len(masks)))


def edge_strength(pictures: Tensor) -> Tensor:
    """[B, 3, H, W] -> root mean square of neighbouring pixels' differences in windows of 8x8 pixels, half a
    window apart."""
    down = (pictures[:, :, 1:, :-1] - pictures[:, :, :-1, :-1]).square()
    right = (pictures[:, :, :-1, 1:] - pictures[:, :, :-1, :-1]).square()
    return torch.sqrt(F.avg_pool2d((down + right).mean(1, keepdim=True), 8, 4) + 1e-5)


def picture_loss(
    made: Tensor, true: Tensor, classes: Tensor, worth: Tensor, edge: float = EDGE_WEIGHT
) -> tuple[Tensor, Tensor]:
    """Weighted L1 + 3 MSE + 0.5 gradient + `edge` x edge strength, and the unweighted MSE (detached). A pixel
    of class c weighs worth[c] (`class_worth`).

    An edge that is not known to the pixel is blurred by every loss that compares pixels; strength in a
    window asks for it to be drawn as sharp as it is, wherever that is."""
    weight = worth[classes.long()][:, None]
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
        self.worth = class_worth(self.game, args.mask).to(self.device)
        self.compiled = torch.compile(self._loss, dynamic=False) if self.device == "cuda" else self._loss
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
        resume, wide = self.args.resume, self.args.wide
        model = read_autoencoder(resume) if resume else Autoencoder(AutoencoderConfig())
        if wide == NEW:
            model.wide = widened(model.decoder, WideDecoderConfig().of(model.config))
        elif wide:
            state = read_part(wide)
            model.wide = Decoder(with_decoder_of(model.config, state))
            model.wide.load_state_dict(state)
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

    def _loss(self, pictures: Tensor, classes: Tensor, noise: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The decoders' mean loss, and the plain squared error of the first."""
        made = self.model(pictures, noise, sigma)
        found = [picture_loss(each, pictures, classes, self.worth, self.args.edge) for each in made]
        return torch.stack([loss for loss, _ in found]).mean(), found[0][1]

    def finish(self) -> None:
        """Save the average, print its figures on held-out seeds."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = self.training.averaged()
        own = {name: value for name, value in state.items() if not name.startswith("wide.")}
        save_file(own, self.out / f"{self.game}-autoencoder.safetensors")
        model, pool = self.model, held_out_pool(self.game, self.device, self.small)
        model.load_state_dict({name: value.float() for name, value in state.items()})
        report(self.game, model.encoder, model.decoder, pool)
        if model.wide is not None:
            write_part(model.wide.state_dict(), self.out, self.game)
            report(f"{self.game} wide decoder:", model.encoder, model.wide, pool)
        print(f"{self.game}: autoencoder, {self.training.updates} updates", flush=True)


def read_autoencoder(paths: Sequence[Path]) -> Autoencoder:
    """An earlier run's, of the sizes that it has; later files override earlier ones."""
    state = {k: v.float() for path in paths for k, v in load_file(path).items()}
    decoder = {k.removeprefix("decoder."): v for k, v in state.items() if k.startswith("decoder.")}
    model = Autoencoder(with_decoder_of(AutoencoderConfig(), decoder))
    model.load_state_dict(state)
    return model


def load_autoencoder(paths: Sequence[Path], device: str) -> Autoencoder:
    """The same, frozen, on `device`: the stage before's."""
    model = read_autoencoder(paths).to(device).eval().requires_grad_(False)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


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
def report(name: str, encoder: nn.Module, decoder: nn.Module, pool: FramePool) -> None:
    """PSNR on the pool's pictures, overall and inside each mask, and sharpness over the truth's."""
    squares: list[float] = []
    sharp: list[Tensor] = []
    masks: dict[str, list[float]] = {mask: [] for mask in pool.simulation.spec.masks}
    for first in range(0, pool.filled, 16):
        pictures = from_bytes(pool.pictures[first : first + 16])
        made = decoder(encoder(pictures)).clamp(0, 1)
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


def weight(text: str) -> float:
    """Of 0 or more. Raises ArgumentTypeError, ValueError."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"a weight is 0 or more, not {text}")
    return value


def add_loss_options(parser: argparse.ArgumentParser) -> None:
    """--mask and --edge, of `picture_loss`."""
    parser.add_argument(
        "--mask",
        type=weight,
        nargs="+",
        metavar="W",
        default=[MASK_WEIGHT],
        help="weight of what the masks show, one for all or one for each",
    )
    parser.add_argument(
        "--edge", type=weight, default=EDGE_WEIGHT, help="weight of edge strength in the loss"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--resume", type=Path, nargs="*", help="go on from these weights")
    parser.add_argument(
        "--wide",
        type=Path,
        nargs="?",
        const=NEW,
        metavar="FILE",
        help="a wide decoder learns beside the CPU's: that of FILE, or one that begins as the CPU's",
    )
    add_loss_options(parser)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--muon-lr", type=float, default=1e-3)
    parser.add_argument("--noise", type=float, default=0.15, help="most noise on the latents before decoding")
    parser.add_argument("--small", action="store_true", help="tiny batches, to try the script on a CPU")
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    with errors_said():
        AutoencoderTraining(args).run()


if __name__ == "__main__":
    main()
