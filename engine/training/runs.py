"""Runs of consecutive frames as latents: what the extrapolator learns from and is measured on.

`RunBank` plays B worlds under scripted drivers, renders and encodes every frame of a run, then lets them play
on unseen for a while. `windows` cuts runs into what a decoder rank has at hand (latents one stride apart, the
newest buttons) and what it should have shown. Nothing waits for the GPU but one look per run at worn-out
worlds."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.models.weights import WeightsError
from engine.training.data import EVENTS, Simulation
from engine.training.token_worth import filled_weights, mover_classes

Encode = Callable[[Tensor], Tensor]
"""uint8 [B, 480, 720, 3] -> latents float [B, C, 10, 15]."""

MAX_STRIDE = 8
RUN_FRAMES = 3 * MAX_STRIDE + 1
"""One stride back and two ahead at the largest stride."""
USUAL_STRIDE = 4
"""What the engine plays with on most machines."""


@dataclass(frozen=True)
class Runs:
    """R runs of L consecutive frames. latents [R, L, C, 10, 15] bfloat16; buttons [R, L, N] float32, 0 or 1,
    held in the frame that led there; eventful [R, L] bool: this frame differs from the one before by an
    event; weights [R, L, 10, 15] bfloat16, larger where small important things are, see
    `filled_weights`."""

    latents: Tensor
    buttons: Tensor
    eventful: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Windows:
    """B windows. before, newest, truth: latents [B, C, 10, 15] at t - stride, t and t + ahead; oldest the one
    at t - 2 stride (`before` where the run begins later: then `deep` is False). buttons [B, N] the newest.
    strides, aheads float32 [B] frames. draft: the latent at t + stride where `drafted` [B] bool, else
    newest. weights float32 [B, 1, 10, 15]: the tokens' of the truth, 1 on average in every window."""

    oldest: Tensor
    before: Tensor
    newest: Tensor
    truth: Tensor
    buttons: Tensor
    strides: Tensor
    aheads: Tensor
    deep: Tensor
    draft: Tensor
    drafted: Tensor
    weights: Tensor


class RunBank:
    """The newest `size` runs of one game; `refresh` adds one of every world."""

    def __init__(
        self,
        simulation: Simulation,
        encode: Encode,
        size: int,
        frames: int = RUN_FRAMES,
        gap: tuple[int, int] = (8, 64),
    ) -> None:
        """gap: frames played unseen between two runs, least and most."""
        self.simulation, self.encode, self.size, self.frames, self.gap = simulation, encode, size, frames, gap
        spec = simulation.spec
        self.watched = [spec.field_index(name) for name in EVENTS[spec.name]]
        self.mover_classes = mover_classes(spec)
        self.parts: list[Runs] = []

    @property
    def count(self) -> int:
        return sum(len(part.latents) for part in self.parts)

    @torch.no_grad()
    def refresh(self) -> None:
        """Play on unseen, then a run of every world."""
        sim, (least, most) = self.simulation, self.gap
        sim.replace_old()
        sim.advance(torch.randint(least, most + 1, (sim.batch,), device=sim.device), most)
        latents, held, weights, marks = [], [], [], [self._marks()]
        for _ in range(self.frames):
            buttons = sim.play_on()
            pictures, classes = sim.world.render_classes()
            latents.append(self.encode(pictures).to(torch.bfloat16))
            weights.append(filled_weights(classes, self.mover_classes).to(torch.bfloat16))
            held.append(((buttons[:, None] & sim.bits) != 0).float())
            marks.append(self._marks())
        told = torch.stack(marks, 1)
        eventful = (told[:, 1:] != told[:, :-1]).any(-1)
        self.parts.append(
            Runs(torch.stack(latents, 1), torch.stack(held, 1), eventful, torch.stack(weights, 1))
        )
        while self.count - len(self.parts[0].latents) >= self.size:
            self.parts.pop(0)

    def runs(self) -> Runs:
        return Runs(*(torch.cat([getattr(part, f.name) for part in self.parts]) for f in fields(Runs)))

    def _marks(self) -> Tensor:
        return self.simulation.world.telemetry()[:, self.watched]


class _Reach(NamedTuple):
    """strides, aheads int64 [B] frames; has_draft bool [B]."""

    strides: Tensor
    aheads: Tensor
    has_draft: Tensor


def _reach(count: int, longest: int, usual: float, drafted: float, device: torch.device) -> _Reach:
    """How far apart the latents of random windows are, see `windows`."""
    strides = torch.maximum(*torch.randint(1, longest + 1, (2, count), device=device))
    usually = torch.rand(count, device=device) < usual
    strides = torch.where(usually, torch.full_like(strides, min(USUAL_STRIDE, longest)), strides)
    has_draft = (torch.rand(count, device=device) < drafted) & (strides > 1)
    spread = torch.rand(count, device=device)
    between = (1 + spread * (strides - 1)).long().minimum(strides - 1)
    beyond = (1 + spread**1.3 * 2 * strides).long().minimum(2 * strides)
    return _Reach(strides, torch.where(has_draft, between, beyond), has_draft)


def windows(
    runs: Runs, count: int, late_latch: float = 0.3, usual: float = 0.4, drafted: float = 0.0
) -> Windows:
    """count random windows: strides 1 to 8, 1 to 2 x stride ahead, larger strides and nearer frames oftener.

    late_latch: share of the windows whose buttons are up to 4 frames newer than the frame wanted, as on a
    screen that trails the keyboard. usual: share that has USUAL_STRIDE for sure. drafted: share that has a
    draft: these reach 1 to stride - 1 ahead, and their buttons are those of the draft's frame."""
    device, length = runs.latents.device, runs.latents.shape[1]
    strides, aheads, has_draft = _reach(count, min(MAX_STRIDE, (length - 1) // 3), usual, drafted, device)
    room = length - strides - torch.where(has_draft, strides, aheads)
    at = strides + (torch.rand(count, device=device) * room).long()
    newer = torch.randint(1, 5, (count,), device=device) * (torch.rand(count, device=device) < late_latch)
    newer = torch.where(has_draft, strides - aheads, newer)
    which = torch.randint(len(runs.latents), (count,), device=device)
    deep = at >= 2 * strides
    oldest = torch.where(deep, at - 2 * strides, at - strides)

    def latent(frame: Tensor) -> Tensor:
        return runs.latents[which, frame].float()

    weights = runs.weights[which, at + aheads].float()[:, None]
    return Windows(
        latent(oldest),
        latent(at - strides),
        latent(at),
        latent(at + aheads),
        runs.buttons[which, (at + aheads + newer).clamp(max=length - 1)],
        strides.float(),
        aheads.float(),
        deep,
        latent(torch.where(has_draft, at + strides, at)),
        has_draft,
        weights / weights.mean((1, 2, 3), keepdim=True),
    )


def save_runs(path: Path, runs: Runs) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f.name: getattr(runs, f.name).contiguous() for f in fields(Runs)}, path)


def load_runs(path: Path, device: str = "cpu") -> Runs:
    """Raises WeightsError where the file is of another version."""
    stored = load_file(path, device=device)
    missing = [f.name for f in fields(Runs) if f.name not in stored]
    if missing:
        raise WeightsError(
            f"{path} has no {missing[0]}: written by another version; remove it, then it is made anew"
        )
    return Runs(*(stored[f.name] for f in fields(Runs)))
