"""The README's plot of a GPU's figures, from the files that `dreamcade bench everything` writes.

    python -m engine.bench.plot assets/figures/nvidia-h100 --out assets/pictures/gpu.png

Left: true frames a second of many worlds at once, by decoder (many.json). Middle: one decode of a large
batch, by who computes it (decoder.json). Right: what a second GPU gains (two.json). Needs matplotlib
(the extra `train`)."""

import argparse
import json
from pathlib import Path
from typing import Any

FPS = 60
FILES = ("many.json", "decoder.json", "two.json")


def results(path: Path, bench: str) -> list[dict[str, Any]]:
    """Those of one benchmark in a file of `everything`. Raises SystemExit where there are none."""
    try:
        found = [one["result"] for one in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"dreamcade: error: {path} is no file of `bench everything`: {error}") from None
    wanted = [one for one in found if one.get("bench") == bench]
    if not wanted:
        raise SystemExit(f"dreamcade: error: {path} has no result of `bench {bench}`: run it there first")
    return wanted


def plot(folder: Path, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    many, decoder, two = (folder / name for name in FILES)
    curve = next((one for one in results(many, "engine") if "curve" in one), None)
    if curve is None:
        raise SystemExit(f"dreamcade: error: {many} has no curve: run `bench engine --worlds 1,2,4` there")
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    draw_worlds(axes[0], curve)
    draw_decoder(axes[1], max(results(decoder, "decoder"), key=lambda one: (one["batch"], len(one["ways"]))))
    draw_second(axes[2], results(two, "split"), results(two, "sequence"))
    figure.suptitle(f"{curve['device']}, {curve['dtype']}")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=80)


def draw_worlds(axes: Any, curve: dict[str, Any]) -> None:
    points = sorted(curve["curve"], key=lambda one: one["worlds"])
    worlds = [one["worlds"] for one in points]
    for name in points[0]["decoders"]:
        axes.plot(
            worlds, [one["decoders"][name]["true_frames_per_s"] for one in points], marker="o", label=name
        )
    axes.plot(worlds, [FPS * count for count in worlds], "--", color="grey", label="60 for each")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [count for count in worlds if count & (count - 1) == 0]
    axes.set_xticks(ticks, [str(count) for count in ticks])
    axes.set_xlabel("worlds at once")
    axes.set_title("true frames a second, pictures on the host")
    axes.legend()
    axes.grid(alpha=0.3)


def draw_decoder(axes: Any, result: dict[str, Any]) -> None:
    ways = result["ways"]
    bars = axes.barh(list(ways), [one["median_ms"] for one in ways.values()])
    axes.bar_label(bars, fmt=" %.2f", padding=2)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(f"{result['game']}: {result['batch']} pictures, ms")


def draw_second(axes: Any, splits: list[dict[str, Any]], shared: list[dict[str, Any]]) -> None:
    gains = {f"{one['game'].split()[0]}, {one['worlds']} at once": one["gain"] for one in splits}
    for result in shared:
        for point in result["points"]:
            gains[f"width {point['width']}, {point['worlds']} at once"] = point["gain"]
    bars = axes.barh(list(gains), list(gains.values()), color=["C0"] * len(splits) + ["C1"] * len(gains))
    axes.bar_label(bars, fmt=" %.2f", padding=2)
    axes.axvline(1.0, color="grey", linestyle="--")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title("two GPUs over one")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    plot(options.folder, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
