"""The extrapolator's batches: windows of live simulation, or of runs in a file (a CPU renders slowly)."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.training.data import PLAYED_IN_FRAMES, Simulation, encode_all
from engine.training.runs import Encode, RunBank, Runs, Windows, load_runs, save_runs, windows


@dataclass(frozen=True)
class Sizes:
    """worlds side by side; runs kept; windows in a batch; refresh: updates between two runs of all worlds,
    0 for never; gap: frames played unseen between runs; first: runs of every world before training begins;
    played_in: frames every world has gone on for, at most, before the first."""

    worlds: int
    kept: int
    batch: int
    refresh: int
    gap: tuple[int, int]
    first: int = 4
    played_in: int = PLAYED_IN_FRAMES


def sizes_for(device: str, small: bool, filed: bool, batch: int | None) -> Sizes:
    """batch overrides. A GPU plays many worlds rarely: a frame of 512 takes as long as one of 8."""
    if small:
        return Sizes(1, 2, batch or 4, 0, (8, 16), first=1, played_in=60)
    if device == "cuda":
        return Sizes(512, 4096, batch or 128, 500, (8, 48))
    return Sizes(8, 4096, batch or 16, 0 if filed else 200, (30, 300))


class LiveWindows:
    """`collect` first, then `sample` for every update."""

    runs: Runs

    def __init__(
        self,
        game: str,
        encode: Encode,
        device: str,
        sizes: Sizes,
        offset: int,
        file: Path | None,
        drafted: float = 0.5,
    ) -> None:
        """offset: first seed; file: see the module; drafted: share of windows with a draft."""
        self.game, self.encode, self.device, self.sizes = game, encode, device, sizes
        self.offset, self.file, self.drafted = offset, file, drafted
        self.bank: RunBank | None = None

    def collect(self, seconds: float) -> None:
        """Read the file if it is there; else play for at least so long, and write it where one was named."""
        if self.file and self.file.exists():
            self.runs = load_runs(self.file, self.device)
        else:
            simulation = Simulation(self.game, self.sizes.worlds, self.device, offset=self.offset)
            simulation.play_in(self.sizes.played_in)
            self.bank = RunBank(simulation, self.encode, self.sizes.kept, gap=self.sizes.gap)
            began = time.monotonic()
            while len(self.bank.parts) < self.sizes.first or time.monotonic() - began < seconds:
                self.bank.refresh()
            self.runs = self.bank.runs()
            if self.file:
                save_runs(self.file, self.runs)
        print(
            f"{self.game}: {len(self.runs.latents)} runs of {self.runs.latents.shape[1]} frames", flush=True
        )

    def sample(self, update: int) -> Windows:
        refresh = self.sizes.refresh
        if self.bank and refresh and update % refresh == refresh - 1:
            self.bank.refresh()
            self.runs = self.bank.runs()
        return windows(self.runs, self.sizes.batch, drafted=self.drafted)


def encoder_function(encoder: nn.Module, device: str) -> Encode:
    """On a GPU compiled bfloat16, in bites of one shape."""
    if device != "cuda":
        return lambda pictures: encode_all(encoder, pictures)
    compiled = torch.compile(encoder.to(memory_format=torch.channels_last), dynamic=False)  # type: ignore[call-overload]

    def encode(pictures: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return encode_all(compiled, pictures)

    return encode
