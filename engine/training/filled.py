"""Filled frames against the simulator's own: what `bench extrapolation` prints and `evaluate` calls `filled`.

An estimator's excess is its squared pixel error beyond that of decode(encode(truth)); what it removes of
hold's excess is the figure. Clips and their cases: engine/training/clips.py.

Estimators with a draft are given the true latent a stride ahead and fill in the frames before it: in play a
draft that holds is the next true latent. `played` is what play would show with the learned one: it has the
draft from the first frame on where buttons stay as they are, and REDRAFT_FRAMES after they last changed;
before that it extrapolates with the newest buttons. (For the frames before a change play fills in towards a
draft that turns out wrong; here those count as extrapolated.)"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.backend import Backend, Draft, FrameDecoder
from engine.fast.extrapolators import LearnedExtrapolator, SphereExtrapolator
from engine.models import extrapolator as maps
from engine.models.autoencoder import from_bytes
from engine.models.extrapolator_net import ExtrapolatorNet
from engine.models.weights import has_part, load_part
from engine.training import measures
from engine.training.clips import Clip, choose, chosen_clips, scout

Fill = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]
"""engine.backend.Extrapolator.extrapolate."""


def estimators(backend: Backend, directory: Path) -> dict[str, Fill]:
    """Every estimator by name, called as the decoder rank calls one; the learned ones where they are
    trained."""

    def plain(make: Callable[[Tensor, float], Tensor]) -> Fill:
        def fill(latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float) -> np.ndarray:
            ratio = float(time - times[-1]) / float(times[-1] - times[-2])
            return make(torch.from_numpy(latents)[:, None], ratio)[0].numpy()

        return fill

    known: dict[str, Fill] = {
        "hold": lambda latents, times, buttons, time: latents[-1],
        "linear": plain(lambda z, ratio: maps.linear(z[1], z[2], ratio)),
        "quadratic": plain(lambda z, ratio: maps.quadratic(z[0], z[1], z[2], ratio)),
        "exponential": plain(lambda z, ratio: maps.exponential(z[1], z[2], ratio)),
        "exponential_basis": plain(lambda z, ratio: maps.exponential_in_basis(z[0], z[1], z[2], ratio)),
        "exponential_gated": SphereExtrapolator().extrapolate,
    }
    if not has_part(directory, "extrapolator"):
        return known
    net = load_part(directory, "extrapolator")
    assert isinstance(net, ExtrapolatorNet)

    def combined(latents: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float) -> np.ndarray:
        stride, ahead = torch.tensor([times[-1] - times[-2], time - times[-1]])
        by = net.combined(stride[None], ahead[None], torch.tensor([True]))
        oldest, before, newest = torch.from_numpy(latents)[:, None]
        return maps.combination(oldest, before, newest, by)[0].numpy()

    learned = backend.extrapolator()
    assert isinstance(learned, LearnedExtrapolator)
    return known | {
        "combination": combined,
        "learned_ungated": LearnedExtrapolator(learned.run, gated=False).extrapolate,
        "learned": learned.extrapolate,
    }


DraftFill = Callable[[np.ndarray, np.ndarray, np.ndarray, float, Draft], np.ndarray]
"""engine.backend.Extrapolator.interpolate."""
PLAYED = "played"
REDRAFT_FRAMES = 2
"""From a change of buttons to the first frame that a draft made then can serve, where a step takes 1 to 2."""


def drafting_estimators(backend: Backend, directory: Path) -> dict[str, DraftFill]:
    """Every estimator that takes a draft."""
    known: dict[str, DraftFill] = {"great_circle_draft": SphereExtrapolator().interpolate}
    if has_part(directory, "extrapolator"):
        known["learned_draft"] = backend.extrapolator().interpolate
    return known


def has_draft(buttons: np.ndarray, stride: int) -> list[bool]:
    """Whether play fills in towards a good draft, for the frames 1 to stride - 1 ahead. buttons [>= 1 +
    stride, N]: of the newest true frame and those after."""
    changed = [k for k in range(1, stride + 1) if (buttons[k] != buttons[k - 1]).any()]
    last = max(changed, default=-REDRAFT_FRAMES)
    return [k >= last + REDRAFT_FRAMES for k in range(1, stride)]


OLD_BUTTONS = "learned_old_buttons"
"""The learned one told the buttons of frame t: what the newest buttons are worth."""


@dataclass
class Scores:
    """Per (case, frames ahead, estimator) lists of squared errors and similarities; [estimator]: of each seam
    its jump and the change between true frames there, and milliseconds."""

    errors: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)
    ssims: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)
    seams: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    took_ms: dict[str, list[float]] = field(default_factory=dict)

    def excess(self, estimator: str, ahead: int, weights: dict[str, float]) -> float:
        """Mean squared error beyond the ceiling's, cases weighted."""
        total = 0.0
        for case, weight in weights.items():
            own, ceiling = (self.errors.get((case, ahead, name)) for name in (estimator, "ceiling"))
            if own and ceiling:
                total += weight * (sum(own) / len(own) - sum(ceiling) / len(ceiling))
        return total

    def figures(self, estimator: str, ahead: int, weights: dict[str, float]) -> dict[str, float | None]:
        """psnr_db and ssim (means over clips, cases weighted), excess_mse_removed (of pooled errors)."""
        present = {c: w for c, w in weights.items() if self.errors.get((c, ahead, estimator))}
        whole = sum(present.values())
        if not whole:
            return {"psnr_db": None, "ssim": None, "excess_mse_removed": None}
        psnr = ssim = 0.0
        for case, weight in present.items():
            errors = np.maximum(self.errors[case, ahead, estimator], 10**-4.5)
            psnr += weight / whole * float(-10 * np.log10(errors).mean())
            ssim += weight / whole * float(np.mean(self.ssims.get((case, ahead, estimator), [np.nan])))
        held = self.excess("hold", ahead, present)
        removed = 1 - self.excess(estimator, ahead, present) / held if held > 1e-7 else None
        rounded = None if removed is None else round(removed, 3)
        return {"psnr_db": round(psnr, 2), "ssim": round(ssim, 4), "excess_mse_removed": rounded}


class Filling:
    """Runs every estimator over clips and keeps the scores."""

    def __init__(self, backend: Backend, directory: Path, ssim: bool = True) -> None:
        self.encoder, self.decoder, self.ssim = backend.encoder(), backend.decoder(), ssim
        self.estimators = estimators(backend, directory)
        self.drafting = drafting_estimators(backend, directory)
        self.scores = Scores()

    @property
    def names(self) -> list[str]:
        """Of everything that is scored, but OLD_BUTTONS."""
        return [*self.estimators, *self.drafting, *([PLAYED] if "learned" in self.estimators else [])]

    def add(self, clip: Clip) -> None:
        latents = self.encoder.encode(clip.pictures)
        true = from_bytes(torch.from_numpy(clip.pictures[3:]))
        ceiling = decoded(self.decoder, latents[2:])
        self._score(clip, "ceiling", ceiling[1:], true)
        for name, fill in self.estimators.items():
            made = self._filled(clip, latents[:3], name, fill, clip.buttons[1:])
            if name == "hold":
                made = made.expand(2 * clip.stride, -1, -1, -1)
            self._score(clip, name, made, true)
            self._seam(clip, name, made, ceiling)
        self._add_drafting(clip, latents, true, ceiling)
        if "learned" in self.estimators and "buttons" in clip.cases:
            stale = np.repeat(clip.buttons[:1], 2 * clip.stride, 0)
            fill = self.estimators["learned"]
            made = self._filled(clip, latents[:3], OLD_BUTTONS, fill, stale)
            self._score(clip, OLD_BUTTONS, made, true, only="buttons")

    def _add_drafting(self, clip: Clip, latents: np.ndarray, true: Tensor, ceiling: Tensor) -> None:
        """latents of clip.pictures; true, ceiling: as `add` has them."""
        draft, between = Draft(latents[2 + clip.stride], float(clip.stride)), range(clip.stride - 1)
        drafted: dict[str, Tensor] = {}
        for name, fill in self.drafting.items():

            def towards(given: np.ndarray, times: np.ndarray, buttons: np.ndarray, time: float) -> np.ndarray:
                return fill(given, times, buttons, time, draft)  # noqa: B023, called before the next one

            held = np.repeat(clip.buttons[clip.stride : clip.stride + 1], clip.stride - 1, 0)
            drafted[name] = made = self._filled(clip, latents[:3], name, towards, held)
            self._score(clip, name, made, true)
            self._seam(clip, name, made, ceiling)
        if "learned" in self.estimators and "learned_draft" in drafted:
            alone = self._filled(clip, latents[:3], PLAYED, self.estimators["learned"], clip.buttons[1:])
            served = has_draft(clip.buttons, clip.stride)
            made = torch.stack([drafted["learned_draft"][i] if served[i] else alone[i] for i in between])
            self._score(clip, PLAYED, made, true)
            self._seam(clip, PLAYED, made, ceiling)

    def _filled(self, clip: Clip, given: np.ndarray, name: str, fill: Fill, buttons: np.ndarray) -> Tensor:
        """Decoded pictures [K, 3, 480, 720] of the frames ahead that `buttons` [K, N] are for; of hold one is
        enough."""
        made = []
        for ahead in range(1, 2 if name == "hold" else len(buttons) + 1):
            began = time.perf_counter()
            made.append(fill(given, clip.times, buttons[ahead - 1], float(ahead)))
            self.scores.took_ms.setdefault(name, []).append((time.perf_counter() - began) * 1e3)
        return decoded(self.decoder, np.stack(made))

    def _score(self, clip: Clip, name: str, made: Tensor, true: Tensor, only: str = "") -> None:
        """made [K, 3, H, W], K at most 2s. only: score this case alone, leave out the others' frames."""
        true = true[: len(made)]
        errors = (made - true).square().mean((1, 2, 3)).tolist()
        # At half size, as the measure's authors advise for pictures of this height.
        same = measures.ssim(F.avg_pool2d(made, 2), F.avg_pool2d(true, 2)).tolist() if self.ssim else []
        for k, case in enumerate(clip.cases[: len(made)], start=1):
            if only and case != only:
                continue
            self.scores.errors.setdefault((case, k, name), []).append(errors[k - 1])
            if same:
                self.scores.ssims.setdefault((case, k, name), []).append(same[k - 1])

    def _seam(self, clip: Clip, name: str, made: Tensor, ceiling: Tensor) -> None:
        """The change from the last filled frame to the next true one, and that between the true ones."""
        last = clip.stride - 1
        if last < 1 or clip.cases[last] != "steady":
            return
        arrives = ceiling[clip.stride]
        jump = (arrives - made[last - 1]).square().mean().sqrt()
        change = (arrives - ceiling[last]).square().mean().sqrt()
        self.scores.seams.setdefault(name, []).append((float(jump), float(change)))


def decoded(decoder: FrameDecoder, latents: np.ndarray) -> Tensor:
    """latents [K, C, 10, 15] -> float pictures [K, 3, 480, 720]."""
    return from_bytes(torch.from_numpy(np.stack([decoder.decode(z) for z in latents])))


def filled_table(
    scores: Scores, names: Sequence[str], stride: int, weights: dict[str, float]
) -> dict[str, Any]:
    """{frames ahead: {estimator: figures}}; weights: each case's share, one alone or as played."""
    return {
        str(k): {name: scores.figures(name, k, weights) for name in names} for k in range(1, 2 * stride + 1)
    }


def measure_filled(
    game: str, backend: Backend, directory: Path, seeds: range, stride: int, clips: int = 4, frames: int = 480
) -> dict[str, Any]:
    """design.md's `filled`: {frames ahead: {estimator: {psnr_db, excess_mse_removed}}}, cases weighted as
    played. clips: of steady motion and of changing buttons each; half as many events."""
    if stride < 2:
        return {}  # every frame is a true one
    scouted = scout(game, seeds, frames)
    chosen, shares = choose(scouted, stride, {"steady": clips, "buttons": clips, "events": (clips + 1) // 2})
    filling = Filling(backend, directory, ssim=False)
    for _, of_world in chosen_clips(game, scouted, chosen, stride):
        for clip in of_world:
            filling.add(clip)
    table = filled_table(filling.scores, filling.names, stride, shares)
    wanted = ("psnr_db", "excess_mse_removed")
    return {k: {name: {f: row[f] for f in wanted} for name, row in by.items()} for k, by in table.items()}
