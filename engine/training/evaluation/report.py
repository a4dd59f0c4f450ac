"""`evaluate --report OUT`: strips, films, error curves and one page, index.html, that shows them with every
figure of the JSON."""

import html
import json
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from engine.training.evaluation.pictures import FILM_SECONDS, STRIP_SECONDS, grid, save_film, save_png

STYLE = """body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem }
img, video { max-width: 100% } td, th { padding: .1rem .8rem .1rem 0; text-align: left; vertical-align: top }
td { font-variant-numeric: tabular-nums } figure { margin: 1.5rem 0 }"""


def kept_steps(stride: int, steps: int) -> set[int]:
    """The steps whose pictures strips and films show."""
    film = range(round(FILM_SECONDS * 60 / stride) + 1)
    return {n for n in {*film, *(round(s * 60 / stride) for s in STRIP_SECONDS)} if n <= steps}


class Report:
    """Gathers pictures seed by seed; `finish` writes the page."""

    def __init__(self, directory: Path, game: str, stride: int) -> None:
        self.directory, self.game, self.stride = directory, game, stride
        self.figures: list[str] = []
        directory.mkdir(parents=True, exist_ok=True)

    def add(self, seed: int, dream: dict[int, np.ndarray], real: dict[int, np.ndarray]) -> None:
        """A strip and a film of one play: its pictures uint8 [240, 360, 3] by step."""
        both = dream.keys() & real.keys()
        seconds = [s for s in STRIP_SECONDS if round(s * 60 / self.stride) in both]
        columns = [round(s * 60 / self.stride) for s in seconds]
        name = f"{self.game}-{seed}"
        rows = [[pictures[n] for n in columns] for pictures in (real, dream)]
        save_png(self.directory / f"{name}.png", grid(rows))
        film = sorted(n for n in both if n * self.stride <= FILM_SECONDS * 60)
        save_film(
            self.directory / f"{name}.mp4",
            [real[n] for n in film],
            [dream[n] for n in film],
            Fraction(60, self.stride),
        )
        times = ", ".join(f"{s} s" for s in seconds)
        self.figures.append(
            f'<figure><img src="{name}.png" alt=""><figcaption>Seed {seed} at {times}: above the simulator, '
            "below the dream, each steered by the autopilot from the same start.</figcaption></figure>"
            f'<video src="{name}.mp4" controls loop muted></video>'
        )

    def finish(self, result: dict[str, Any]) -> list[str]:
        """Write curves, JSON and the page. Returns notes on what was left out."""
        notes = []
        drawn = "rollout_psnr_db" in result  # long play by itself has no errors over time
        if drawn and find_spec("matplotlib"):
            save_curves(self.directory / f"{self.game}-curves.png", result)
            self.figures.insert(0, f'<img src="{self.game}-curves.png" alt="error over time">')
        elif drawn:
            notes.append("no error curves in the report: matplotlib is not installed")
        (self.directory / f"{self.game}.json").write_text(json.dumps(result, indent=2) + "\n")
        rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{cell(v)}</td></tr>" for k, v in result.items())
        page = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Dreamcade: {self.game}</title>'
            f"<style>{STYLE}</style><h1>{self.game}: the dream against the simulator</h1>"
            f"{''.join(self.figures)}<h2>Figures</h2><table>{rows}</table></html>"
        )
        (self.directory / "index.html").write_text(page, encoding="utf-8")
        return notes


def cell(value: Any) -> str:
    """A figure, or a table of figures by name."""
    if isinstance(value, dict):
        return "<br>".join(f"{html.escape(str(k))}: {cell(v)}" for k, v in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "<br>".join(", ".join(f"{html.escape(k)} {cell(v)}" for k, v in row.items()) for row in value)
    return "not measured" if value is None else html.escape(str(value))


def save_curves(path: Path, result: dict[str, Any]) -> None:
    """PSNR of rollout, hold and ceiling over time, and each probe's error beside its error on real
    pictures."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    probes = result["probe_error"] or {}
    figure, axes = plt.subplots(1, 1 + len(probes), figsize=(4 * (1 + len(probes)), 3), squeeze=False)
    for name, label in (("rollout", "dream"), ("hold", "hold"), ("ceiling", "autoencoder")):
        values = result[f"{name}_psnr_db"]
        axes[0, 0].plot([int(n) * result["stride"] / 60 for n in values], values.values(), "o-", label=label)
    axes[0, 0].set(xlabel="seconds", ylabel="PSNR, dB", xscale="log")
    axes[0, 0].legend()
    for axis, (name, values) in zip(axes[0, 1:], probes.items()):
        for label, of in (("dream", values), ("real pictures", result["probe_error_on_real"][name])):
            axis.plot([float(s) for s in of], [v if v is not None else float("nan") for v in of.values()],
                      "o-", label=label)  # fmt: skip
        axis.set(xlabel="seconds", title=f"error of {name}")
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
