"""Stage `world`: the encoder's latents of live simulation -> the world model.

    python -m engine.training.world racing --autoencoder OUT/racing-autoencoder.safetensors --minutes 9 --out
    OUT

Clips of mixed strides. Each latent goes in with tangential noise of a level the model is told. Objective: the
energy score over tokens, and over 3x3 neighbourhoods of tokens, of two samples that differ in the random
vector (a proper score: 2506.10772); for the first part of the time one sample, which is the same score
without its spread term and twice as many clips. In the later part the model sees its own outputs: some passes
without gradient replace the latents it is given by those it predicted, at all positions at once, so that
after k passes a position carries the errors of a k-step rollout."""

import argparse
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.config import AutoencoderConfig, WorldConfig
from engine.models.autoencoder import Decoder
from engine.models.layers import perturb_on_sphere
from engine.models.world_model import Inputs, WorldModel
from engine.training.autoencoder import Autoencoder
from engine.training.data import ClipBank, Clips, Simulation
from engine.training.optim import Training, join_ranks
from games import GAMES

TELEMETRY_WEIGHT = 0.5
CONTEXT_NOISE = 0.5
"""Largest root mean square of the noise on context latents; a quarter of the clips have none."""


def energy_score(samples: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """samples [K, B, T, C, H, W], K = 1 or 2; truth [B, T, C, H, W]; weights [B, T, H, W].

    mean_k |x_k - y| - 0.5 |x_1 - x_2|, |.| per token and per 3x3 neighbourhood; a mean over channels inside
    the root."""

    def distance(a: Tensor, b: Tensor) -> Tensor:
        square = (a - b).square().mean(-3)
        near = F.avg_pool2d(square.flatten(0, 1), 3, 1, 1, count_include_pad=False).view_as(square)
        return (torch.sqrt(square + 1e-4) + torch.sqrt(near + 1e-4)) * 0.5

    score = torch.stack([distance(x, truth) for x in samples]).mean(0)
    if len(samples) == 2:
        score = score - 0.5 * distance(samples[0], samples[1])
    return (score * weights).mean() / weights.mean()


class Batches:
    """Turns clips into the model's inputs, and its outputs back into inputs for the next pass."""

    def __init__(self, config: WorldConfig, device: str) -> None:
        self.config, self.device = config, device

    def inputs(self, clips: Clips, telemetry: Tensor, level: Tensor) -> Inputs:
        """Conditions for steps 0..T-1, a new random vector each. telemetry [B, T, F], level [B] context
        noise."""
        batch, steps = telemetry.shape[:2]
        return Inputs(
            buttons=clips.buttons[:, 2:],
            strides=clips.strides[:, 2:],
            telemetry=telemetry,
            context_noise=level[:, None].expand(batch, steps),
            noise=torch.randn(batch, steps, self.config.noise, device=self.device),
        )

    def noisy(self, latents: Tensor, level: Tensor) -> Tensor:
        return perturb_on_sphere(latents, level.view(-1, 1, 1, 1, 1), torch.randn_like(latents), dim=2)


@torch.no_grad()
def own_past(
    model, batches: Batches, clips: Clips, level: Tensor, passes: int, device: str
) -> tuple[Tensor, Tensor]:
    """Latents [B, T+1, C, H, W] (steps -1 to T-1) and telemetry [B, T, F] as the model itself would have made
    them, true up to a random step of each clip. passes: the depth of rollout whose errors they carry."""
    truth, telemetry = clips.latents[:, :-1], clips.telemetry[:, 1:-1]
    latents, told = truth, telemetry
    steps = truth.shape[1] - 1
    begin = torch.randint(0, steps // 2, (len(truth), 1), device=truth.device)
    keep = torch.arange(-1, steps, device=truth.device) <= begin
    for _ in range(passes):
        given = batches.noisy(latents, level)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            made, read = model(given[:, 1:], given[:, :-1], batches.inputs(clips, told, level))
        latents = torch.where(keep[..., None, None, None], truth, torch.cat((truth[:, :2], made[:, :-1]), 1))
        told = torch.where(keep[:, 1:, None], telemetry, torch.cat((telemetry[:, :1], read[:, :-1]), 1))
    return latents, told


def train(args: argparse.Namespace) -> None:
    game = args.game
    device, rank = join_ranks(args.device)
    torch.manual_seed(1 + rank)
    random.seed(1)  # the same on all ranks: the number of passes is drawn from it
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    spec = GAMES[game]
    config = WorldConfig(buttons=spec.n_buttons, telemetry=len(spec.telemetry))
    autoencoder = Autoencoder(AutoencoderConfig()).to(device).eval().requires_grad_(False)
    autoencoder.load_state_dict({k: v.float() for k, v in load_file(args.autoencoder).items()})
    encoder = autoencoder.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device == "cuda":
        encoder = torch.compile(encoder.to(torch.float32), dynamic=False)
    worlds, rows, steps, length = (8, 4, 6, 24) if args.small else (1024, args.rows, args.steps, 64)
    offset = args.seed_offset + rank * 400_000
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        bank = ClipBank(Simulation(game, worlds, device, offset=offset), encoder, config.channels, length)
        began = time.monotonic()
        for _ in range(steps + 4):
            bank.advance()
    print(f"{game}: {bank.count * worlds} latents after {time.monotonic() - began:.1f} s", flush=True)
    model = WorldModel(config).to(device)
    if args.start:
        parts = [load_file(path) for path in args.start]
        model.load_state_dict({k: v.float() for part in parts for k, v in part.items()})
    run = torch.compile(model, dynamic=False) if device == "cuda" else model
    training = Training(model, args.minutes * 60, lr=6e-4, muon_lr=args.muon_lr, warmup=300)
    batches = Batches(config, device)
    said, sums, data_s, count = time.monotonic(), torch.zeros(3, device=device), 0.0, 0
    saved = time.monotonic()
    while training.progress < 1:
        tick = time.monotonic()
        if training.updates % args.refresh == 0:
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                bank.advance()
        data_s += time.monotonic() - tick
        progress = training.progress
        samples = 2 if progress > args.two_from else 1
        clips = bank.sample(rows // samples, steps)
        level = torch.rand(len(clips.latents), device=device) * CONTEXT_NOISE
        level = torch.where(torch.rand_like(level) < 0.25, 0.0, level)
        passes = random.choices((0, 1, 2, 4, 8), (8, 3, 3, 2, 1))[0] if progress > args.own_from else 0
        if samples == 2:
            clips = Clips(*(torch.cat((a, a)) for a in vars(clips).values()))
            level = torch.cat((level, level))
        latents, told = own_past(run, batches, clips, level, passes, device)
        given = batches.noisy(latents, level)
        told = told + 0.05 * torch.randn_like(told)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            made, read = run(given[:, 1:], given[:, :-1], batches.inputs(clips, told, level))
        true = rows // samples
        score = energy_score(
            made.unflatten(0, (samples, true)), clips.latents[:true, 2:], clips.weights[:true, 2:]
        )
        telemetry = (read - clips.telemetry[:, 2:]).square().clamp(max=4).mean()
        (score + TELEMETRY_WEIGHT * telemetry).backward()
        training.apply()
        if passes == 0:
            sums += torch.stack((score.detach(), telemetry.detach(), torch.ones((), device=device)))
        count += 1
        if rank == 0 and time.monotonic() - said > 15:
            now = time.monotonic()
            values = sums.tolist()
            mean = [v / max(1, values[2]) for v in values]
            print(
                f"{game} {progress:4.0%} update {training.updates} score {mean[0]:.4f} telemetry {mean[1]:.4f} "
                f"{(now - said) / count * 1e3:.0f} ms/update data {data_s / (now - said):.0%} latents {bank.count * worlds}",
                flush=True,
            )
            said, sums, data_s, count = now, torch.zeros(3, device=device), 0.0, 0
            if mean[0] != mean[0]:
                raise SystemExit("the loss is not finite: stopping; the last saved weights are good")
        if rank == 0 and time.monotonic() - saved > 300:
            saved = time.monotonic()
            save(args.out, game, training)
            check(game, model, training, autoencoder, config, device, args.small)
    if rank:
        return
    save(args.out, game, training)
    check(game, model, training, autoencoder, config, device, args.small)
    print(f"{game}: world model {training.updates} updates in {time.monotonic() - began:.0f} s", flush=True)


def save(out: Path, game: str, training: Training) -> None:
    """The averaged weights in two files, each below 16 MiB."""
    out.mkdir(parents=True, exist_ok=True)
    state = training.averaged()
    names = sorted(state, key=lambda name: -state[name].numel())
    for half in (0, 1):
        save_file({name: state[name] for name in names[half::2]}, out / f"{game}-world-{half}.safetensors")


@torch.no_grad()
def check(
    game: str,
    model: WorldModel,
    training: Training,
    autoencoder: Autoencoder,
    config: WorldConfig,
    device: str,
    small: bool,
):
    """Held-out seeds, stride 4, the averaged weights: PSNR of the next step and of rollouts beside hold, and
    sharpness."""
    kept = WorldModel(config).to(device).eval()
    kept.load_state_dict({k: v.float() for k, v in training.averaged().items()})
    worlds, context, ahead = (4, 4, 3) if small else (32, 16, 15)
    simulation = Simulation(game, worlds, device, range(1_000_000, 1_000_000 + worlds))
    simulation.lifetime += 10**6
    bank = ClipBank(simulation, autoencoder.encoder, config.channels, context + ahead + 2)
    bank.habit[:] = 4
    bank._strides = lambda: bank.habit  # type: ignore[method-assign]
    simulation.advance(torch.full((worlds,), 8, device=device) * 8, 64)
    pictures = []
    for t in range(context + ahead + 2):
        bank.advance()
        pictures += (
            [simulation.world.render()]
            if t in (context, context + 1, context + 1 + 3, context + ahead)
            else []
        )
    clips = Clips(bank.latents.float(), bank.buttons, bank.strides.float(), bank.telemetry, bank.weights)
    latents, told = clips.latents[:, : context + 1], clips.telemetry[:, 1 : context + 1]
    made_at = {}
    batches = Batches(config, device)
    level = torch.zeros(worlds, device=device)
    for t in range(ahead):
        steps = latents.shape[1] - 1
        cut = Clips(*(a[:, : steps + 2] for a in vars(clips).values()))
        made, read = kept(latents[:, 1:], latents[:, :-1], batches.inputs(cut, told, level))
        latents, told = torch.cat((latents, made[:, -1:]), 1), torch.cat((told, read[:, -1:]), 1)
        made_at[t + 1] = made[:, -1]
    psnr = lambda a, b: -10 * (a - b).square().mean((1, 2, 3)).clamp(min=1e-6).log10().mean().item()  # noqa: E731
    hold = pictures[0].permute(0, 3, 1, 2) / 255
    parts = []
    for steps, true in zip((1, 4, ahead), pictures[1:]):
        if steps not in made_at:
            continue
        true = true.permute(0, 3, 1, 2) / 255
        dream = decode(autoencoder.decoder, made_at[steps])
        ceiling = decode(autoencoder.decoder, bank.latents[:, context + steps].float())
        parts.append(
            f"{steps}: {psnr(dream, true):.2f} (hold {psnr(hold, true):.2f}, ceiling {psnr(ceiling, true):.2f}, "
            f"sharp {(gradient(dream) / gradient(true)).item():.2f})"
        )
    print(f"{game} held-out psnr after steps  " + "  ".join(parts), flush=True)


def decode(decoder: Decoder, latents: Tensor) -> Tensor:
    return decoder(latents).clamp(0, 1)


def gradient(pictures: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels: how sharp a picture is."""
    return (pictures[..., 1:] - pictures[..., :-1]).square().mean() + (
        pictures[..., 1:, :] - pictures[..., :-1, :]
    ).square().mean()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--start", type=Path, nargs="*", help="go on from these world weights")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--muon-lr", type=float, default=2e-3)
    parser.add_argument(
        "--rows", type=int, default=48, help="rows of a batch: clips, or half as many with two samples each"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps in a clip")
    parser.add_argument("--refresh", type=int, default=20, help="updates between steps of the simulation")
    parser.add_argument(
        "--two-from", type=float, default=0.35, help="share of the time after which two samples are scored"
    )
    parser.add_argument(
        "--own-from", type=float, default=0.5, help="share of the time after which its own outputs are seen"
    )
    parser.add_argument("--seed-offset", type=int, default=200_000, help="first training seed")
    parser.add_argument("--small", action="store_true", help="tiny batches, to try the script on a CPU")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
