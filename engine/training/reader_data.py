"""What the reader learns from: small pictures of live simulation, three in a row, and the same without the
hero."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.telemetry import TelemetryScale
from engine.training.data import Simulation
from engine.training.reader import COLUMNS, PICTURES, PROBES, ROWS, SCALE, small
from games import GAMES, TRAIN_SEEDS

MASHERS = 1 / 3
"""Share of the worlds whose driver presses buttons at random: elsewhere the situation gives them away."""


@dataclass(frozen=True)
class Triples:
    """B times three pictures one step apart: pictures float [B, 3, 3, 60, 90]; hero [B, 3, 60, 90] its share
    of each small pixel; strides [B]; fields [B, S] scaled; buttons [B, N] shares of the last step."""

    pictures: Tensor
    hero: Tensor
    strides: Tensor
    fields: Tensor
    buttons: Tensor


class PictureBank:
    """A ring of the last `length` small pictures of B worlds, each world at a stride of its own until it is
    restarted."""

    def __init__(self, game: str, simulation: Simulation, length: int, max_stride: int = 8) -> None:
        self.simulation, self.length, self.max_stride = simulation, length, max_stride
        spec, device, batch = GAMES[game], simulation.device, simulation.batch
        self.columns = torch.tensor([spec.field_index(name) for name in PROBES[game]], device=device)
        self.scale = TelemetryScale([spec.telemetry[i] for i in self.columns.tolist()])
        self.pictures = torch.zeros(batch, length, 3, ROWS, COLUMNS, dtype=torch.uint8, device=device)
        self.hero = torch.zeros(batch, length, ROWS, COLUMNS, dtype=torch.uint8, device=device)
        self.fields = torch.zeros(batch, length, len(self.columns), device=device)
        self.buttons = torch.zeros(batch, length, spec.n_buttons, device=device)
        self.strides = torch.zeros(batch, length, device=device)
        self.fresh = torch.ones(batch, length, dtype=torch.bool, device=device)
        self.habit = torch.randint(1, max_stride + 1, (batch,), device=device)
        self.last = simulation.world.telemetry()[:, self.columns]
        self.count = 0

    def advance(self) -> None:
        """One step of every world: play, render, shrink, store."""
        sim, slot = self.simulation, self.count % self.length
        restarted = sim.replace_old()
        free = torch.randint(1, self.max_stride + 1, self.habit.shape, device=sim.device)
        self.habit = torch.where(restarted, free, self.habit)
        before = torch.where(restarted[:, None], sim.world.telemetry()[:, self.columns], self.last)
        self.buttons[:, slot] = sim.advance(self.habit, self.max_stride)
        pictures, classes = sim.world.render_classes()
        self.last = sim.world.telemetry()[:, self.columns]
        self.pictures[:, slot] = (small(pictures) * 255).round().to(torch.uint8)
        hero = F.avg_pool2d((classes == 1).float()[:, None], SCALE)[:, 0]
        self.hero[:, slot] = (hero * 255).round().to(torch.uint8)
        self.fields[:, slot] = self.scale.scaled(self.last, before, self.habit)
        self.strides[:, slot], self.fresh[:, slot] = self.habit.float(), restarted
        self.count += 1

    def sample(self, count: int) -> Triples:
        """`count` triples that cross no restart, unless there are hardly any such."""
        device, available, tries = self.pictures.device, min(self.count, self.length), 4 * count
        assert available >= PICTURES, "the bank holds fewer pictures than the reader looks at"
        worlds = torch.randint(self.simulation.batch, (tries,), device=device)
        first = torch.randint(available - PICTURES + 1, (tries,), device=device)
        steps = first[:, None] + self.count - available + torch.arange(PICTURES, device=device)
        slots = steps % self.length
        broken = self.fresh[worlds[:, None], slots][:, 1:].any(1)
        # A respawn moves the hero at once: how far is not to be seen in the pictures.
        broken |= self.fields[worlds, slots[:, -1]].abs().amax(1) >= 1.45
        best = broken.to(torch.int8).argsort(stable=True)[:count]
        worlds, slots = worlds[best], slots[best]
        last = slots[:, -1]
        return Triples(
            self.pictures[worlds[:, None], slots].float() / 255,
            self.hero[worlds[:, None], slots].float() / 255,
            self.strides[worlds, last],
            self.fields[worlds, last],
            self.buttons[worlds, last],
        )


class MixedBank:
    """A bank of worlds played in all styles and one of mashers' worlds, MASHERS of `worlds` together."""

    def __init__(
        self, game: str, worlds: int, length: int, device: str, played_in: int, offset: int = 0
    ) -> None:
        """played_in: frames that the worlds are played first, at most; offset: the first training seed."""
        mashers = max(1, round(worlds * MASHERS))
        apart = len(TRAIN_SEEDS) // 2
        simulations = (
            Simulation(game, worlds - mashers, device, offset=offset),
            Simulation(game, mashers, device, offset=offset + apart, style="masher"),
        )
        for simulation in simulations:
            simulation.play_in(played_in)
        self.styled, self.mashed = (PictureBank(game, simulation, length) for simulation in simulations)
        self.worlds = worlds

    @property
    def count(self) -> int:
        """Steps so far, of every world."""
        return self.styled.count

    def advance(self) -> None:
        """One step of every world."""
        self.styled.advance()
        self.mashed.advance()

    def sample(self, count: int) -> Triples:
        """`count` triples, the mashers' share last."""
        mashers = round(count * MASHERS)
        parts = self.styled.sample(count - mashers), self.mashed.sample(mashers)
        return Triples(*(torch.cat(pair) for pair in zip(*(vars(part).values() for part in parts))))


def without_hero(triples: Triples) -> Tensor:
    """The pictures, the hero covered with what lies about half a picture aside, in each triple elsewhere."""
    device = triples.pictures.device
    pixels = F.max_pool2d((triples.hero > 0).float(), 5, 1, 2)[:, :, None]
    shift = torch.randint(30, 61, (len(triples.strides), 1), device=device)
    columns = (torch.arange(COLUMNS, device=device) - shift) % COLUMNS
    aside = triples.pictures.gather(-1, columns[:, None, None, None].expand_as(triples.pictures))
    return torch.where(pixels > 0, aside, triples.pictures)


def smeared(pictures: Tensor, size: int) -> Tensor:
    """A box blur of `size` small pixels, odd: down, then across, which takes a few reads instead of their
    square."""
    half, flat = size // 2, pictures.flatten(0, 1)
    flat = F.avg_pool2d(flat, (size, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(flat, (1, size), 1, (0, half), count_include_pad=False).view_as(pictures)
