"""Training data straight from the simulators, on the GPU: nothing is stored, nothing waits.

`Simulation` runs a batch of worlds under scripted drivers; `FramePool` keeps rendered pictures for the
autoencoder, `ClipBank` latents of consecutive steps for the world model. Both are refreshed all the time, so
no batch is seen for long."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.models.autoencoder import from_bytes
from engine.models.telemetry import TelemetryScale
from engine.training.captured import Captured, Pinned
from engine.training.token_worth import mover_classes, token_weights, tokens_with
from games import GAMES, TRAIN_SEEDS, simulator

STRIDE_WEIGHTS = (1.5, 2.5, 1.0, 5.0, 0.8, 0.8, 0.8, 1.2)
"""How often clips have a stride of 1 to 8: 4 is what a CPU plays at, 1 and 2 are a GPU's."""
LIFETIME_FRAMES = (240, 2400)
"""A world is replaced by a new seed after a while within this range."""


EVENTS = {"racing": ("collision",), "platformer": ("alive", "lives", "level")}
"""Telemetry fields whose change is a cut, a death, a respawn, a crash: motion does not go on through it."""
assert set(EVENTS) == set(GAMES)
PLAYED_IN_FRAMES = 1500
"""How far worlds are played before training looks at them: with a bank that moves a few hundred frames in a
whole training, it would else know nothing but standing starts."""
DISPLACED = {"racing": 0.006}
"""Share of the worlds that are displaced at each step of training (World.displace), by game: drivers
spend 3 % of their time off the road, so a dream that got there did not know how to come back."""
DISPLACED_AT_FIRST = 0.25


class Simulation:
    """B worlds of one game and the drivers that play them, on `device`; seeds are drawn from `seeds`, in
    order. Worlds of training seeds are displaced now and then, all others are left to their drivers.
    style: one of the game's driving styles for all drivers; None: as each driver's seed has it."""

    def __init__(
        self,
        game: str,
        batch: int,
        device: str,
        seeds: range = TRAIN_SEEDS,
        offset: int = 0,
        style: str | None = None,
    ) -> None:
        self.spec, self.batch, self.device = GAMES[game], batch, device
        self.seeds, self.next_seed = seeds, offset
        self.displaced, self.draws = DISPLACED.get(game, 0.0) if seeds == TRAIN_SEEDS else 0.0, 0
        self.module = simulator(game)
        first = self._draw(batch)
        self.world = self.module.World(first, device=device)
        self.drivers = self.module.Drivers(first, device=device, style=style)
        self.age = torch.zeros(batch, dtype=torch.int64, device=device)
        self.left, self.buttons = torch.zeros_like(self.age), torch.zeros_like(self.age)
        self.lifetime = torch.randint(1, LIFETIME_FRAMES[1], (batch,), device=device)
        self.bits = torch.tensor([int(b) for b in self.spec.buttons], device=device)
        self.held = torch.zeros(batch, len(self.bits), device=device)
        self.pinned = [Pinned(self.world), Pinned(self.drivers)] if device == "cuda" else []
        self.frame = Captured(self._frame, torch.device(device).type)

    def advance(self, strides: Tensor, max_stride: int) -> Tensor:
        """Each world by its own number of frames, int64 [B] in 0..max_stride. Returns the share of those
        frames each button was held, float32 [B, N]."""
        self.left.copy_(strides)
        self.held.zero_()
        for _ in range(max_stride):
            self.frame()
        self.age += strides
        return self.held / strides.clamp(min=1)[:, None]

    def play_on(self) -> Tensor:
        """One frame of every world. Returns the buttons held, int64 [B]."""
        self.advance(torch.ones_like(self.age), 1)
        return self.buttons.clone()

    def _frame(self) -> None:
        """One frame of the worlds that have some left."""
        active = self.left > 0
        self.buttons.copy_(self.drivers.act(self.world))
        self.world.step(self.buttons, active)
        self.held += ((self.buttons[:, None] & self.bits) != 0) * active[:, None]
        self.left -= active.long()
        for pinned in self.pinned:
            pinned.settle()

    def play_in(self, frames: int | None = None) -> None:
        """Every world played for a while of its own, up to so many frames (None: PLAYED_IN_FRAMES), before
        its lifetime: clips begin anywhere in a game."""
        frames = PLAYED_IN_FRAMES if frames is None else frames
        played = torch.randint(frames, (self.batch,), device=self.device)
        self.advance(played, frames)
        self.lifetime = self.lifetime + played
        if self.displaced:
            self._displace(DISPLACED_AT_FIRST)

    def replace_old(self) -> Tensor:
        """Restart worlds whose time is over, with new seeds, and displace some others. Returns which were
        either, bool [B]: what they showed before has nothing to do with what follows."""
        old = self.age >= self.lifetime
        if bool(old.any()):
            self.world.restart(old, self._draw(self.batch))
            for pinned in self.pinned:
                pinned.settle()
            self.age = torch.where(old, 0, self.age)
            fresh = torch.randint(*LIFETIME_FRAMES, (self.batch,), device=self.device)
            self.lifetime = torch.where(old, fresh, self.lifetime)
        return old | self._displace(self.displaced) if self.displaced else old

    def _displace(self, share: float) -> Tensor:
        """Some of the worlds, bool [B]."""
        where = torch.rand(self.batch, device=self.device) < share
        self.draws += 1
        self.world.displace(where, self.draws)
        for pinned in self.pinned:
            pinned.settle()
        return where

    def _draw(self, count: int) -> Tensor:
        numbers = (torch.arange(count) + self.next_seed) % len(self.seeds)
        self.next_seed += count
        return (numbers + self.seeds.start).to(self.device)


class FramePool:
    """P rendered pictures and their class maps, uint8 [P, 480, 720, 3] and [P, 480, 720]; `refresh` replaces
    B of them."""

    def __init__(self, simulation: Simulation, size: int, stride: int = 8) -> None:
        self.simulation, self.stride = simulation, stride
        spec, device = simulation.spec, simulation.device
        self.pictures = torch.empty(size, spec.height, spec.width, 3, dtype=torch.uint8, device=device)
        self.classes = torch.empty(size, spec.height, spec.width, dtype=torch.uint8, device=device)
        self.cursor = self.filled = 0

    def refresh(self) -> None:
        """Play on for `stride` frames, render every world once."""
        sim = self.simulation
        sim.replace_old()
        sim.advance(torch.full((sim.batch,), self.stride, device=sim.device), self.stride)
        pictures, classes = sim.world.render_classes()
        where = (torch.arange(sim.batch, device=sim.device) + self.cursor) % len(self.pictures)
        self.pictures[where], self.classes[where] = pictures, classes
        self.cursor = (self.cursor + sim.batch) % len(self.pictures)
        self.filled = min(self.filled + sim.batch, len(self.pictures))

    def sample(self, count: int, height: int = 480, width: int = 720) -> tuple[Tensor, Tensor]:
        """Random windows: float [count, 3, height, width] in 0..1 and class maps uint8 [count, height,
        width]."""
        device = self.pictures.device
        which = torch.randint(self.filled, (count, 1, 1), device=device)
        ys = (
            torch.randint(480 - height + 1, (count, 1, 1), device=device)
            + torch.arange(height, device=device)[:, None]
        )
        xs = torch.randint(720 - width + 1, (count, 1, 1), device=device) + torch.arange(width, device=device)
        return from_bytes(self.pictures[which, ys, xs]), self.classes[which, ys, xs]


@dataclass(frozen=True)
class Clips:
    """B clips of T + 2 consecutive steps. latents [B, T+2, C, 10, 15]; step t's conditions, on the way from
    latent t to t + 1, are buttons[:, t + 1], strides[:, t + 1]; telemetry [B, T+2, F] scaled; weights [B,
    T+2, 10, 15], larger where small important things are; movers [B, T+2, 10, 15], 1 where a token
    shows a part of what moves by itself (GameSpec.movers), else 0."""

    latents: Tensor
    buttons: Tensor
    strides: Tensor
    telemetry: Tensor
    weights: Tensor
    movers: Tensor

    def window(self, begin: int, end: int) -> "Clips":
        """The clips' steps begin to end - 1."""
        return Clips(*(value[:, begin:end] for value in vars(self).values()))

    def repeated(self, times: int) -> "Clips":
        """Every clip `times` times, one copy of all behind the other."""
        return Clips(*(torch.cat((value,) * times) for value in vars(self).values()))


class ClipBank:
    """A ring of the last `length` steps of B worlds as latents; clips are windows of it that cross no
    restart.

    Strides from 1 to max_stride are mixed within clips: two thirds of the time a world keeps to one for a
    while. `fixed_stride` makes them all one instead."""

    def __init__(
        self,
        simulation: Simulation,
        encoder: Callable[[Tensor], Tensor],
        channels: int,
        length: int,
        max_stride: int = 8,
        fixed_stride: int | None = None,
    ) -> None:
        sim = self.simulation = simulation
        self.encoder, self.length, self.max_stride = encoder, length, max_stride
        self.scale = TelemetryScale(sim.spec.telemetry)
        shape, device = (sim.batch, length), sim.device
        self.latents = torch.zeros(*shape, channels, 10, 15, dtype=torch.bfloat16, device=device)
        self.buttons = torch.zeros(*shape, sim.spec.n_buttons, device=device)
        self.strides = torch.zeros(shape, dtype=torch.int64, device=device)
        self.telemetry = torch.zeros(*shape, len(sim.spec.telemetry), device=device)
        self.weights = torch.zeros(*shape, 10, 15, device=device)
        self.movers = torch.zeros(*shape, 10, 15, device=device)
        self.mover_classes = mover_classes(sim.spec)
        self.fresh = torch.ones(shape, dtype=torch.bool, device=device)
        self.cut = torch.zeros(shape, dtype=torch.bool, device=device)  # by a step with an event
        self.watched = [sim.spec.field_index(name) for name in EVENTS[sim.spec.name]]
        self.stride_weights = torch.tensor(STRIDE_WEIGHTS[:max_stride], device=device)
        self.habit = self._drawn()
        self.fixed_stride = fixed_stride
        self.count = 0
        self.last_telemetry = sim.world.telemetry()

    @torch.no_grad()
    def advance(self) -> tuple[Tensor, Tensor]:
        """One step of every world: play, render, encode, store. Returns the pictures and class maps."""
        sim, slot = self.simulation, self.count % self.length
        restarted = sim.replace_old()
        before = torch.where(restarted[:, None], sim.world.telemetry(), self.last_telemetry)
        strides = self._strides()
        held = sim.advance(strides, self.max_stride)
        pictures, classes = sim.world.render_classes()
        now = sim.world.telemetry()
        self.latents[:, slot] = encode_all(self.encoder, pictures).to(torch.bfloat16)
        self.buttons[:, slot], self.strides[:, slot] = held, strides
        self.telemetry[:, slot] = self.scale.scaled(now, before, strides)
        self.weights[:, slot] = token_weights(classes)
        self.movers[:, slot] = tokens_with(classes, self.mover_classes)
        self.fresh[:, slot] = restarted
        self.cut[:, slot] = (now != before)[:, self.watched].any(1)
        self.last_telemetry = now
        self.count += 1
        return pictures, classes

    def latest(self, span: int) -> tuple[Clips, Tensor]:
        """The newest `span` steps of every world, and which are whole, bool [B]."""
        slots = (torch.arange(self.count - span, self.count, device=self.latents.device)) % self.length
        return self.clips(slots=slots), ~self.fresh[:, slots][:, 1:].any(1)

    def sample(self, count: int, steps: int, eventful: int = 0) -> Clips:
        """count clips of steps + 2 latents, so many of them with an event on the way if there are any."""
        places = [self._places(count - eventful, steps + 2, 4 * count, False)]
        if eventful:
            places.append(self._places(eventful, steps + 2, 16 * count, True))
        worlds, slots = (torch.cat(part) for part in zip(*places))
        return self.clips(worlds, slots)

    def clips(self, worlds: slice | Tensor = slice(None), slots: slice | Tensor = slice(None)) -> Clips:
        """Of some worlds and slots, as they index [worlds, length]."""
        at = worlds, slots
        return Clips(
            self.latents[at].float(),
            self.buttons[at],
            self.strides[at].float(),
            self.telemetry[at],
            self.weights[at],
            self.movers[at],
        )

    def _places(self, count: int, span: int, tries: int, with_event: bool) -> tuple[Tensor, Tensor]:
        """Worlds [count, 1] and slots [count, span] of clips, the best of `tries`: without a restart and, if
        wanted, with an event."""
        device, available = self.latents.device, min(self.count, self.length)
        assert available >= span, "the bank holds fewer steps than a clip"
        worlds = torch.randint(self.simulation.batch, (tries, 1), device=device)
        starts = torch.randint(available - span + 1, (tries,), device=device) + (self.count - available)
        slots = (starts[:, None] + torch.arange(span, device=device)) % self.length
        badness = 2 * self.fresh[worlds, slots][:, 1:].any(1)
        if with_event:
            badness = badness + ~self.cut[worlds, slots][:, 2:].any(1)
        best = badness.to(torch.int8).argsort(stable=True)[:count]
        return worlds[best], slots[best]

    def _strides(self) -> Tensor:
        device, batch = self.latents.device, self.simulation.batch
        if self.fixed_stride:
            return torch.full((batch,), self.fixed_stride, device=device)
        self.habit = torch.where(torch.rand(batch, device=device) < 0.05, self._drawn(), self.habit)
        return torch.where(torch.rand(batch, device=device) < 0.35, self._drawn(), self.habit)

    def _drawn(self) -> Tensor:
        return torch.multinomial(self.stride_weights, self.simulation.batch, replacement=True) + 1


def encode_all(encoder: Callable[[Tensor], Tensor], pictures: Tensor, at_once: int = 64) -> Tensor:
    """uint8 [B, 480, 720, 3] -> latents [B, C, 10, 15], in bites of a fixed size (one compiled shape)."""
    return torch.cat([encoder(from_bytes(part)).float() for part in pictures.split(at_once)])
