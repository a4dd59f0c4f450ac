"""From gathered figures to design.md's JSON; rounding happens here and nowhere before."""

from collections.abc import Sequence
from typing import Any

from engine.backend import Backend
from engine.training.evaluation.figures import rounded
from engine.training.evaluation.jobs import Played
from engine.training.evaluation.judge import SHARP_AFTER_S, sharpness_ratio, summary
from engine.training.evaluation.rollout import Evaluation
from games import GAMES

DIGITS = 3
LONG_PLAY_FIELDS = ("detected_fraction", "freeze_max_s", "colour_drift", "drivable_fraction")


def heading(game: str, seeds: range, stride: int, backend: Backend) -> dict[str, Any]:
    """What was measured, and with which models."""
    return {
        "game": game,
        "seeds": f"{seeds.start}:{seeds.stop}",
        "stride": stride,
        "backend": backend.name,
        "decoder": backend.decoder_name,
        "weights": backend.weights_id,
    }


def as_json(game: str, seeds: range, stride: int, backend: Backend, evaluation: Evaluation) -> dict[str, Any]:
    """design.md's fields; what could not be measured is null, and `notes` says why."""
    spec, figures, points = GAMES[game], evaluation.figures, evaluation.points
    mean = lambda name: rounded(figures.mean(name), DIGITS)  # noqa: E731
    by_step = lambda name: {str(n): mean(f"{name} {n}") for n in points}  # noqa: E731
    masks = lambda name: {mask: mean(f"{name} mask {mask}") for mask in spec.masks}  # noqa: E731
    actions, least, notes = evaluation.actions.result()
    return {
        **heading(game, seeds, stride, backend),
        "autoencoder_psnr_db": {backend.decoder_name: mean("autoencoder")},
        "autoencoder_mask_psnr_db": masks("autoencoder"),
        "autoencoder_ssim": mean("autoencoder ssim"),
        "autoencoder_flip": mean("autoencoder flip"),
        "next_step_psnr_db": mean("next"),
        "next_step_hold_psnr_db": mean("next hold"),
        "next_step_mask_psnr_db": masks("next"),
        "next_step_ssim": mean("next ssim"),
        "next_step_flip": mean("next flip"),
        "rollout_psnr_db": by_step("rollout"),
        "hold_psnr_db": by_step("hold"),
        "ceiling_psnr_db": by_step("ceiling"),
        "sharpness_ratio": {
            str(s): rounded(figures.ratio(f"sharp dream {s}", f"sharp true {s}"), DIGITS)
            for s in evaluation.seconds
        },
        "telemetry_error": {
            f.name: {str(n): mean(f"telemetry {f.name} {n}") for n in sorted({1, points[-1]})}
            for f in spec.telemetry
        },
        "action_accuracy": actions,
        "action_accuracy_ratio_min": least,
        "probe_error": probes(evaluation, "probe"),
        "probe_error_on_real": probes(evaluation, "floor"),
        "probe_error_where_told": where_told(evaluation),
        "reader": evaluation.reader.facts.get("held_out") if evaluation.reader else None,
        "frechet": evaluation.distribution.result(),
        "filled": None,
        "long_play": None,
        "notes": notes if evaluation.reader else [*notes, no_reader(game)],
    }


def probes(evaluation: Evaluation, label: str) -> dict[str, dict[str, float | None]] | None:
    """{field: {seconds: mean error in the field's unit}}; None without a reader."""
    if not evaluation.reader:
        return None
    mean = lambda name: rounded(evaluation.figures.mean(name), DIGITS)  # noqa: E731
    return {
        name: {str(s): mean(f"{label} {name} {s}") for s in evaluation.seconds}
        for name in evaluation.reader.names
    }


def where_told(evaluation: Evaluation) -> dict[str, dict[str, dict[str, float | None]]] | None:
    """{value: {seconds: its errors over the steps in which the reader tells it on real pictures, and their
    share}}; None without a reader."""
    if not evaluation.reader:
        return None
    mean = lambda name: rounded(evaluation.figures.mean(name), DIGITS)  # noqa: E731
    labels = {"dream": "probe told", "real": "floor told", "share": "told"}
    return {
        spec.name: {
            str(s): {column: mean(f"{label} {spec.name} {s}") for column, label in labels.items()}
            for s in evaluation.seconds
        }
        for spec in evaluation.reader.specs
        if spec.kind == "value"
    }


def no_reader(game: str) -> str:
    return (
        "action_accuracy, probe_error, detected_fraction, drivable_fraction are null: no reader is trained; "
        f"python -m engine.training.probes {game}"
    )


def long_play_json(minutes: float, played: Sequence[Played]) -> dict[str, Any]:
    """The four fields, and beside them the further figures, what the same code says of the simulator, and
    every seed's dream by itself."""
    dreamed = [play.dreamed for play in played]
    real = [play.real for play in played if play.real]
    dream = four_digits(summary(dreamed))
    sharp = sharpness_ratio(dreamed, real) if real else dict.fromkeys(SHARP_AFTER_S)
    return {
        "minutes": minutes,
        "seeds": len(played),
        **{name: dream[name] for name in LONG_PLAY_FIELDS},
        **{name: value for name, value in dream.items() if name not in LONG_PLAY_FIELDS},
        "sharpness_ratio": {str(second): rounded(ratio, 4) for second, ratio in sharp.items()},
        "reference": four_digits(summary(real)) if real else dict.fromkeys(dream),
        "by_seed": [{"seed": play.seed, **four_digits(summary([play.dreamed]))} for play in played],
    }


def four_digits(figures: dict[str, Any]) -> dict[str, Any]:
    """A play's figures rounded; those by minute are lists."""
    return {
        name: [rounded(v, 4) for v in value] if isinstance(value, tuple | list) else rounded(value, 4)
        for name, value in figures.items()
    }
