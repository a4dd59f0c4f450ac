"""Stage `world`: the encoder's latents of live simulation -> the world model.

    python -m engine.training.world racing --autoencoder OUT/racing-autoencoder.safetensors --minutes 9 --out
    OUT

Clips of mixed strides, given with faults (engine/training/context.py). Objective: the energy score of two
samples that differ in the random vector (a proper score: 2506.10772), over tokens, over neighbourhoods of
tokens, and over whole pictures with their telemetry, so that what a sample says of itself is what it shows;
for the first part of the time one sample, which is the same score without its spread term and twice as many
clips. In the later part the model sees its own outputs: some passes without gradient replace the latents it
is given by those it predicted, at all positions at once, so that after k passes a position carries the errors
of a k-step rollout. With --adversarial a discriminator of latents has its say beside the score, whose slope
sets how loud: a sample shall be one of the futures, not half of each."""

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.config import WorldConfig
from engine.models.world_model import WorldModel
from engine.training.autoencoder import load_autoencoder
from engine.training.captured import Captured
from engine.training.context import (
    MISREAD_SHARE,
    MISTOLD_SHARE,
    STRAYED_SHARE,
    OwnPast,
    conditions,
    faded,
    misread,
    mistold,
    mixed,
    noise_levels,
    noisy,
    strayed,
)
from engine.training.data import PLAYED_IN_FRAMES, ClipBank, Clips, Simulation
from engine.training.discriminator import Adversary
from engine.training.files import write_world
from engine.training.latent_fit import decoder_metric
from engine.training.optim import Training, join_ranks
from engine.training.score import Made, energy_score, field_worth
from engine.training.world_check import check
from games import GAMES

PASSES, PASS_WEIGHTS = (0, 1, 2, 4, 8, 16), (5, 2, 2, 2, 1.2, 0.8)
"""How many passes make a clip's past its own, and how often."""
PLAIN_METRIC = 0.5
"""Share of the score's metric that counts all directions of a latent alike; the rest is the decoder's."""


class WorldTraining:
    """One run: a bank of fresh latents, the model, its optimisers; `run` until the time is over."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.game, self.out = args, args.game, args.out
        self.device, self.rank = join_ranks(args.device)
        torch.manual_seed(1 + self.rank + 100 * args.seed)
        random.seed(1 + args.seed)  # the same on all ranks: the number of passes is drawn from it
        spec = GAMES[self.game]
        self.config = WorldConfig(buttons=spec.n_buttons, telemetry=len(spec.telemetry))
        earlier = resumed(args.resume or (), self.config)
        self.autoencoder = load_autoencoder(args.autoencoder, self.device)
        self.bank = self._fill_bank()
        self.worth = self._field_worth()
        shown = [field.name in spec.shown for field in spec.telemetry]
        self.shown = torch.tensor(shown, device=self.device)
        model = WorldModel(self.config).to(self.device)
        listen_closely(model, self.worth)
        if earlier:
            model.load_state_dict(earlier)
        self.model = model
        self.compiled = torch.compile(model, dynamic=False) if self.device == "cuda" else model
        self.training = Training(
            model, args.minutes * 60, args.lr, args.muon_lr, warmup=300, cooldown=args.cooldown
        )
        self.adversary = Adversary(self.config.channels, self.device) if args.adversarial else None
        self.own_past = OwnPast(self.compiled, self.config)
        self.learn = Captured(self._learn)
        some, rounds = (2, 1) if args.small else (4, 24)
        seen = self.bank.sample(some, 1).latents[:, 0]
        self.metric = decoder_metric(self.autoencoder.decoder, seen, rounds, plain=PLAIN_METRIC)

    def _first_seed(self) -> int:
        """Other ranks and other runs see other worlds."""
        return 200_000 + self.rank * 400_000 + self.args.seed * 50_000

    def _fill_bank(self) -> ClipBank:
        encoder = self.autoencoder.encoder
        compiled = torch.compile(encoder, dynamic=False) if self.device == "cuda" else encoder
        worlds, length = (8, self.args.steps + 10) if self.args.small else (1024, 64)
        simulation = Simulation(self.game, worlds, self.device, offset=self._first_seed())
        simulation.play_in(60 if self.args.small else PLAYED_IN_FRAMES)
        bank = ClipBank(simulation, compiled, self.config.channels, length)
        for _ in range(self.args.steps + 4):
            with mixed(self.device):
                bank.advance()
        print(f"{self.game}: {bank.count * worlds} latents", flush=True)
        return bank

    def _field_worth(self) -> Tensor:
        bank, kinds = self.bank, [field.kind for field in GAMES[self.game].telemetry]
        steps = min(bank.count, bank.length)
        plain = torch.tensor([kind in ("flag", "event") for kind in kinds], device=self.device)
        worth = field_worth(bank.telemetry[:, :steps], ~bank.fresh[:, 1:steps], plain)
        print(f"{self.game}: fields' worth {[round(w, 1) for w in worth.tolist()]}", flush=True)
        return worth

    def run(self) -> None:
        said, saved, sums = time.monotonic(), time.monotonic(), []
        while self.training.progress < 1:
            sums.append(self.step())
            now = time.monotonic()
            if self.rank == 0 and now - said > 15:
                self._say(torch.stack(sums), (now - said) / len(sums))
                said, sums = time.monotonic(), []
            if self.rank == 0 and now - saved > 300:
                self._save()
                saved = time.monotonic()
        if self.rank == 0:
            kept = WorldModel(self.config).to(self.device).eval()
            kept.load_state_dict({name: value.float() for name, value in self._save().items()})
            check(self.game, kept, self.autoencoder, self.device, self.args.small)

    def step(self) -> Tensor:
        """One update. Returns what `_learn` does and the number of passes, [4]."""
        if self.training.updates % self.args.refresh == 0:
            with mixed(self.device):
                self.bank.advance()
        progress = self.training.progress
        samples = 2 if progress > self.args.two_from else 1
        passes = random.choices(PASSES, PASS_WEIGHTS)[0] if progress > self.args.own_from else 0
        count = self.args.rows // samples
        eventful = round(self.args.eventful * count)
        clips = self.bank.sample(count, self.args.steps, eventful).repeated(samples)
        level = noise_levels(len(clips.latents) // samples, self.device).repeat(samples)
        latents, told = self.own_past(clips, level, passes)
        losses = self.learn(latents, told, level, *vars(clips).values(), samples=samples)
        self.training.apply()
        return torch.cat((losses, losses.new_full((1,), float(passes))))

    def _learn(self, latents: Tensor, told: Tensor, level: Tensor, *parts: Tensor, samples: int) -> Tensor:
        """Gradients of one batch. Returns energy score, telemetry error and how often the discriminator is
        right, [3]."""
        clips = Clips(*parts)
        seen = faded(latents, clips.movers[:, :-1], samples, self.args.faded)
        given = noisy(strayed(seen, samples, self.args.strayed), level)
        told = mistold(told, self.shown, samples, self.args.mistold)
        told = misread(told, self.worth, self.args.misread, self.args.adrift)
        with mixed(self.device):
            inputs = conditions(self.config, clips, told, level)
            made, read = self.compiled(given[:, 1:], given[:, :-1], inputs)
        slopes, figures = self._slopes(made.detach(), read.detach(), clips, samples)
        self.training.backward(sum((part * slope).sum() for part, slope in zip((made, read), slopes)))
        return figures

    def _slopes(
        self, made: Tensor, read: Tensor, clips: Clips, samples: int
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """The loss's at what the model made [B, T, C, H, W] and read [B, T, F]; and what `_learn` returns."""
        true = self.args.rows // samples
        leaves = [part.clone().requires_grad_(True) for part in (made, read)]
        dreamed = [Made(z, t) for z, t in zip(*(leaf.split(true) for leaf in leaves))]
        truth = Made(clips.latents[:true, 2:], clips.telemetry[:true, 2:])
        scores = energy_score(dreamed, truth, clips.weights[:true, 2:], self.metric, self.worth)
        slope, told_slope = torch.autograd.grad(scores.loss, leaves)
        right = scores.loss.new_full((), 0.5)
        if self.adversary and samples > 1:
            with mixed(self.device):
                against, right = self.adversary.update(made.flatten(0, 1), clips.latents[:, 2:].flatten(0, 1))
            against = against.view_as(slope)
            slope = slope + against * (self.args.adversarial * slope.norm() / (against.norm() + 1e-12))
        return (slope, told_slope), torch.stack((scores.picture.detach(), scores.telemetry.detach(), right))

    def _say(self, sums: Tensor, seconds: float) -> None:
        score, telemetry, right, passes = sums.mean(0).tolist()
        clean = sums[sums[:, 3] == 0]
        print(
            f"{self.game} {self.training.progress:4.0%} update {self.training.updates} score {score:.4f} "
            f"(own past none: {clean[:, 0].mean():.4f}) telemetry {telemetry:.4f} passes {passes:.1f} "
            f"told apart {right:.2f} "
            f"{seconds * 1e3:.0f} ms/update, latents {self.bank.count * self.bank.simulation.batch}",
            flush=True,
        )
        if score != score:
            raise SystemExit("the loss is not finite: stopping; the last saved weights are good")

    def _save(self) -> dict[str, Tensor]:
        """The averaged weights, in bfloat16."""
        state = self.training.averaged()
        write_world(state, self.out, self.game)
        return state


def resumed(paths: Sequence[Path], config: WorldConfig) -> dict[str, Tensor]:
    """A world's weights to go on from, float32; nothing from no files. Raises SystemExit where they are of
    other telemetry."""
    state = {k: v.float() for path in paths for k, v in load_file(path).items()}
    fields = len(state["to_telemetry.bias"]) if state else config.telemetry
    if fields != config.telemetry:
        raise SystemExit(
            f"dreamcade: error: --resume: a world that tells {fields} fields; its game has "
            f"{config.telemetry} now: train one from nothing"
        )
    return state


@torch.no_grad()
def listen_closely(model: WorldModel, worth: Tensor) -> None:
    """A new model hears every telemetry field as loudly as it is worth [F]: its weights start small, and what
    differs by a thousandth would take long to be heard."""
    before = model.config.buttons + model.config.max_stride
    first = model.condition[0]
    assert isinstance(first, nn.Linear)
    first.weight[:, before : before + len(worth)] *= worth
    model.embed_telemetry.weight *= worth


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("game", choices=tuple(GAMES))
    made.add_argument("--autoencoder", type=Path, nargs="+", required=True)
    made.add_argument("--resume", type=Path, nargs="*", help="go on from these world weights")
    made.add_argument("--minutes", type=float, default=9.0)
    made.add_argument("--out", type=Path, default=Path("out"))
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--lr", type=float, default=6e-4)
    made.add_argument("--muon-lr", type=float, default=2e-3)
    made.add_argument("--cooldown", type=float, default=0.4, help="share of the time the rate falls in")
    made.add_argument("--rows", type=int, default=12, help="rows of a batch: clips, or half as many, twice")
    made.add_argument("--steps", type=int, default=24, help="steps in a clip")
    made.add_argument("--refresh", type=int, default=48, help="updates between steps of the simulation")
    made.add_argument("--two-from", type=float, default=0.35, help="share of the time with one sample")
    made.add_argument("--own-from", type=float, default=0.45, help="share of the time with a true past")
    made.add_argument(
        "--strayed", type=float, default=STRAYED_SHARE, help="share of the clips that show something else"
    )
    made.add_argument(
        "--misread", type=float, default=MISREAD_SHARE, help="share of the telemetry told wrong, lastingly"
    )
    made.add_argument(
        "--adrift", type=float, default=0.0, help="share of the telemetry told a little wrong, lastingly"
    )
    made.add_argument(
        "--mistold",
        type=float,
        default=MISTOLD_SHARE,
        help="share of the clips that are told what lies ahead in another",
    )
    made.add_argument(
        "--adversarial",
        type=float,
        default=0.0,
        help="what a discriminator of latents counts, as a share of the score's slope, with two samples",
    )
    made.add_argument(
        "--faded",
        type=float,
        default=0.0,
        help="share of the clips that no longer show what moves by itself",
    )
    made.add_argument(
        "--eventful",
        type=float,
        default=0.0,
        help="share of clips with a death, finish or crash",
    )
    made.add_argument("--seed", type=int, default=0, help="of what is drawn; runs to be averaged differ")
    made.add_argument("--small", action="store_true", help="tiny batches, to try the script on a CPU")
    return made


def main() -> None:
    options = parser()
    args = options.parse_args()
    shares = ("adversarial", "adrift", "eventful", "strayed", "misread", "mistold", "faded")
    if not all(0 <= vars(args)[name] <= 1 for name in shares):
        options.error(f"{', '.join(f'--{name}' for name in shares)} are shares, 0 to 1")
    if args.small:
        args.rows, args.steps, args.refresh = 4, 6, 8
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    WorldTraining(args).run()


if __name__ == "__main__":
    main()
