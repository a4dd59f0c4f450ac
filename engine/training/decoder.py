"""Stage `decoder`: encoder and world model stay as they are, the CPU decoder learns to paint what they make.

    python -m engine.training.decoder racing --autoencoder OUT/racing-autoencoder.safetensors \\
        --world OUT/racing-world-0.safetensors OUT/racing-world-1.safetensors --minutes 4 --out OUT

Half of the latents are the encoder's with a little noise, half the world model's own after rollouts of 1 to 9
steps, each with the true picture it stands for: the decoder learns to make the best of the world model's
errors. Without --world all are the encoder's. Windows of 5x5 tokens first, whole pictures later. """

import argparse
import random
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.config import WorldConfig
from engine.models.autoencoder import from_bytes
from engine.models.layers import perturb_on_sphere
from engine.models.world_model import WorldModel
from engine.training.autoencoder import (
    add_loss_options,
    class_worth,
    held_out_pool,
    load_autoencoder,
    picture_loss,
    report,
)
from engine.training.captured import Captured
from engine.training.command import errors_said
from engine.training.context import OwnPast, conditions, mixed
from engine.training.data import PLAYED_IN_FRAMES, ClipBank, Simulation
from engine.training.files import write_part
from engine.training.optim import Training, join_ranks
from engine.training.widen import widened
from games import GAMES

DEPTHS, DEPTH_WEIGHTS = (0, 1, 3, 8), (4, 2, 1, 1)
"""Passes over a model's own outputs before the one that is decoded, and how often."""


class PairPool:
    """P latents and the pictures they stand for: bfloat16 [P, C, 10, 15], uint8 [P, 480, 720, 3], classes [P,
    480, 720]."""

    def __init__(self, bank: ClipBank, world: WorldModel | None, size: int, span: int) -> None:
        self.bank, self.world, self.span = bank, world, span
        sim = bank.simulation
        self.own_past = OwnPast(world, world.config) if world else None
        self.latents = torch.empty(size, *bank.latents.shape[2:], dtype=torch.bfloat16, device=sim.device)
        self.pictures = torch.empty(size, 480, 720, 3, dtype=torch.uint8, device=sim.device)
        self.classes = torch.empty(size, 480, 720, dtype=torch.uint8, device=sim.device)
        self.filled = self.cursor = 0

    @torch.no_grad()
    def refresh(self) -> None:
        """One step of every world; its newest picture with the encoder's latent or the world model's."""
        with mixed(self.bank.simulation.device):
            pictures, classes = self.bank.advance()
            latents, good = self._dreamed() if self.own_past and random.random() < 0.5 else self._encoded()
        count = int(good.sum())
        where = (torch.arange(count, device=pictures.device) + self.cursor) % len(self.latents)
        self.latents[where] = latents[good].to(torch.bfloat16)
        self.pictures[where], self.classes[where] = pictures[good], classes[good]
        self.cursor = (self.cursor + count) % len(self.latents)
        self.filled = min(self.filled + count, len(self.latents))

    def _encoded(self) -> tuple[Tensor, Tensor]:
        newest = self.bank.latents[:, (self.bank.count - 1) % self.bank.length].float()
        sigma = torch.rand(len(newest), 1, 1, 1, device=newest.device) * 0.1
        noisy = perturb_on_sphere(newest, sigma, torch.randn_like(newest), dim=1)
        return noisy, torch.ones(len(newest), dtype=torch.bool, device=newest.device)

    def _dreamed(self) -> tuple[Tensor, Tensor]:
        assert self.world is not None and self.own_past is not None
        if self.bank.count < self.span:
            return self._encoded()
        clips, good = self.bank.latest(self.span)
        level = torch.zeros(len(clips.latents), device=clips.latents.device)
        passes = random.choices(DEPTHS, DEPTH_WEIGHTS)[0]
        latents, told = self.own_past(clips, level, passes)
        inputs = conditions(self.world.config, clips, told, level)
        made, _ = self.world(latents[:, 1:], latents[:, :-1], inputs)
        return made[:, -1].float(), good

    def sample(self, count: int, tokens: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """Latents [count, C, h, w], pictures [count, 3, 48h, 48w] and classes: windows of `tokens` squared,
        or whole."""
        device = self.latents.device
        which = torch.randint(self.filled, (count,), device=device)
        rows, columns = (tokens, tokens) if tokens else (10, 15)
        y = torch.randint(10 - rows + 1, (count, 1, 1), device=device)
        x = torch.randint(15 - columns + 1, (count, 1, 1), device=device)
        ys, xs = y + torch.arange(rows, device=device)[:, None], x + torch.arange(columns, device=device)
        latents = self.latents[which[:, None, None], :, ys, xs].permute(0, 3, 1, 2).float()
        ys = y * 48 + torch.arange(rows * 48, device=device)[:, None]
        xs = x * 48 + torch.arange(columns * 48, device=device)
        at = (which[:, None, None], ys, xs)
        return latents, from_bytes(self.pictures[at]), self.classes[at]


class DecoderTraining:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.game, self.out = args, args.game, args.out
        self.device, self.rank = join_ranks(args.device)
        torch.manual_seed(2 + self.rank)
        random.seed(2 + self.rank)
        self.autoencoder = load_autoencoder(args.autoencoder, self.device)
        if args.widths:
            sizes = replace(self.autoencoder.config, decoder_widths=tuple(args.widths))
            wider = widened(self.autoencoder.decoder.cpu(), sizes).to(self.device)
            self.autoencoder.decoder = wider.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.decoder = self.autoencoder.decoder.requires_grad_(True)
        self.compiled = torch.compile(self.decoder, dynamic=False) if self.device == "cuda" else self.decoder
        self.worth = class_worth(self.game, args.mask).to(self.device)
        self.learn = Captured(self._learn)
        self.pool = self._fill_pool()
        seconds = args.minutes * 60
        self.training = Training(self.decoder, seconds, lr=3e-4, muon_lr=args.muon_lr or None, warmup=200)

    def _fill_pool(self) -> PairPool:
        spec, small = GAMES[self.game], self.args.small
        worlds, span, size = (4, 5, 16) if small else (256, 20, 4096)
        simulation = Simulation(self.game, worlds, self.device, offset=700_000 + self.rank * 50_000)
        simulation.play_in(60 if small else PLAYED_IN_FRAMES)
        channels = self.autoencoder.config.channels
        bank = ClipBank(simulation, self.autoencoder.encoder, channels, span + 1)
        world = None
        if self.args.world:
            config = WorldConfig(channels=channels, buttons=spec.n_buttons, telemetry=len(spec.telemetry))
            world = WorldModel(config).to(self.device).eval().requires_grad_(False)
            world.load_state_dict(
                {k: v.float() for path in self.args.world for k, v in load_file(path).items()}
            )
        pool = PairPool(bank, world, size, span)
        for _ in range(span + 4):
            pool.refresh()
        return pool

    def run(self) -> None:
        self.training.run(self.step, self.game)
        if self.rank == 0:
            self.finish()

    def step(self) -> Tensor:
        """One update. Returns the mean squared error."""
        if self.training.updates % (2 if self.args.small else 12) == 0:
            self.pool.refresh()
        crops, wholes = (2, 1) if self.args.small else (96, 24)
        whole = self.training.progress >= self.args.whole_from
        latents, pictures, classes = self.pool.sample(wholes if whole else crops, None if whole else 5)
        square = self.learn(latents.contiguous(memory_format=torch.channels_last), pictures, classes)
        self.training.apply()
        return square.clone()

    def _learn(self, latents: Tensor, pictures: Tensor, classes: Tensor) -> Tensor:
        with mixed(self.device):
            made = self.compiled(latents)
        loss, square = picture_loss(made.float(), pictures, classes, self.worth, self.args.edge)
        self.training.backward(loss)
        return square

    def finish(self) -> None:
        state = self.training.averaged()
        write_part(state, self.out, self.game, "decoder")
        self.decoder.load_state_dict({name: value.float() for name, value in state.items()})
        pool = held_out_pool(self.game, self.device, self.args.small)
        report(self.game, self.autoencoder.encoder, self.decoder, pool)
        print(f"{self.game}: decoder, {self.training.updates} updates", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument("--autoencoder", type=Path, nargs="+", required=True)
    parser.add_argument("--world", type=Path, nargs="*", help="the world model's files")
    add_loss_options(parser)
    parser.add_argument(
        "--widths",
        type=int,
        nargs=4,
        metavar="W",
        help="make the decoder wider first: channels of its stages",
    )
    parser.add_argument("--whole-from", type=float, default=0.5, help="share of the time spent on windows")
    parser.add_argument("--muon-lr", type=float, default=0.0, help="of Muon on kernels; 0: AdamW on all")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="tiny batches, to try the script on a CPU")
    args = parser.parse_args()
    if args.muon_lr < 0:
        parser.error("--muon-lr is 0 or more")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    with errors_said():
        DecoderTraining(args).run()


if __name__ == "__main__":
    main()
