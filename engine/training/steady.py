"""Stage `steady`: a decoder learns to paint latents of no picture calmly.

    python -m engine.training.steady platformer --minutes 5 --out OUT [--wide FILE | --decoder FILE]

A decoder that learned on pictures' latents alone may blow up where a dream goes astray for a moment (a death,
a finish): in the platformer the wide one made noise of full contrast there. So it is held to two teachers, on
windows of 5x5 tokens: itself as it was, wherever it sees about the same as the packed CPU decoder, or is the
calmer of the two; else that one. The latents are pictures', dreams' (a driver's buttons), and these with some
tokens swapped or much noise. Needs no GPU: two cores give some five updates a second. The decoder is the
packed wide one, that of --wide, or with --decoder a new one for the CPU (stage `decoder`), which an earlier
packed one calms. Writes OUT/<game>-decoder-wide.safetensors or OUT/<game>-decoder.safetensors (bf16), which
`pack` takes."""

import argparse
import time
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.backend import load_backend
from engine.models.autoencoder import Decoder, with_decoder_of
from engine.models.layers import perturb_on_sphere
from engine.models.weights import SHIPPED, WIDE, load_config, load_part
from engine.training.command import errors_said, parser_for
from engine.training.files import read_part, write_part
from engine.training.measures import gradient_energy
from engine.training.quantise import dreamed_latents

FIRST_SEED = 260_000
SEEDS = 16
APART = 0.006
"""Mean squared difference of two windows' pictures in -1..1 (28 dB of 0..1) from which they show different
things."""
_TOKENS, _BATCH, _LR = 5, 8, 1e-4
_MOST_NOISE = 1.2
_SAYS_S = 20.0


def disturbed(latents: Tensor) -> Tensor:
    """latents [B, C, h, w]; of every four one stays, one is noisy, one has another's tokens, one both."""
    noisy = perturb_on_sphere(
        latents, torch.rand(len(latents), 1, 1, 1) * _MOST_NOISE, torch.randn_like(latents), dim=1
    )
    share = torch.rand(len(latents), 1, 1, 1)
    swapped = torch.rand(len(latents), 1, *latents.shape[2:]) < share
    kind = torch.arange(len(latents)).view(-1, 1, 1, 1) % 4
    out = torch.where(kind % 2 == 1, noisy, latents)
    return torch.where((kind >= 2) & swapped, out.roll(1, 0), out)


def windows(latents: Tensor, count: int) -> Tensor:
    """[count, C, 5, 5], of latents and places drawn anew."""
    _, _, rows, columns = latents.shape
    drawn = []
    for i in torch.randint(len(latents), (count,)).tolist():
        y, x = (int(torch.randint(size - _TOKENS + 1, (1,))) for size in (rows, columns))
        drawn.append(latents[i, :, y : y + _TOKENS, x : x + _TOKENS])
    return torch.stack(drawn)


@torch.no_grad()
def wanted(latents: Tensor, before: nn.Module, calm: nn.Module) -> tuple[Tensor, Tensor]:
    """The pictures to make of them, and which [B] are the other one's. before: the decoder as it was."""
    own, other = before(latents).clamp(-1, 1), calm(latents).clamp(-1, 1)
    apart = (own - other).square().mean((1, 2, 3)) > APART
    apart &= gradient_energy(other) < gradient_energy(own)
    return torch.where(apart.view(-1, 1, 1, 1), other, own), apart


def train(learner: Decoder, calm: Decoder, latents: Tensor, minutes: float, dtype: torch.dtype) -> int:
    """`learner` learns in place; the number of updates."""
    before = deepcopy(learner).eval().requires_grad_(False)
    learner.train().requires_grad_(True)
    optimizer = torch.optim.Adam(learner.parameters(), _LR, betas=(0.9, 0.98))
    begun_s = said_s = time.monotonic()
    updates, progress = 0, 0.0
    while progress < 1:
        progress = min(1.0, (time.monotonic() - begun_s) / (60 * minutes))
        optimizer.param_groups[0]["lr"] = _LR * (1 - progress)
        batch = disturbed(windows(latents, _BATCH))
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            target, apart = wanted(batch, before, calm)
            made = learner(batch)
        # A picture that blows up says more than one step may change.
        errors = nn.functional.smooth_l1_loss(made.float(), target.float(), reduction="none", beta=0.1)
        by_window = errors.mean((1, 2, 3))
        optimizer.zero_grad()
        by_window.mean().backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        updates += 1
        if time.monotonic() - said_s > _SAYS_S or progress == 1:
            said_s = time.monotonic()
            own, other = (float(by_window.detach()[which].mean()) for which in (~apart, apart))
            print(f"{progress:4.0%} update {updates} own {own:.4f} calm {other:.4f}", flush=True)
    return updates


@torch.no_grad()
def off_calm(decoder: nn.Module, calm: nn.Module, latents: Tensor) -> Tensor:
    """Of each latent: how far the two decoders' pictures are apart, mean squared, in 0..1."""
    pictures = ((each(z[None]).clamp(-1, 1) for each in (decoder, calm)) for z in latents)
    return torch.stack([(a - b).square().mean() / 4 for a, b in pictures])


def learner_of(directory: Path, part: str, path: Path | None) -> Decoder:
    """The decoder to begin with: the packed one, or that of a file, of the sizes that it has."""
    if path is None:
        packed = load_part(directory, part)
        assert isinstance(packed, Decoder)
        return packed
    state = read_part(path, part)
    decoder = Decoder(with_decoder_of(load_config(directory)[0].autoencoder, state))
    decoder.load_state_dict(state)
    return decoder


def parser() -> argparse.ArgumentParser:
    made = parser_for(__doc__, 5.0)
    begin = made.add_mutually_exclusive_group()
    begin.add_argument("--wide", type=Path, help="begin with this file instead of the packed wide decoder")
    begin.add_argument("--decoder", type=Path, help="begin with this file of a decoder for the CPU")
    made.add_argument("--seeds", type=int, default=SEEDS)
    made.add_argument("--f32", action="store_true", help="not in bfloat16: for CPUs that lack it")
    return made


def run(args: argparse.Namespace) -> Path:
    """The file that was written. Raises WeightsError."""
    directory = args.weights or SHIPPED / args.game
    part = "decoder" if args.decoder else WIDE
    learner, calm = learner_of(directory, part, args.decoder or args.wide), load_part(directory, "decoder")
    assert isinstance(calm, Decoder)
    backend = load_backend(args.game, weights=str(directory), roles=("world", "encoder"))
    seeds = range(FIRST_SEED, FIRST_SEED + args.seeds)
    latents = torch.from_numpy(dreamed_latents(args.game, backend, seeds))
    held_out = torch.from_numpy(dreamed_latents(args.game, backend, range(seeds.stop, seeds.stop + 2)))
    print(f"{args.game}: {len(latents)} latents", flush=True)
    calm.eval().requires_grad_(False)
    first = off_calm(learner, calm, held_out)
    dtype = torch.float32 if args.f32 else torch.bfloat16
    updates = train(learner, calm, latents, args.minutes, dtype)
    last = off_calm(learner, calm, held_out)
    for name, off in (("before", first), ("after", last)):
        half, most = off.median(), off.max()
        print(f"{name}: apart from the packed CPU decoder by {half:.5f} (median), {most:.5f} (most)")
    path = write_part(learner.state_dict(), args.out, args.game, part)
    print(f"{args.game}: {updates} updates, {path}")
    return path


def main() -> None:
    with errors_said():
        run(parser().parse_args())


if __name__ == "__main__":
    main()
