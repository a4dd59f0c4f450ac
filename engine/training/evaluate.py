"""Quality against the reference on seeds that training never saw: `dreamcade evaluate GAME`.

    python -m engine.training.evaluate racing --seeds 1000000:1000008 --stride 4 --json [--report OUT]

Each seed is played by a scripted driver; the simulator's pictures are the truth. The models are those that
`play` would use (same backend, decoder, weights), with one random vector stream of a fixed seed.
EVALUATION.md defines every figure."""

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.backend import Backend, Opening, Step, load_backend
from engine.models.autoencoder import from_bytes
from engine.models.weights import WeightsError
from engine.training import measures
from games import GAMES, simulator

CONTEXT_STEPS = 16
ROLLOUT_STEPS = (1, 2, 4, 8, 15)
WARM_UP_FRAMES = 240
"""Played before anything is measured, so that not every clip shows a standing start."""


@dataclass(frozen=True)
class TrueClip:
    """One seed's truth at step boundaries. pictures uint8 [T, 480, 720, 3], classes uint8 [T, 480, 720],
    buttons [T, N] share held in the step that led there, telemetry [T, F] in units."""

    pictures: np.ndarray
    classes: np.ndarray
    buttons: np.ndarray
    telemetry: np.ndarray


@dataclass
class Figures:
    """Sums of squared errors and the like, per name, over all seeds."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, new: Tensor | float) -> None:
        self.values.setdefault(name, []).extend(new.flatten().tolist() if isinstance(new, Tensor) else [new])

    def mean(self, name: str) -> float | None:
        kept = [v for v in self.values.get(name, []) if v == v]
        return round(sum(kept) / len(kept), 3) if kept else None


def play_truth(game: str, seed: int, stride: int, steps: int) -> TrueClip:
    """The simulator under a driver: `steps` steps of `stride` frames after the warm-up."""
    module, bits = simulator(game), [int(b) for b in GAMES[game].buttons]
    seeds = torch.tensor([seed])
    world, drivers = module.World(seeds), module.Drivers(seeds)
    for _ in range(WARM_UP_FRAMES):
        world.step(drivers.act(world))
    rows = []
    for _ in range(steps):
        held = np.zeros(len(bits), np.float32)
        for _ in range(stride):
            buttons = drivers.act(world)
            world.step(buttons)
            held += [bool(int(buttons[0]) & bit) for bit in bits]
        picture, classes = world.render_classes()
        rows.append((picture[0].numpy(), classes[0].numpy(), held / stride, world.telemetry()[0].numpy()))
    return TrueClip(*(np.stack(column) for column in zip(*rows)))


class Evaluation:
    """Runs the models along true clips and gathers figures."""

    def __init__(self, game: str, backend: Backend, stride: int) -> None:
        self.game, self.stride = game, stride
        self.world, self.encoder, self.decoder = backend.world(), backend.encoder(), backend.decoder()
        self.figures = Figures()

    def run(self, seed: int, strip: Path | None = None) -> None:
        """One seed: reconstruction, next step, rollout."""
        clip = play_truth(self.game, seed, self.stride, CONTEXT_STEPS + max(ROLLOUT_STEPS))
        latents = self.encoder.encode(clip.pictures)
        true, ceiling = as_float(clip.pictures), self._decoded(latents)
        self._reconstruction(true, ceiling, clip.classes)
        opening = Opening(
            latents[:CONTEXT_STEPS],
            clip.buttons[:CONTEXT_STEPS],
            np.full(CONTEXT_STEPS, self.stride),
            clip.telemetry[:CONTEXT_STEPS],
        )
        expected = self.world.open(opening, noise_seed=0)
        self._next_step(true, expected)
        steps = [self.world.step(buttons, self.stride) for buttons in clip.buttons[CONTEXT_STEPS:]]
        dream = self._rollout(true, ceiling, steps, clip)
        if strip:
            save_strip(strip, clip.pictures[CONTEXT_STEPS:], dream, [n - 1 for n in ROLLOUT_STEPS])

    def _decoded(self, latents: np.ndarray) -> Tensor:
        return as_float(np.stack([self.decoder.decode(z) for z in latents]))

    def _reconstruction(self, true: Tensor, ceiling: Tensor, classes: np.ndarray) -> None:
        self.figures.add("autoencoder", measures.psnr(ceiling, true))
        for k, name in enumerate(GAMES[self.game].masks, start=1):
            self.figures.add(
                f"mask {name}", measures.masked_psnr(ceiling, true, torch.from_numpy(classes == k))
            )

    def _next_step(self, true: Tensor, expected: np.ndarray) -> None:
        """From true latents, the later half of the context, where the past is long enough."""
        first = CONTEXT_STEPS // 2
        made = self._decoded(expected[first - 1 :])
        following, before = true[first:CONTEXT_STEPS], true[first - 1 : CONTEXT_STEPS - 1]
        self.figures.add("next", measures.psnr(made, following))
        self.figures.add("next hold", measures.psnr(before, following))
        self.figures.add("next ssim", measures.ssim(made, following))

    def _rollout(self, true: Tensor, ceiling: Tensor, steps: list[Step], clip: TrueClip) -> np.ndarray:
        hold, names = true[CONTEXT_STEPS - 1], [f.name for f in GAMES[self.game].telemetry]
        pictures = np.stack([self.decoder.decode(step.latent) for step in steps])
        dream = as_float(pictures)
        for n in ROLLOUT_STEPS:
            at = CONTEXT_STEPS + n - 1
            self.figures.add(f"rollout {n}", measures.psnr(dream[n - 1 : n], true[at : at + 1]))
            self.figures.add(f"hold {n}", measures.psnr(hold[None], true[at : at + 1]))
            self.figures.add(f"ceiling {n}", measures.psnr(ceiling[at : at + 1], true[at : at + 1]))
            for i, name in enumerate(names):
                self.figures.add(
                    f"telemetry {name} {n}", abs(float(steps[n - 1].telemetry[i] - clip.telemetry[at, i]))
                )
        self.figures.add("sharp dream", measures.gradient_energy(dream[-1:]))
        self.figures.add("sharp true", measures.gradient_energy(true[-1:]))
        return pictures


def as_float(pictures: np.ndarray) -> Tensor:
    return from_bytes(torch.from_numpy(pictures))


def save_strip(path: Path, true: np.ndarray, dream: np.ndarray, at: list[int]) -> None:
    """A PNG: the reference above, the dream below, at the given steps."""
    try:
        from PIL import Image
    except ImportError:
        raise SystemExit("dreamcade: error: --report needs pillow: pip install 'dreamcade[train]'") from None
    rows = [np.concatenate([half[i][::2, ::2] for i in at], axis=1) for half in (true, dream)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path)


def as_json(game: str, seeds: range, stride: int, backend: Backend, figures: Figures) -> dict[str, Any]:
    """design.md's fields; those that are not measured yet are null."""
    mean = figures.mean
    sharp_dream, sharp_true = mean("sharp dream"), mean("sharp true")
    seconds = f"{ROLLOUT_STEPS[-1] * stride / 60:g}"
    return {
        "game": game,
        "seeds": f"{seeds.start}:{seeds.stop}",
        "stride": stride,
        "backend": backend.name,
        "decoder": backend.decoder_name,
        "weights": backend.weights_id,
        "autoencoder_psnr_db": {backend.decoder_name: mean("autoencoder")},
        "autoencoder_mask_psnr_db": {name: mean(f"mask {name}") for name in GAMES[game].masks},
        "next_step_psnr_db": mean("next"),
        "next_step_hold_psnr_db": mean("next hold"),
        "next_step_ssim": mean("next ssim"),
        "rollout_psnr_db": {str(n): mean(f"rollout {n}") for n in ROLLOUT_STEPS},
        "hold_psnr_db": {str(n): mean(f"hold {n}") for n in ROLLOUT_STEPS},
        "ceiling_psnr_db": {str(n): mean(f"ceiling {n}") for n in ROLLOUT_STEPS},
        "sharpness_ratio": {
            seconds: round(sharp_dream / sharp_true, 3) if sharp_dream and sharp_true else None
        },
        "telemetry_error": {
            f.name: {str(n): mean(f"telemetry {f.name} {n}") for n in (1, ROLLOUT_STEPS[-1])}
            for f in GAMES[game].telemetry
        },
        "action_accuracy": None,
        "action_accuracy_ratio_min": None,
        "probe_error": None,
        "filled": None,
        "long_play": None,
    }


def print_table(result: dict[str, Any]) -> None:
    for name, value in result.items():
        if value is not None:
            text = "  ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            print(f"{name:26} {text}", file=sys.stderr)


def parse_seeds(text: str) -> range:
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last) < 2**31):
        raise argparse.ArgumentTypeError(f"seeds {text!r}: write A:B with A < B, for example 1000000:1000008")
    return range(int(first), int(last))


def main() -> None:
    parser = argparse.ArgumentParser(prog="dreamcade evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument(
        "--seeds", type=parse_seeds, default=range(1_000_000, 1_000_008), help="A:B, B not included"
    )
    parser.add_argument("--stride", type=int, default=4, choices=range(1, 9))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--weights", help="a directory instead of the shipped weights")
    parser.add_argument("--report", type=Path, help="write pictures there: reference above, dream below")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    try:
        backend = load_backend(
            args.game, device=args.device, roles=("world", "decoder", "encoder"), weights=args.weights
        )
        evaluation = Evaluation(args.game, backend, args.stride)
    except WeightsError as error:
        raise SystemExit(f"dreamcade: error: {error}") from None
    for seed in args.seeds:
        evaluation.run(seed, args.report / f"{args.game}-{seed}.png" if args.report else None)
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    result = as_json(args.game, args.seeds, args.stride, backend, evaluation.figures)
    print_table(result)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
