"""What extrapolation, drafts, OpenVINO and int8 each give, in one run: `dreamcade bench ablation`.

    python -m engine.bench.ablation racing [--seconds 15] [--rounds 2] [--json]

Plays the whole real path, headless and by autopilot, with everything on and with one of them switched off
(DREAMCADE_WITHOUT), in turns so that a machine's drift meets all alike; medians over the rounds. Beside the
rates, the PSNR of what is shown between two true frames, true and filled, against the simulator's own
pictures on held-out seeds; without extrapolation the last true frame stands still. Without OpenVINO there is
no int8 either. Ends with one JSON line."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

import torch

from engine.backend import load_backend
from engine.models.weights import SHIPPED, WeightsError
from engine.training.clips import Clip, choose, chosen_clips, scout
from engine.training.filled import PLAYED, Filling
from engine.without import VARIABLE
from games import GAMES, TRAIN_SEEDS

WAYS = {
    "everything on": "",
    "no extrapolation": "extrapolation",
    "no drafts": "drafts",
    "no int8": "int8",
    "no OpenVINO": "openvino",
}
COLUMNS = {
    "shown_fps": "shown FPS",
    "true_steps_per_s": "steps/s",
    "real_time_factor": "real time",
    "input_to_present_p50_ms": "key>shown",
    "input_to_true_p50_ms": "key>true",
    "engine_ms_per_shown_frame": "ms/frame",
    "shown_psnr_db": "PSNR dB",
}
STRIDE = 4
_SEED = TRAIN_SEEDS.stop + 1
_FRAMES = 480


def play(game: str, seconds: float, off: str) -> dict[str, Any]:
    """The JSON of one play. Raises SystemExit with its error."""
    command = [sys.executable, "-m", "client.cli", "play", game, "--headless", "--autopilot", "--json"]
    command += ["--seconds", str(seconds), "--seed", str(_SEED)]
    done = subprocess.run(command, env=os.environ | {VARIABLE: off}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip() or f"dreamcade play ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def rates(plays: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the plays' figures."""

    def median(*keys: str) -> float | None:
        values = []
        for one in plays:
            value: Any = one
            for key in keys:
                value = value[key]
            values.append(value)
        known = [value for value in values if value is not None]
        return round(statistics.median(known), 3) if known else None

    return {
        "backend": plays[0]["backend"],
        "stride": plays[-1]["stride"],
        "shown_fps": median("shown_fps"),
        "true_steps_per_s": median("true_steps_per_s"),
        "real_time_factor": median("real_time_factor"),
        "input_to_present_p50_ms": median("input_to_present_ms", "p50"),
        "input_to_true_p50_ms": median("input_to_true_ms", "p50"),
        "engine_ms_per_shown_frame": median("engine_ms_per_shown_frame"),
    }


def true_clips(game: str, clips: int) -> list[tuple[Clip, dict[str, float]]]:
    """Held-out clips, each with how often its case is played."""
    seeds = range(TRAIN_SEEDS.stop, TRAIN_SEEDS.stop + 4)
    scouted = scout(game, seeds, _FRAMES)
    chosen, shares = choose(scouted, STRIDE, {"steady": clips, "buttons": clips, "events": 1})
    by_world = chosen_clips(game, scouted, chosen, STRIDE)
    return [(clip, shares) for _, of_world in by_world for clip in of_world]


def shown_psnr(game: str, off: str, clips: list[tuple[Clip, dict[str, float]]], threads: int) -> float:
    """Mean over the frames of a step, dB: the filled ones and the true one after them."""
    os.environ[VARIABLE] = off
    backend = load_backend(game, roles=("decoder", "encoder"), threads=threads)
    filling = Filling(backend, SHIPPED / game, ssim=False)
    learned = "learned" if "learned" in filling.estimators else "exponential_gated"
    name = "hold" if off == "extrapolation" else learned
    filling.estimators = {name: filling.estimators[name]}
    drafts = name == "learned" and off != "drafts"
    filling.drafting = {"learned_draft": filling.drafting["learned_draft"]} if drafts else {}
    name = PLAYED if drafts else name
    for clip, _ in clips:
        filling.add(clip)
    shares = clips[0][1]
    told = [filling.scores.figures(name, k, shares)["psnr_db"] for k in range(1, STRIDE)]
    told.append(filling.scores.figures("ceiling", STRIDE, shares)["psnr_db"])
    return round(statistics.fmean(value for value in told if value is not None), 2)


def measure(game: str, seconds: float, rounds: int, clips: int, threads: int) -> dict[str, Any]:
    plays: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way, off in WAYS.items():
            plays[way].append(play(game, seconds, off))
            print(f"{game}: round {number + 1}, {way}", file=sys.stderr, flush=True)
    told = true_clips(game, clips)
    ways = {
        way: rates(plays[way]) | {"shown_psnr_db": shown_psnr(game, off, told, threads)}
        for way, off in WAYS.items()
    }
    return {"bench": "ablation", "game": game, "seconds": seconds, "rounds": rounds, "ways": ways}


def table(result: dict[str, Any]) -> str:
    heads = "".join(f"{head:>11}" for head in COLUMNS.values())
    lines = [f"{result['game']:18}{'backend':20}{'stride':>7}{heads}"]
    for way, one in result["ways"].items():
        cells = "".join(f"{'-' if one[c] is None else one[c]:>11}" for c in COLUMNS)
        lines.append(f"{way:18}{one['backend']:20}{one['stride']:>7}{cells}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="dreamcade bench ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("game", nargs="?", choices=tuple(GAMES), default="racing")
    parser.add_argument("--seconds", type=float, default=15.0, help="of every play")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--clips", type=int, default=4, help="of steady motion and of changing buttons")
    parser.add_argument("--threads", type=int, default=2, help="for the PSNR")
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        result = measure(args.game, args.seconds, args.rounds, args.clips, args.threads)
    except WeightsError as error:
        raise SystemExit(f"dreamcade: error: {error}") from None
    if not args.json:
        print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
