"""Stage `quantise`: how wide activations are, so that a player's CPU can decode and dream in int8.

    python -m engine.training.quantise racing [--weights DIR] [--parts decoder world] [--json]

Runs on two CPU cores in a few minutes, after every `pack` (the decoder's also when only the world is new):
it writes int8.json beside the weights, which names the weights it belongs to. Ranges are measured on latents
that the world model dreamed on training seeds and on encoded pictures, then tried one convolution after the
other: of a few ways to cut off rare values, the one whose pictures stay closest to the float decoder's. A
part is accepted only if on held-out seeds decode(encode(x)) (world: the next step) loses less than 0.3 dB,
and a world only if dreams of 2,000 steps go on average at most 1.2 times as far astray; otherwise nothing is
written and the engine stays with floating point. A CPU without VNNI can run it too, see `exact`; it times
nothing."""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch

from engine.backend import Backend
from engine.bench.timing import timed
from engine.fast.int8_ranges import INT8_PARTS, OVERFLOWING, Calibration, forget, measured_weights, store
from engine.fast.openvino_backend import OpenVinoBackend, OpenVinoDecoder
from engine.fast.openvino_decoder import Ranges, decoder_graph, observed_graph
from engine.fast.openvino_int8 import exact
from engine.machine import HELD_TO_AVX2
from engine.models.autoencoder import Decoder, from_bytes
from engine.models.weights import SHIPPED, load_part
from engine.training import measures
from engine.training.command import errors_said
from engine.training.evaluation.truth import CONTEXT_STEPS, play_truth
from engine.training.quantise_world import LONG_STEPS, MOST_LOSS_DB, STRIDE, TAILS, calibrate
from engine.without import VARIABLE
from games import GAMES, TRAIN_SEEDS

MOST_SPARED = 0.3
"""Share of a decode's products that may stay in floating point, should int8 cost more than that."""
_DREAMED_STEPS = 60
_TRIED_LATENTS, _JUDGED_LATENTS = 56, 14
_HELD = " ".join(f"{name}={value}" for name, value in HELD_TO_AVX2.items())
_WORTH = 0.995
"""A change is made if the error falls below this share of what it was."""


def dreamed_latents(game: str, backend: Backend, seeds: range) -> np.ndarray:
    """Latents [K, C, h, w] of the context's pictures and of a minute's dream in all, a driver's buttons."""
    world, encoder, made = backend.world(), backend.encoder(), []
    for seed in seeds:
        clip = play_truth(game, seed, STRIDE, _DREAMED_STEPS, ())
        latents = encoder.encode(np.stack([clip.pictures[t] for t in range(CONTEXT_STEPS)]))
        made.append(latents[::4])
        world.open(clip.opening(latents, STRIDE), noise_seed=0)
        made.append(np.stack([world.step(b, STRIDE).latent for b in clip.buttons[CONTEXT_STEPS:]]))
    return np.concatenate(made)


class DecoderTrial:
    """Compiles decoders with given ranges and compares their pictures with the float decoder's."""

    def __init__(
        self, decoder: Decoder, backend: OpenVinoBackend, latents: np.ndarray, overflowing: bool = False
    ) -> None:
        self.decoder, self.backend, self.latents = decoder, backend, latents
        self.rounding = {} if overflowing else exact()
        self.rows, self.columns = latents.shape[2:]
        self.core = openvino.Core()
        self.wanted = self.pictures(self.compiled({}, INFERENCE_PRECISION_HINT="f32"))

    def compiled(self, ranges: Ranges, **changed: Any) -> OpenVinoDecoder:
        graph = decoder_graph(self.decoder, self.rows, self.columns, ranges)
        settings = self.backend.settings | self.rounding | changed
        return OpenVinoDecoder(self.core.compile_model(graph, "CPU", settings))

    def pictures(self, decoder: OpenVinoDecoder) -> np.ndarray:
        return np.stack([decoder.decode(z) for z in self.latents])

    def error(self, ranges: Ranges) -> float:
        """Mean squared, in levels of 256."""
        made = self.pictures(self.compiled(ranges))
        return float(np.mean([np.square(a.astype(np.float32) - b).mean() for a, b in zip(made, self.wanted)]))


def candidates(decoder: Decoder, latents: np.ndarray) -> dict[str, list[tuple[float, float]]]:
    """For every convolution's input, the whole range and what is left of it without its rarest values."""
    graph, names = observed_graph(decoder, *latents.shape[2:])
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    random, seen = np.random.default_rng(0), {name: [] for name in names}  # type: ignore[var-annotated]
    for latent in latents:
        results = compiled([latent[None]])
        for number, name in enumerate(names, start=1):
            values = results[number].ravel()
            some = random.choice(values, min(20_000, len(values)), replace=False)
            seen[name].append(np.concatenate((some, [values.min(), values.max()])))
    made = {}
    for name, parts in seen.items():
        values = np.concatenate(parts)
        cut = [np.quantile(values, (tail, 1 - tail)) for tail in TAILS]
        ends = [(float(low), float(high)) for low, high in cut]
        low, high = ends[0]
        made[name] = [*ends, (low * 0.93, high), (low, high * 0.93)]
    return made


def search(trial: DecoderTrial, found: dict[str, list[tuple[float, float]]]) -> tuple[Ranges, float]:
    """The best of the candidates for each convolution, from the pixels backwards; and the error left."""
    starts = [{name: ends[way] for name, ends in found.items()} for way in range(len(TAILS))]
    least, ranges = min(((trial.error(start), start) for start in starts), key=lambda one: one[0])
    for name in reversed(list(found)):
        for ends in found[name]:
            changed = {**ranges, name: ends}
            if ends != ranges[name] and (error := trial.error(changed)) < _WORTH * least:
                least, ranges = error, changed
        print(f"{name}: {least:.2f} levels^2", file=sys.stderr, flush=True)
    return ranges, least


@dataclass(frozen=True)
class Verdict:
    """PSNR of decode(encode(x)) in dB, and one decode in milliseconds, in one run."""

    float_db: float
    int8_db: float
    float_ms: float
    int8_ms: float

    @property
    def loss_db(self) -> float:
        return self.float_db - self.int8_db


def work(decoder: Decoder, rows: int, columns: int) -> dict[str, float]:
    """Each convolution's share of a decode's products."""
    graph, names = observed_graph(decoder, rows, columns)
    places = [output.shape[2] * output.shape[3] for output in graph.outputs[1:]]
    found = {n: k * decoder.get_parameter(f"{n}.weight").numel() for n, k in zip(names, places)}
    return {name: products / sum(found.values()) for name, products in found.items()}


def spared(trial: DecoderTrial, ranges: Ranges) -> Ranges:
    """Without the ranges of the convolution that is best left in floating point: the one whose error falls
    most for the products it has."""
    shares, whole = work(trial.decoder, trial.rows, trial.columns), trial.error(ranges)

    def without(name: str) -> Ranges:
        return {other: ends for other, ends in ranges.items() if other != name}

    best = max(ranges, key=lambda name: (whole - trial.error(without(name))) / shares[name])
    return without(best)


Pair = tuple[np.ndarray, np.ndarray]
"""uint8 pictures [T, 480, 720, 3] and their latents [T, C, h, w]."""


def true_pairs(backend: OpenVinoBackend, game: str, seeds: range) -> list[Pair]:
    """The simulator's own pictures."""
    encoder, pairs = backend.encoder(), []
    for seed in seeds:
        clip = play_truth(game, seed, STRIDE, 1, ())
        pictures = np.stack([clip.pictures[t] for t in range(CONTEXT_STEPS)])
        pairs.append((pictures, encoder.encode(pictures)))
    return pairs


def judge(trial: DecoderTrial, ranges: Ranges, pairs: list[Pair]) -> Verdict:
    """Against the simulator's own pictures."""
    wide, narrow = trial.compiled({}), trial.compiled(ranges)
    found: dict[str, list[torch.Tensor]] = {"wide": [], "narrow": []}
    for pictures, latents in pairs:
        true = from_bytes(torch.from_numpy(pictures))
        for name, decoder in (("wide", wide), ("narrow", narrow)):
            made = np.stack([decoder.decode(z) for z in latents])
            found[name].append(measures.psnr(from_bytes(torch.from_numpy(made)), true))
    z = trial.latents[0]
    took = timed({"wide": lambda: wide.decode(z), "narrow": lambda: narrow.decode(z)}, "cpu", 60)
    wide_db, narrow_db = (float(torch.cat(found[name]).mean()) for name in ("wide", "narrow"))
    return Verdict(wide_db, narrow_db, took["wide"].median_ms, took["narrow"].median_ms)


def quantise_decoder(
    game: str,
    directory: Path,
    backend: OpenVinoBackend,
    most_loss_db: float = MOST_LOSS_DB,
    overflowing: bool = False,
) -> dict[str, Any]:
    """Measure, search, judge; write int8.json if it is good. overflowing: as this CPU, which has no VNNI,
    computes it."""
    decoder = load_part(directory, "decoder")
    assert isinstance(decoder, Decoder)
    first = TRAIN_SEEDS.start
    latents = dreamed_latents(game, backend, range(first, first + 4))
    tried = latents[:: max(1, len(latents) // _TRIED_LATENTS)]
    judged = tried[:: max(1, len(tried) // _JUDGED_LATENTS)]
    trial = DecoderTrial(decoder, backend, judged, overflowing)
    ranges, error = search(trial, candidates(decoder, tried))
    pairs = true_pairs(backend, game, range(TRAIN_SEEDS.stop, TRAIN_SEEDS.stop + 8))
    verdict, whole = judge(trial, ranges, pairs), set(ranges)
    shares = work(decoder, trial.rows, trial.columns)
    while verdict.loss_db >= most_loss_db and sum(shares[name] for name in whole - set(ranges)) < MOST_SPARED:
        ranges = spared(trial, ranges)
        verdict, error = judge(trial, ranges, pairs), trial.error(ranges)
        print(f"without {', '.join(sorted(whole - set(ranges)))}: {verdict}", file=sys.stderr, flush=True)
    facts = {
        "error_levels2": round(error, 3),
        "in_float": sorted(whole - set(ranges)),
        "psnr_db": {"float": round(verdict.float_db, 3), "int8": round(verdict.int8_db, 3)},
    }
    if not trial.rounding:  # else int8 is only imitated
        took = {backend.name: round(verdict.float_ms, 2), "int8": round(verdict.int8_ms, 2)}
        facts["decode_ms"] = took
    name = "decoder" + OVERFLOWING * overflowing
    return settled(directory, name, ranges, facts, verdict.loss_db < most_loss_db)


def quantise_world(game: str, directory: Path, backend: OpenVinoBackend, long_steps: int) -> dict[str, Any]:
    """The same for the world model."""
    ranges, left_out, verdict = calibrate(game, directory, backend, long_steps)

    def pair(values: tuple[float, float], first: str = "float") -> dict[str, float]:
        return {first: round(values[0], 3), "int8": round(values[1], 3)}

    facts: dict[str, Any] = {
        "in_float": left_out,
        "next_step_psnr_db": pair(verdict.next_db),
        "long_steps": long_steps,
        "astray_last": pair(verdict.astray),
        "spread_last": pair(verdict.spread),
    }
    if not exact():
        facts["step_ms"] = pair(verdict.step_ms, backend.name)
    return settled(directory, "world", ranges, facts, verdict.good)


def settled(directory: Path, part: str, ranges: Ranges, facts: dict[str, Any], good: bool) -> dict[str, Any]:
    """Kept if it is good; otherwise what may be there of other weights goes too."""
    if good:
        store(directory, part, Calibration(measured_weights(directory, part), dict(ranges), facts))
    else:
        forget(directory, part)
    return {"accepted": good, **facts}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("game", choices=tuple(GAMES))
    made.add_argument("--weights", type=Path, help="a directory instead of the shipped weights")
    made.add_argument("--parts", nargs="+", choices=INT8_PARTS, default=INT8_PARTS)
    made.add_argument(
        "--most-loss",
        type=float,
        default=MOST_LOSS_DB,
        metavar="DB",
        help="that the decoder may lose by int8: convolutions stay in floating point until it does not",
    )
    made.add_argument("--long-steps", type=int, default=LONG_STEPS, help="of the world's long dream")
    made.add_argument("--threads", type=int, default=2)
    made.add_argument(
        "--overflowing",
        action="store_true",
        help=f"the decoder as a CPU with AVX2 alone computes it; run it on one, or with {_HELD}",
    )
    made.add_argument("--json", action="store_true", help="end with one JSON line")
    return made


def main() -> None:
    options = parser()
    args = options.parse_args()
    if args.most_loss <= 0:
        options.error("--most-loss is more than 0")
    if args.overflowing and not exact():
        options.error(f"--overflowing: this CPU has VNNI, where nothing overflows; hold it back by {_HELD}")
    torch.set_num_threads(args.threads)
    os.environ[VARIABLE] = "int8"  # what is there already has no say
    began, directory = time.monotonic(), args.weights or SHIPPED / args.game
    result: dict[str, Any] = {"game": args.game, "threads": args.threads}
    with errors_said():
        backend = OpenVinoBackend(args.game, directory, args.threads)
        for part in ("decoder",) if args.overflowing else args.parts:
            if part == "decoder":
                result[part] = quantise_decoder(
                    args.game, directory, backend, args.most_loss, args.overflowing
                )
            else:
                result[part] = quantise_world(args.game, directory, backend, args.long_steps)
            said = "accepted" if result[part]["accepted"] else "refused, it stays in floating point"
            print(f"{args.game} {part}: {said}; {result[part]}")
    result["minutes"] = round((time.monotonic() - began) / 60, 1)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
