"""The world model's part of stage `quantise`: ranges of its products' inputs, and whether a dream in int8
keeps its quality. What is measured here stands in int8.json beside the ranges."""

import sys
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch

from engine.backend import Opening
from engine.bench.timing import timed
from engine.fast.dream import Dream
from engine.fast.openvino_backend import OpenVinoBackend, OpenVinoStep
from engine.fast.openvino_decoder import Ranges
from engine.fast.openvino_export import traced
from engine.fast.openvino_int8 import exact, observed, quantised
from engine.models.autoencoder import from_bytes
from engine.models.weights import load_part
from engine.training import measures
from engine.training.evaluation.judge import judge as judge_play
from engine.training.evaluation.long_play import begin, dream
from engine.training.evaluation.truth import CONTEXT_STEPS, play_truth
from games import TRAIN_SEEDS

MOST_LOSS_DB = 0.3
MOST_ASTRAY = 1.2
"""After long dreams its latents may be so many times as far astray as those of the float dreams, and their
spread so many times smaller: means over all judged seeds, as where one dream ends is a matter of luck. One
that cannot be measured refuses the world."""
LONG_STEPS = 2000
STRIDE = 4
_DREAMED_STEPS = 40
TAILS = (0.0, 1e-5, 1e-4, 1e-3)
"""Shares of the rarest values that may be cut off on either side."""
_WORTH = 0.98
SPARED = 0.5
"""A kind of product that makes more than this share of all the error stays in floating point: what is a small
error at one step is made anew at every step, and leads a dream of minutes astray."""
Found = dict[str, list[tuple[float, float]]]


class WorldTrial:
    """Compiles worlds with given ranges; compares their next latents with the float world's."""

    def __init__(self, game: str, directory: Path, backend: OpenVinoBackend, openings: list[Opening]) -> None:
        self.game, self.backend, self.openings = game, backend, openings
        self.graph = traced(load_part(directory, "world"), backend.config, "world")  # tracing takes long
        self.core = openvino.Core()
        self.wanted = self.expected(self.dream({}, INFERENCE_PRECISION_HINT="f32"))

    def dream(self, ranges: Ranges, **changed: Any) -> Dream:
        graph = quantised(self.graph.clone(), ranges)
        compiled = self.core.compile_model(graph, "CPU", self.backend.settings | exact() | changed)
        return Dream(self.game, self.backend.config.world, OpenVinoStep(compiled))

    def expected(self, world: Dream) -> np.ndarray:
        """The next latents after every opening's steps, [openings, T - 1, C, h, w]."""
        return np.stack([world.open(opening, noise_seed=0) for opening in self.openings])

    def error(self, ranges: Ranges) -> float:
        return float(np.square(self.expected(self.dream(ranges)) - self.wanted).mean())

    def candidates(self, buttons: list[np.ndarray]) -> Found:
        """What goes into each product while the model dreams on from the openings with these buttons."""
        graph, names = observed(self.graph.clone())
        request = self.core.compile_model(
            graph, "CPU", self.backend.settings | {"INFERENCE_PRECISION_HINT": "f32"}
        ).create_infer_request()
        random, seen = np.random.default_rng(0), {name: [] for name in names}  # type: ignore[var-annotated]

        def run(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            results = request.infer(arrays)
            for number, name in enumerate(names, start=3):
                values = results[number].ravel()
                seen[name].append(np.append(random.choice(values, 3000), [values.min(), values.max()]))
            made, telemetry, entries = (np.array(results[i]) for i in range(3))
            return made, telemetry, entries

        world = Dream(self.game, self.backend.config.world, run)
        for opening, held in zip(self.openings, buttons):
            world.open(opening, noise_seed=0)
            for share in held:
                world.step(share, STRIDE)
        return {name: cuts(np.concatenate(parts)) for name, parts in seen.items()}


def cuts(values: np.ndarray) -> list[tuple[float, float]]:
    """The whole range, and what is left of it without its rarest values."""
    return [(float(low), float(high)) for low, high in (np.quantile(values, (t, 1 - t)) for t in TAILS)]


def search(trial: WorldTrial, found: Found) -> tuple[Ranges, float]:
    """One cut for each kind of product (all layers' alike), and the error left."""
    kinds = sorted({kind(name) for name in found})
    starts = [dict.fromkeys(kinds, way) for way in range(len(TAILS))]

    def ranges(ways: dict[str, int]) -> Ranges:
        return {name: ends[ways[kind(name)]] for name, ends in found.items()}

    least, ways = min(((trial.error(ranges(start)), start) for start in starts), key=lambda one: one[0])
    for name in kinds:
        for way in range(len(TAILS)):
            changed = {**ways, name: way}
            if changed != ways and (error := trial.error(ranges(changed))) < _WORTH * least:
                least, ways = error, changed
        print(f"{name}: latent error {least:.5f}", file=sys.stderr, flush=True)
    return ranges(ways), least


def without_worst_kind(trial: WorldTrial, ranges: Ranges, error: float) -> tuple[Ranges, list[str]]:
    """Without the kind of product that makes most of the error, if one does; and which it is."""
    rest = {one: {n: ends for n, ends in ranges.items() if kind(n) != one} for one in map(kind, ranges)}
    least, one = min((trial.error(other), one) for one, other in rest.items())
    if error - least < SPARED * error:
        return ranges, []
    print(f"without {one}: latent error {least:.5f}", file=sys.stderr, flush=True)
    return rest[one], [one]


def kind(name: str) -> str:
    """blocks.3.space.qkv -> space.qkv"""
    return name.partition(".")[2].partition(".")[2] or name


@dataclass(frozen=True)
class WorldVerdict:
    """Float and int8, in this order: next step's PSNR in dB on held-out seeds; after LONG_STEPS of dream on
    each of them how far latents are astray and how much tokens differ, see EVALUATION.md; ms a step."""

    next_db: tuple[float, float]
    astray: tuple[float, float]
    spread: tuple[float, float]
    step_ms: tuple[float, float]

    @property
    def good(self) -> bool:
        kept = self.astray[1] < MOST_ASTRAY * self.astray[0] and self.spread[1] > self.spread[0] / MOST_ASTRAY
        return self.next_db[0] - self.next_db[1] < MOST_LOSS_DB and kept


def played(game: str, backend: OpenVinoBackend, seeds: range) -> tuple[list[Opening], list[np.ndarray], Any]:
    """Openings, the buttons after them, and the openings' true pictures."""
    encoder, openings, buttons, pictures = backend.encoder(), [], [], []
    for seed in seeds:
        clip = play_truth(game, seed, STRIDE, _DREAMED_STEPS, ())
        pictures.append(np.stack([clip.pictures[t] for t in range(CONTEXT_STEPS)]))
        openings.append(clip.opening(encoder.encode(pictures[-1]), STRIDE))
        buttons.append(clip.buttons[CONTEXT_STEPS:])
    return openings, buttons, pictures


def judge(trial: WorldTrial, ranges: Ranges, seeds: range, long_steps: int) -> WorldVerdict:
    """On held-out seeds."""
    encoder, decoder = trial.backend.encoder(), trial.backend.decoder()
    openings, buttons, pictures = played(trial.game, trial.backend, seeds)
    worlds = [trial.dream({}), trial.dream(ranges)]
    starts = [begin(trial.game, seed, STRIDE, encoder) for seed in seeds]
    next_db, astray, spread = [], [], []
    for world in worlds:
        values = []
        for opening, true in zip(openings, pictures):
            expected = world.open(opening, noise_seed=0)[CONTEXT_STEPS // 2 - 1 :]
            made = from_bytes(torch.from_numpy(np.stack([decoder.decode(z) for z in expected])))
            values.append(measures.psnr(made, from_bytes(torch.from_numpy(true[CONTEXT_STEPS // 2 :]))))
        next_db.append(float(torch.cat(values).mean()))
        plays = [
            judge_play(dream(trial.game, start, STRIDE, long_steps, world, encoder, decoder), None)
            for start in starts
        ]
        astray.append(float(np.mean([play.astray_last or nan for play in plays])))
        spread.append(float(np.mean([play.spread_last or nan for play in plays])))
    wide, narrow = worlds
    held = buttons[0][0]
    took = timed({0: lambda: wide.step(held, STRIDE), 1: lambda: narrow.step(held, STRIDE)}, "cpu", 40)
    return WorldVerdict(
        (next_db[0], next_db[1]),
        (astray[0], astray[1]),
        (spread[0], spread[1]),
        (took[0].median_ms, took[1].median_ms),
    )


def calibrate(
    game: str, directory: Path, backend: OpenVinoBackend, long_steps: int
) -> tuple[Ranges, list[str], WorldVerdict]:
    """The whole of it: ranges, the kinds of products that stay in floating point, and what came out. Raises
    WeightsError."""
    openings, buttons, _ = played(game, backend, range(TRAIN_SEEDS.start, TRAIN_SEEDS.start + 3))
    trial = WorldTrial(game, directory, backend, openings)
    ranges, left_out = without_worst_kind(trial, *search(trial, trial.candidates(buttons)))
    return ranges, left_out, judge(trial, ranges, range(TRAIN_SEEDS.stop, TRAIN_SEEDS.stop + 4), long_steps)
