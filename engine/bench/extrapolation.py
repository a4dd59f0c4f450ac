"""Extrapolation against the simulator's own frames, estimator by estimator: `dreamcade bench extrapolation`.

    python -m engine.bench.extrapolation [racing] [--stride 4] [--clips 24] [--json]

Estimators whose names end in _draft fill in between the newest true latent and the next one; `played` has it
where play would have it, see engine/training/filled.py.

Per frame ahead (1 to 2 x stride) and case (steady motion, buttons changing, events): PSNR, SSIM, and the
share of hold's excess squared error that is removed, excess over decode(encode(truth)). Then each estimator's
cost, the seam (the change from the last filled frame to the next true one, over the change between true
frames, averaged over the clips; in JSON also pooled over them), and frames from a key to the first changed
pixel, with the learned extrapolator and without. Seeds are held out."""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.backend import Backend, FrameDecoder, load_backend
from engine.models.weights import SHIPPED, WeightsError
from engine.training.clips import CASES, Clip, choose, chosen_clips, scout
from engine.training.filled import OLD_BUTTONS, Fill, Filling, Scores, filled_table
from games import GAMES, TRAIN_SEEDS

CHANGED_LEVELS, CHANGED_PIXELS = 8, 100
"""A picture has visibly changed where so many pixels differ by so many of 256 levels."""
_KEY_CLIPS = 4


def key_to_pixel(filling: Filling, clips: list[Clip]) -> dict[str, float | None]:
    """Frames from a key to the first changed picture, mean over buttons and over the key's frame in the step.

    A key of frame t + j: without extrapolation that sees it, the next true step's frame, t + s, shows it
    first (if that step's window still takes it); with it, the first filled frame from j on that differs."""
    fill = filling.estimators.get("learned")
    waits, seen = [], []
    for clip in clips:
        s = clip.stride
        latents = filling.encoder.encode(clip.pictures[:3])
        for button in range(clip.buttons.shape[1]):
            pressed = clip.buttons[0].copy()
            pressed[button] = 1 - pressed[button]
            first = s  # the true frame at the latest
            if fill:
                first = first_change(filling.decoder, fill, latents, clip, pressed)
            for j in range(1, s + 1):
                waits.append(s - j + 1)
                seen.append(max(first, j) - j + 1)
    without = round(statistics.fmean(waits), 2) if waits else None
    return {"without": without, "with": round(statistics.fmean(seen), 2) if fill and seen else None}


def first_change(
    decoder: FrameDecoder, fill: Fill, latents: np.ndarray, clip: Clip, pressed: np.ndarray
) -> int:
    """Frames ahead of the first filled frame that visibly differs under `pressed`, else the true one's."""
    for ahead in range(1, clip.stride):
        pair = (fill(latents, clip.times, b, float(ahead)) for b in (clip.buttons[0], pressed))
        if visibly_different(*(decoder.decode(z) for z in pair)):
            return ahead
    return clip.stride


def visibly_different(a: np.ndarray, b: np.ndarray) -> bool:
    """uint8 [480, 720, 3] each."""
    apart = np.abs(a.astype(np.int16) - b).max(-1) >= CHANGED_LEVELS
    return int(apart.sum()) >= CHANGED_PIXELS


def measure(
    game: str, backend: Backend, directory: Path, seeds: range, stride: int, clips: int, frames: int
) -> dict[str, Any]:
    """The benchmark of one game."""
    quota = {"steady": clips, "buttons": clips, "events": max(1, clips // 2)}
    scouted = scout(game, seeds, frames)
    chosen, shares = choose(scouted, stride, quota)
    filling, tried = Filling(backend, directory), []
    for world, of_world in chosen_clips(game, scouted, chosen, stride):
        for clip in of_world:
            filling.add(clip)
            tried.append(clip)
        print(f"{game}: seed {seeds[world]} done", file=sys.stderr, flush=True)
    return as_json(game, filling, stride, shares) | {
        "seeds": f"{seeds.start}:{seeds.stop}",
        "backend": backend.name,
        "weights": backend.weights_id,
        "key_to_pixel_frames": key_to_pixel(filling, tried[:: -(-len(tried) // _KEY_CLIPS)]),
    }


def as_json(game: str, filling: Filling, stride: int, shares: dict[str, float]) -> dict[str, Any]:
    scores, names = filling.scores, [*filling.names, OLD_BUTTONS]
    if "learned" not in filling.estimators:
        names.remove(OLD_BUTTONS)
    return {
        "game": game,
        "stride": stride,
        "case_shares": shares,
        "clips": {case: len(scores.errors.get((case, stride, "hold"), [])) for case in CASES},
        "cases": {case: filled_table(scores, ["ceiling", *names], stride, {case: 1.0}) for case in CASES},
        "removed": {case: removed(scores, names, stride, {case: 1.0}) for case in CASES},
        "as_played": filled_table(scores, ["ceiling", *filling.names], stride, shares),
        "seam_ratio": {name: round(mean_of_ratios(v), 3) for name, v in scores.seams.items()},
        "seam_ratio_pooled": {name: round(ratio_of_means(v), 3) for name, v in scores.seams.items()},
        "cost_ms": {name: round(statistics.median(v), 3) for name, v in scores.took_ms.items()},
    }


def ratio_of_means(seams: list[tuple[float, float]]) -> float:
    """Jumps over changes, all clips together: one that hardly moves counts for little."""
    return sum(jump for jump, _ in seams) / max(sum(change for _, change in seams), 1e-9)


def mean_of_ratios(seams: list[tuple[float, float]]) -> float:
    """Each clip's own ratio counts alike: where a picture stands still, the decoder's rounding decides it."""
    return statistics.fmean(jump / max(change, 1e-3) for jump, change in seams)


def removed(scores: Scores, names: list[str], stride: int, weights: dict[str, float]) -> dict[str, Any]:
    """Share of hold's excess removed, errors pooled over the frames up to the next true one, and up to where
    a late step may lead."""
    out = {}
    for name in names:
        row = {}
        for label, aheads in (("between", range(1, stride)), ("late", range(stride, 2 * stride + 1))):
            known = [k for k in aheads if any((case, k, name) in scores.errors for case in weights)]
            own, held = (sum(scores.excess(n, k, weights) for k in known) for n in (name, "hold"))
            row[label] = round(1 - own / held, 3) if held > 1e-7 else None
        out[name] = row
    return out


def print_table(result: dict[str, Any]) -> None:
    stride, names = result["stride"], list(result["cost_ms"])
    print(
        f"\n{result['game']}, stride {stride}, {result['backend']}; clips {result['clips']}, "
        f"as played {result['case_shares']}"
    )
    for case in CASES:
        table = result["cases"][case]
        print(f"{case}: PSNR in dB, share of hold's excess error removed, by frames ahead")
        print(f"  {'':20}" + "".join(f"{k:>14}" for k in table) + f"{'SSIM +' + str(stride):>9}")
        for name in ["ceiling", *names]:
            cells = "".join(_cell(row.get(name, {})) for row in table.values())
            similar = table[str(stride)].get(name, {}).get("ssim")
            print(f"  {name:20}{cells}{similar if similar is not None else '':>9}")
    print(
        f"  {'':20}{'cost ms':>10}{'seam':>8}{'steady':>9}{'buttons':>9}{'events':>9}"
        "   (removed before the next true frame)"
    )
    for name in names:
        shares = "".join(f"{_percent(result['removed'][case][name]['between']):>9}" for case in CASES)
        seam = result["seam_ratio"].get(name, float("nan"))
        print(f"  {name:20}{result['cost_ms'][name]:10.2f}{seam:8.2f}{shares}")
    keys = result["key_to_pixel_frames"]
    print(
        f"  key to first changed pixel: {keys['without']} frames without, "
        f"{keys['with']} with the learned extrapolator"
    )


def _cell(figures: dict[str, float | None]) -> str:
    psnr = figures.get("psnr_db")
    return f"{'-':>14}" if psnr is None else f"{psnr:7.2f}{_percent(figures['excess_mse_removed']):>7}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="dreamcade bench extrapolation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("game", nargs="?", choices=tuple(GAMES), help="one game; both if left out")
    parser.add_argument("--stride", type=int, default=4, choices=range(2, 9))
    parser.add_argument(
        "--clips", type=int, default=12, help="of steady motion and of changing buttons; events half"
    )
    parser.add_argument("--seeds", type=int, default=16, help="held-out seeds that clips are taken from")
    parser.add_argument("--frames", type=int, default=900, help="of each seed, in which clips are looked for")
    parser.add_argument("--first-seed", type=int, default=TRAIN_SEEDS.stop)
    parser.add_argument("--weights", type=Path, help="a directory instead of the shipped weights")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = {}
    for game in [args.game] if args.game else list(GAMES):
        directory = args.weights or SHIPPED / game
        try:
            backend = load_backend(
                game, device=args.device, roles=("decoder", "encoder"), threads=args.threads,
                weights=str(directory),
            )  # fmt: skip
            seeds = range(args.first_seed, args.first_seed + args.seeds)
            results[game] = measure(game, backend, directory, seeds, args.stride, args.clips, args.frames)
        except WeightsError as error:
            raise SystemExit(f"dreamcade: error: {error}") from None
        print_table(results[game])
    if args.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
