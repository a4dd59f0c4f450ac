"""Traces of plays that step together, made where their pictures are.

Full pictures are reduced on the device; small ones wait there and come to the host once a second of the game,
so that no step waits for its pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.models.autoencoder import from_bytes
from engine.training import measures
from engine.training.evaluation.long_play import Trace, dear_every, small_bytes
from engine.training.evaluation.pictures import halved


class Recorder:
    """Writes one trace a play, all of one stride: what Trace.add does, for all at once."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        self.traces, self._every = traces, dear_every(traces[0].stride)
        self._number = 0
        self._waiting: list[Tensor] = []  # small pictures uint8 [B, 3, 60, 90] by step

    def add(
        self, pictures: Tensor, telemetry: np.ndarray, masks: list[list[int]], latents: np.ndarray | None
    ) -> None:
        """One step's end. pictures uint8 [B, 480, 720, 3], telemetry [B, F], latents [B, C, 10, 15], None
        for real play; masks: of each play the buttons of its frames."""
        count = len(self.traces)
        sharp = spread = [float("nan")] * count
        if self.measured(self._number):
            sharp = measures.gradient_energy(from_bytes(pictures)).tolist()
        if latents is not None:
            spread = latents.std((2, 3)).mean(1).tolist()
        for trace, *told in zip(self.traces, telemetry, masks, sharp, spread):
            trace.note(*told)
        self._waiting.append(small_bytes(pictures))
        if len(self._waiting) == self._every:
            self.flush()
        for number, trace in enumerate(self.traces):
            if self._number in trace.keep:
                trace.pictures[self._number] = halved(pictures[number].cpu().numpy())
        self._number += 1

    def measured(self, number: int) -> bool:
        """Whether the dear figures are taken of this step."""
        return number % self._every == 0

    def flush(self) -> None:
        """After the last step: all small pictures to the traces."""
        if self._waiting:
            by_trace = torch.stack(self._waiting, 1).cpu()
            for trace, looks in zip(self.traces, by_trace):
                trace.small += looks.unbind(0)
        self._waiting = []
