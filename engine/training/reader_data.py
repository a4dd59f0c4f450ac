"""What the reader learns from: small pictures of live simulation, three in a row, and the same without the
hero."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.telemetry import TelemetryScale
from engine.training.data import Simulation
from engine.training.reader import COLUMNS, PICTURES, PROBES, ROWS, SCALE, small
from games import GAMES


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
        """Up to `count` triples that cross no restart."""
        device, available = self.pictures.device, min(self.count, self.length)
        assert available >= PICTURES, "the bank holds fewer pictures than the reader looks at"
        worlds = torch.randint(self.simulation.batch, (2 * count,), device=device)
        first = torch.randint(available - PICTURES + 1, (2 * count,), device=device)
        steps = first[:, None] + self.count - available + torch.arange(PICTURES, device=device)
        slots = steps % self.length
        whole = ~self.fresh[worlds[:, None], slots][:, 1:].any(1)
        # A respawn moves the hero at once: how far is not to be seen in the pictures.
        whole &= self.fields[worlds, slots[:, -1]].abs().amax(1) < 1.45
        worlds, slots = worlds[whole][:count], slots[whole][:count]
        last = slots[:, -1]
        return Triples(
            self.pictures[worlds[:, None], slots].float() / 255,
            self.hero[worlds[:, None], slots].float() / 255,
            self.strides[worlds, last],
            self.fields[worlds, last],
            self.buttons[worlds, last],
        )


def without_hero(triples: Triples) -> Tensor:
    """The pictures, the hero covered with what lies half a picture aside."""
    pixels = F.max_pool2d((triples.hero > 0).float(), 5, 1, 2)[:, :, None]
    aside = triples.pictures.roll(int(torch.randint(30, 61, ())), -1)
    return torch.where(pixels > 0, aside, triples.pictures)


def smeared(pictures: Tensor, size: int) -> Tensor:
    """A box blur of `size` small pixels, odd."""
    flat = pictures.flatten(0, 1)
    return F.avg_pool2d(flat, size, 1, size // 2, count_include_pad=False).view_as(pictures)
