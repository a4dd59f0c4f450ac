"""Stage `probes`: live simulation -> the reader that evaluation uses (engine/training/reader.py).

    python -m engine.training.probes racing --minutes 3 [--out DIR] [--device cuda]

Real pictures only, all strides. A third of the rows teach what an absent hero looks like: it is covered with
another piece of the same picture, or the whole picture is smeared. A third are played by mashers, and a
button held counts as much as a button free: a picture that shows nothing should leave it open. What is kept
is the moving average of the weights. Ends with the figures on held-out seeds, one JSON line, also kept in
probes.json; the weights are int8, below 0.5 MB."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.weights import SHIPPED
from engine.training.captured import Captured
from engine.training.data import PLAYED_IN_FRAMES, Simulation
from engine.training.optim import Training
from engine.training.reader import Reader, load_reader, new_net, store_reader
from engine.training.reader_data import MixedBank, PictureBank, Triples, smeared, without_hero
from games import GAMES

HELD_OUT = range(1_000_000, 1_100_000)
COVERED, SMEARED = 0.25, 0.1
"""Shares of the rows whose hero is covered, and whose pictures are smeared beyond recognition."""
SHARES_PACE = 0.02
"""How far an update's buttons move the running shares of how often each is held."""
SCARCE = 0.02
"""Least share a button is taken to be held or free: a rarer one would weigh more than its pictures can."""


def button_loss(logits: Tensor, held: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy [B, N] as if every button were held half of the time: where nothing is to be seen, the
    least is at a chance of a half. logits [B, N]; held [B, N] shares of the step; shares [N] how often each
    is held in the data."""
    often = shares.clamp(SCARCE, 1 - SCARCE)
    return held * F.softplus(-logits) / (2 * often) + (1 - held) * F.softplus(logits) / (2 - 2 * often)


def loss_of(net: torch.nn.Module, triples: Triples, shares: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and its parts for the log [3]: fields, buttons, presence. shares [N]: see button_loss."""
    dice = torch.rand(len(triples.strides), device=triples.strides.device)
    covered, smear = dice < COVERED, dice > 1 - SMEARED
    soft = (dice > 0.5) & (dice < 0.65)
    pick = lambda where, a, b: torch.where(where.view(-1, 1, 1, 1, 1), a, b)  # noqa: E731
    pictures = pick(covered, without_hero(triples), triples.pictures)
    pictures = pick(smear, smeared(pictures, 15), pick(soft, smeared(pictures, 3), pictures))
    pictures = pictures + 0.01 * torch.rand_like(dice).view(-1, 1, 1, 1, 1) * torch.randn_like(pictures)
    fields, buttons, seen = (told.float() for told in net(pictures, triples.strides))
    real = (~covered & ~smear).float()
    there = (triples.hero[:, -1].sum((1, 2)) > 2).float() * real
    mean = lambda value: (value.mean(1) * real).sum() / real.sum().clamp(min=1)  # noqa: E731
    parts = torch.stack(
        [
            mean((fields - triples.fields).abs()),
            mean(button_loss(buttons, triples.buttons, shares)),
            F.binary_cross_entropy_with_logits(seen, there),
        ]
    )
    return 4 * parts[0] + parts[1] + 0.5 * parts[2], parts.detach()


class ReaderTraining:
    """One run: live worlds, the net, its optimiser; `run` until the time, which includes filling the bank,
    is over. sizes: worlds, length, batch, updates between steps of the simulation."""

    def __init__(
        self,
        game: str,
        seconds: float,
        device: str,
        sizes: dict[str, int],
        start: Reader | None = None,
        seed_offset: int = 0,
    ) -> None:
        torch.manual_seed(0)
        self.began = time.monotonic()
        self.game, self.device, self.sizes = game, device, sizes
        self.net = (start.net.train() if start else new_net(game)).to(device)
        self.bank = MixedBank(game, sizes["worlds"], sizes["length"], device, sizes["played_in"], seed_offset)
        while self.bank.count < sizes["first"]:
            self.bank.advance()
        self.shares = torch.full((GAMES[game].n_buttons,), 0.5, device=device)
        self.learn = Captured(self._learn)
        left = max(1e-3, seconds - (time.monotonic() - self.began))
        self.training = Training(self.net, left, lr=1.5e-3, muon_lr=None, warmup=100, cooldown=0.5)

    def run(self) -> tuple[Reader, dict[str, Any]]:
        """The reader with the averaged weights, and how it was trained."""
        self.training.run(self.step, self.game, self._told)
        weights = {name: value.float() for name, value in self.training.averaged().items()}
        self.net.load_state_dict(weights)
        facts = {"updates": self.training.updates, "seconds": round(time.monotonic() - self.began)}
        return Reader(self.game, self.net.cpu()), facts | {"device": self.device, "pictures": self.pictures}

    def step(self) -> Tensor:
        """One update. Returns the loss's parts [3]."""
        if self.training.updates % self.sizes["every"] == 0:
            self.bank.advance()
        parts = self.learn(*vars(self.bank.sample(self.sizes["batch"])).values())
        self.training.apply()
        return parts.clone()

    def _learn(self, *parts: Tensor) -> Tensor:
        """parts: those of Triples, in order."""
        triples = Triples(*parts)
        self.shares.lerp_(triples.buttons.mean(0), SHARES_PACE)  # in place: a captured update goes on with it
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda", cache_enabled=False):
            loss, told = loss_of(self.net, triples, self.shares)
        self.training.backward(loss)
        return told

    @property
    def pictures(self) -> int:
        """How many were rendered."""
        return self.bank.count * self.bank.worlds

    def _told(self, losses: Tensor) -> str:
        values = " ".join(f"{v:.4f}" for v in losses.tolist())
        return f"losses {values} pictures {self.pictures}"


@torch.no_grad()
def check(reader: Reader, worlds: int, steps: int, device: str) -> dict[str, Any]:
    """Figures on held-out seeds, real pictures: mean error of each field in units (a count: per step), how
    well each button is told where the net is confident, presence with and without the hero; the buttons also
    of worlds that mashers play."""
    triples = held_out(reader.game, worlds, steps, device)
    mashed = held_out(reader.game, worlds, steps, device, "masher")
    net = reader.net.to(device)
    scaled, logits, seen = (out.cpu() for out in net(triples.pictures, triples.strides))
    covered = net(without_hero(triples), triples.strides)[2].cpu()
    of_mashers = net(mashed.pictures, mashed.strides)[1].cpu()
    net.cpu()
    there = triples.hero[:, -1].sum((1, 2)).cpu() > 2
    zero, strides = torch.zeros(len(reader.names)), triples.strides.cpu()
    error = torch.stack(
        [
            (reader.scale.in_units(a, zero, int(s)) - reader.scale.in_units(b, zero, int(s))).abs()
            for a, b, s in zip(scaled, triples.fields.cpu(), strides)
        ]
    ).mean(0)
    return {
        "triples": len(strides),
        "error": {name: round(float(e), 4) for name, e in zip(reader.names, error)},
        "held_free_sure": held_free_sure(reader.game, triples.buttons.cpu(), logits.sigmoid()),
        "held_free_sure_mashers": held_free_sure(reader.game, mashed.buttons.cpu(), of_mashers.sigmoid()),
        "seen": share_of(seen > 0, there),
        "seen_when_covered": share_of(covered > 0, there),
    }


def held_out(game: str, worlds: int, steps: int, device: str, style: str | None = None) -> Triples:
    """worlds x steps triples of seeds that no training sees; style: of all drivers."""
    bank = PictureBank(game, Simulation(game, worlds, device, HELD_OUT, style=style), steps)
    bank.simulation.lifetime += 10**6
    for _ in range(30):  # the warm-up of the other figures: not everybody at a standing start
        bank.simulation.advance(torch.full((worlds,), 8, device=device), 8)
    for _ in range(steps):
        bank.advance()
    return bank.sample(worlds * steps)


def held_free_sure(game: str, share: Tensor, chance: Tensor) -> dict[str, list[float | None]]:
    """By button: the share told right among sure frames held, among sure frames free, and the share of frames
    that are sure. share [B, N] of the step that each was held; chance [B, N] that the net gives it."""
    tells = {}
    for i, button in enumerate(GAMES[game].buttons):
        sure = ((chance[:, i] > 0.9) | (chance[:, i] < 0.1)) & ((share[:, i] == 0) | (share[:, i] == 1))
        right = (chance[:, i] > 0.5) == (share[:, i] > 0.5)
        held = share[:, i] > 0.5
        tells[str(button.name)] = [
            share_of(right, sure & held),
            share_of(right, sure & ~held),
            share_of(sure),
        ]
    return tells


def share_of(what: Tensor, where: Tensor | None = None) -> float | None:
    """The share of True in `what`, among those `where` is True; None where there are none."""
    kept = (what if where is None else what[where]).float()
    return round(kept.mean().item(), 4) if kept.numel() else None


def sizes_for(device: str, small_run: bool) -> dict[str, int]:
    if small_run:
        return {"worlds": 2, "length": 16, "batch": 8, "every": 4, "first": 4, "played_in": 60}
    if device == "cuda":
        sizes = {"worlds": 1024, "length": 32, "batch": 512, "every": 40, "first": 8}
    else:
        sizes = {"worlds": 8, "length": 2048, "batch": 48, "every": 2, "first": 24}
    return sizes | {"played_in": PLAYED_IN_FRAMES}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--out", type=Path, help="a directory instead of assets/weights/GAME")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--start", type=Path, help="go on from the reader in this directory")
    parser.add_argument("--seed-offset", type=int, default=0, help="first training seed")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--small", action="store_true", help="tiny batches, to try the script on a CPU")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    start = load_reader(args.game, args.start) if args.start else None
    sizes = sizes_for(args.device, args.small)
    run = ReaderTraining(args.game, args.minutes * 60, args.device, sizes, start, args.seed_offset)
    reader, facts = run.run()
    worlds, steps = (2, 6) if args.small else (256, 24) if args.device == "cuda" else (16, 40)
    facts["held_out"] = check(reader, worlds, steps, args.device)
    out = args.out or SHIPPED / args.game
    store_reader(out, args.game, reader.net, facts)
    print(json.dumps({"game": args.game, **facts}), flush=True)


if __name__ == "__main__":
    main()
