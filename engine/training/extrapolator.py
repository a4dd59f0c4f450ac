"""Stage `extrapolator`: latents of every frame of live simulation -> the network that fills in between.

    python -m engine.training.extrapolator racing --minutes 4 --weights assets/weights/racing --out OUT

The truth is free: the simulators run at 60 Hz. Windows of all strides, 1 to 2 x stride ahead, with the newest
buttons. Loss: the squared error of the latent in the decoder's own metric (how much a change of a token
changes the picture, averaged over pictures), to which --pixels adds the squared error of decoded pictures.
The inputs get noise, part of it shared with the truth: in play the latents are a dream's, and their faults go
on. On a CPU give --bank FILE: rendering and encoding take a tenth of a second a frame, so frames are kept
there."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.backend import load_backend
from engine.config import GameConfig
from engine.models.extrapolator_net import (
    ExtrapolatorNet,
    Heads,
    last_motion,
    moved,
    time_features,
)
from engine.models.layers import perturb_on_sphere
from engine.models.weights import SHIPPED, WeightsError, load_config, load_part
from engine.training.data import Simulation, encode_all
from engine.training.latent_fit import CombinationFit, Metric, decoder_metric
from engine.training.optim import Training
from engine.training.runs import RunBank, Runs, Windows, load_runs, save_runs, windows
from games import GAMES

ERROR_WEIGHT = 0.02
SHARED_NOISE, OWN_NOISE = 0.2, 0.06
"""Largest root mean square per channel of the noise that inputs share with the truth, and of each one's
own."""


def noisy(batch: Windows) -> Windows:
    """Inputs as a dream would have them: a fault that goes on (shared with the truth), and a little of each
    latent's own. A quarter of the windows stay clean."""
    rows = (len(batch.newest), 1, 1, 1)
    device = batch.newest.device
    some = torch.rand(rows, device=device) > 0.25
    level = torch.rand(rows, device=device) * SHARED_NOISE * some
    own = torch.rand(rows, device=device) * OWN_NOISE * some
    fault = torch.randn_like(batch.newest)

    def given(z: Tensor, own: Tensor) -> Tensor:
        z = perturb_on_sphere(z, level, fault, dim=1)
        return perturb_on_sphere(z, own, torch.randn_like(z), dim=1)

    return replace(
        batch,
        before=given(batch.before, own),
        newest=given(batch.newest, own),
        truth=given(batch.truth, own * 0),
    )


class Step:
    """One batch's losses. The network may be compiled; the geometry around it is cheap."""

    def __init__(self, net: nn.Module, metric: Metric) -> None:
        self.net, self.metric = net, metric

    def __call__(self, batch: Windows, half: torch.dtype | None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the loss, squared errors of the move and of hold [2] (means, detached), the latents
        made."""
        motion = last_motion(batch.before, batch.newest)
        told = time_features(batch.buttons, batch.strides, batch.aheads)
        with torch.autocast(motion.device.type, half or torch.bfloat16, enabled=half is not None):
            heads = self.net(motion, batch.newest, told)
        heads = Heads(*(x.float() for x in heads))
        made = moved(batch.newest, motion, heads, (batch.aheads / batch.strides).view(-1, 1, 1, 1))
        error = self.metric.squared(made - batch.truth)
        held = self.metric.squared(batch.newest - batch.truth).detach()
        # Fast windows have errors a hundred times those of slow ones: meet them half way.
        scale = (held.mean((1, 2, 3), keepdim=True) + 0.01).sqrt()
        logs = heads.log_errors.clamp(-12, 6)
        expected = torch.cat((error.detach(), held), 1) + 1e-4
        calibration = (logs + expected * (-logs).exp()).mean()  # least where exp(log) is the mean error
        loss = (error / scale).mean() + ERROR_WEIGHT * calibration
        return loss, torch.stack((error.mean(), held.mean())).detach(), made


@dataclass(frozen=True)
class Sizes:
    worlds: int
    bank: int
    batch: int
    refresh: int  # updates between two runs of the simulation; 0: never
    gap: tuple[int, int]


def sizes(device: str, small: bool, kept: bool) -> Sizes:
    if small:
        return Sizes(1, 2, 4, 0, (8, 16))
    if device == "cuda":
        return Sizes(256, 4096, 128, 400, (8, 64))
    return Sizes(8, 4096, 16, 0 if kept else 200, (30, 300))


class Data:
    """Windows of live simulation, or of the runs kept in a file."""

    def __init__(self, game: str, weights: Path, device: str, given: Sizes, args: argparse.Namespace) -> None:
        self.sizes, self.bank = given, None
        self.runs: Runs
        if args.bank and args.bank.exists():
            self.runs = load_runs(args.bank, device)
            return
        simulation = Simulation(game, given.worlds, device, offset=args.seed_offset)
        self.bank = RunBank(simulation, encode_with(game, weights, device), given.bank, gap=given.gap)
        began = time.monotonic()
        least = 1 if args.small else 4
        while len(self.bank.parts) < least or (time.monotonic() - began) < args.collect_minutes * 60:
            self.bank.refresh()
        self.runs = self.bank.runs()
        if args.bank:
            save_runs(args.bank, self.runs)

    def sample(self, update: int) -> Windows:
        if self.bank and self.sizes.refresh and update % self.sizes.refresh == self.sizes.refresh - 1:
            self.bank.refresh()
            self.runs = self.bank.runs()
        return windows(self.runs, self.sizes.batch)


def encode_with(game: str, weights: Path, device: str) -> Callable[[Tensor], Tensor]:
    """The trained encoder: the machine's fastest on a CPU, compiled bfloat16 on a GPU."""
    if device == "cpu":
        encoder = load_backend(
            game, roles=("encoder",), threads=torch.get_num_threads(), weights=str(weights)
        )
        quick = encoder.encoder()
        return lambda pictures: torch.from_numpy(quick.encode(pictures.numpy()))
    model = load_part(weights, "encoder").to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    compiled = torch.compile(model, dynamic=False)

    def encode(pictures: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return encode_all(compiled, pictures)  # type: ignore[arg-type]

    return encode


def pixel_loss(decoder: nn.Module, made: Tensor, truth: Tensor, rows: int) -> Tensor:
    """Squared error of the decoded pictures of the first rows."""
    with torch.no_grad():
        wanted = decoder(truth[:rows])
    return (decoder(made[:rows]) - wanted).float().square().mean()


def train(game: str, weights: Path, device: str, args: argparse.Namespace) -> Path:
    """Returns the file it wrote."""
    torch.manual_seed(2)
    torch.set_float32_matmul_precision("high")
    given = sizes(device, args.small, bool(args.bank))
    if args.batch:
        given = replace(given, batch=args.batch)
    config, _ = load_config(weights)
    data = Data(game, weights, device, given, args)
    print(f"{game}: {data.runs.latents.shape[0]} runs of {data.runs.latents.shape[1]} frames", flush=True)
    decoder = load_part(weights, "decoder").to(device)
    picked = windows(data.runs, 2 if args.small else 4).newest
    metric = decoder_metric(decoder, picked, 1 if args.small else 24)
    net = ExtrapolatorNet(config).to(device)
    step = Step(torch.compile(net, dynamic=False) if device == "cuda" else net, metric)  # type: ignore[arg-type]
    fit = CombinationFit(metric, device)
    training = Training(net, args.minutes * 60, lr=args.lr, muon_lr=None, warmup=100, cooldown=0.5)
    half = torch.bfloat16 if device == "cuda" else None
    pixels = args.pixels if args.pixels is not None else (1.0 if device == "cuda" else 0.0)
    sums, said = torch.zeros(3, device=device), time.monotonic()
    while training.progress < 1 and (not args.updates or training.updates < args.updates):
        clean = data.sample(training.updates)
        fit.add(clean)
        batch = noisy(clean)
        loss, errors, made = step(batch, half)
        if pixels and training.progress > 0.4:
            with torch.autocast(device, torch.bfloat16, enabled=half is not None):
                loss = loss + pixels * 50 * pixel_loss(decoder, made, batch.truth, rows=32)
        loss.backward()
        training.apply()
        sums += torch.cat((errors, torch.ones(1, device=device)))
        if time.monotonic() - said > 15:
            said = time.monotonic()
            report(game, training, sums)
            sums = torch.zeros(3, device=device)
    report(game, training, sums)
    return save(game, config, training, fit, args.out)


def report(game: str, training: Training, sums: Tensor) -> None:
    moved_error, held_error, count = sums.tolist()
    if not moved_error == moved_error:
        raise SystemExit("the loss is not finite: stopping")
    removed = 1 - moved_error / max(held_error, 1e-9)
    print(
        f"{game} {training.progress:4.0%} update {training.updates}: "
        f"latent error {moved_error / max(count, 1):.4f}, of hold's removed {removed:.1%}",
        flush=True,
    )


def save(game: str, config: GameConfig, training: Training, fit: CombinationFit, out: Path) -> Path:
    kept = {f"extrapolator.{name}": value for name, value in training.averaged().items()}
    kept["extrapolator.coefficients"] = fit.coefficients().contiguous()
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{game}-extrapolator.safetensors"
    save_file(kept, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--weights", type=Path, help="the game's packed encoder and decoder")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bank", type=Path, help="runs are kept there, and read from there if it exists")
    parser.add_argument("--collect-minutes", type=float, default=0.0, help="collect at least so long first")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, help="windows in a batch")
    parser.add_argument("--updates", type=int, help="stop after so many, whatever the time")
    parser.add_argument("--pixels", type=float, help="weight of decoded pictures' error; default 1 on a GPU")
    parser.add_argument("--seed-offset", type=int, default=500_000, help="first training seed")
    parser.add_argument("--small", action="store_true", help="tiny batches, to try the script on a CPU")
    args = parser.parse_args()
    try:
        path = train(args.game, args.weights or SHIPPED / args.game, args.device, args)
    except WeightsError as error:
        raise SystemExit(f"dreamcade: error: {error}") from None
    print(f"{args.game}: wrote {path}", flush=True)


if __name__ == "__main__":
    main()
