"""Stage `probes`: live simulation -> the reader that evaluation uses (engine/training/reader.py).

    python -m engine.training.probes racing --minutes 3 [--out DIR] [--device cuda]

Real pictures only, all strides. A third of the rows teach what an absent hero looks like: it is covered with
another piece of the same picture, or the whole picture is smeared. Ends with the figures on held-out seeds,
one JSON line, also kept in probes.json; the weights are int8, below 0.5 MB."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.weights import SHIPPED
from engine.training.data import PLAYED_IN_FRAMES, Simulation
from engine.training.reader import Reader, load_reader, new_net, store_reader
from engine.training.reader_data import PictureBank, Triples, smeared, without_hero
from games import GAMES

HELD_OUT = range(1_000_000, 1_100_000)
COVERED, SMEARED = 0.25, 0.1
"""Shares of the rows whose hero is covered, and whose pictures are smeared beyond recognition."""


def loss_of(net: torch.nn.Module, triples: Triples) -> tuple[Tensor, Tensor]:
    """The loss, and its parts for the log: fields, buttons, presence."""
    dice = torch.rand(len(triples.strides), device=triples.strides.device)
    covered, smear = dice < COVERED, dice > 1 - SMEARED
    soft = (dice > 0.5) & (dice < 0.65)
    pick = lambda where, a, b: torch.where(where.view(-1, 1, 1, 1, 1), a, b)  # noqa: E731
    pictures = pick(covered, without_hero(triples), triples.pictures)
    pictures = pick(smear, smeared(pictures, 15), pick(soft, smeared(pictures, 3), pictures))
    pictures = pictures + 0.01 * torch.rand_like(dice).view(-1, 1, 1, 1, 1) * torch.randn_like(pictures)
    fields, buttons, seen = net(pictures, triples.strides)
    real = (~covered & ~smear).float()
    there = (triples.hero[:, -1].sum((1, 2)) > 2).float() * real
    mean = lambda value: (value.mean(1) * real).sum() / real.sum().clamp(min=1)  # noqa: E731
    parts = torch.stack(
        [
            mean((fields - triples.fields).abs()),
            mean(F.binary_cross_entropy_with_logits(buttons, triples.buttons, reduction="none")),
            F.binary_cross_entropy_with_logits(seen, there),
        ]
    )
    return 4 * parts[0] + parts[1] + 0.5 * parts[2], parts.detach()


def train(
    game: str,
    seconds: float,
    device: str,
    sizes: dict[str, int],
    start: Reader | None = None,
    seed_offset: int = 0,
) -> tuple[Reader, dict[str, Any]]:
    """Until `seconds` are over. sizes: worlds, length, batch, updates between steps of the simulation."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    began = said = time.monotonic()
    net = (start.net.train() if start else new_net(game)).to(device)
    simulation = Simulation(game, sizes["worlds"], device, offset=seed_offset)
    simulation.play_in(sizes["played_in"])
    bank = PictureBank(game, simulation, sizes["length"])
    while bank.count < sizes["first"]:
        bank.advance()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    updates, progress, logged = 0, 0.0, []
    while progress < 1:
        progress = min(1.0, (time.monotonic() - began) / seconds)
        for group in optimiser.param_groups:
            group["lr"] = 1.5e-3 * min(1.0, (updates + 1) / 100, 2 * (1.02 - progress))
        if updates % sizes["every"] == 0 and progress < 0.9:
            bank.advance()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss, parts = loss_of(net, bank.sample(sizes["batch"]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        updates += 1
        logged.append(parts)
        if time.monotonic() - said > 15:
            said = time.monotonic()
            values = " ".join(f"{v:.4f}" for v in torch.stack(logged).mean(0).tolist())
            pictures = bank.count * sizes["worlds"]
            print(f"{game} {progress:4.0%} update {updates} losses {values} pictures {pictures}", flush=True)
            logged = []
    net = net.cpu().float().eval()
    facts = {"updates": updates, "seconds": round(time.monotonic() - began), "device": device}
    facts["pictures"] = bank.count * sizes["worlds"]
    return Reader(game, net), facts


@torch.no_grad()
def check(reader: Reader, worlds: int, steps: int, device: str) -> dict[str, Any]:
    """Figures on held-out seeds, real pictures: mean error of each field in units (a count: per step), how
    well each button is told where the net is confident, presence with and without the hero."""
    bank = PictureBank(reader.game, Simulation(reader.game, worlds, device, HELD_OUT), steps)
    bank.simulation.lifetime += 10**6
    for _ in range(30):  # the warm-up of the other figures: not everybody at a standing start
        bank.simulation.advance(torch.full((worlds,), 8, device=device), 8)
    for _ in range(steps):
        bank.advance()
    triples = bank.sample(worlds * steps)
    net = reader.net.to(device)
    scaled, logits, seen = (out.cpu() for out in net(triples.pictures, triples.strides))
    covered = net(without_hero(triples), triples.strides)[2].cpu()
    net.cpu()
    there = triples.hero[:, -1].sum((1, 2)).cpu() > 2
    zero, strides = torch.zeros(len(reader.names)), triples.strides.cpu()
    error = torch.stack(
        [
            (reader.scale.in_units(a, zero, int(s)) - reader.scale.in_units(b, zero, int(s))).abs()
            for a, b, s in zip(scaled, triples.fields.cpu(), strides)
        ]
    ).mean(0)
    share, chance = triples.buttons.cpu(), logits.sigmoid()
    tells: dict[str, Any] = {}
    for i, button in enumerate(GAMES[reader.game].buttons):
        sure = ((chance[:, i] > 0.9) | (chance[:, i] < 0.1)) & ((share[:, i] == 0) | (share[:, i] == 1))
        right = (chance[:, i] > 0.5) == (share[:, i] > 0.5)
        held = share[:, i] > 0.5
        tells[str(button.name)] = [
            share_of(right, sure & held),
            share_of(right, sure & ~held),
            share_of(sure),
        ]
    return {
        "triples": len(strides),
        "error": {name: round(float(e), 4) for name, e in zip(reader.names, error)},
        "held_free_sure": tells,
        "seen": share_of(seen > 0, there),
        "seen_when_covered": share_of(covered > 0, there),
    }


def share_of(what: Tensor, where: Tensor | None = None) -> float | None:
    """The share of True in `what`, among those `where` is True; None where there are none."""
    kept = (what if where is None else what[where]).float()
    return round(kept.mean().item(), 4) if kept.numel() else None


def sizes_for(device: str, small_run: bool) -> dict[str, int]:
    if small_run:
        return {"worlds": 2, "length": 16, "batch": 8, "every": 4, "first": 4, "played_in": 60}
    if device == "cuda":
        sizes = {"worlds": 1024, "length": 32, "batch": 512, "every": 12, "first": 8}
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
    start = load_reader(args.game, args.start) if args.start else None
    sizes = sizes_for(args.device, args.small)
    reader, facts = train(args.game, args.minutes * 60, args.device, sizes, start, args.seed_offset)
    worlds, steps = (2, 6) if args.small else (256, 24) if args.device == "cuda" else (16, 40)
    facts["held_out"] = check(reader, worlds, steps, args.device)
    out = args.out or SHIPPED / args.game
    store_reader(out, args.game, reader.net, facts)
    print(json.dumps({"game": args.game, **facts}), flush=True)


if __name__ == "__main__":
    main()
