"""Bytes that a decode moves to and from the GPU's memory, by the hardware's counters (Nsight Compute).

    python -m engine.bench.hbm --game wide-decoder --batch 64 --json

Each way runs once under `ncu`, uncaptured: a graph launches the same kernels. Caches are left as the kernels
leave them, so what stays in L2 between two of them counts as saved. Beside the counted bytes stands the least
that bench.decoder computes from the layers. Ends with one JSON line."""

import csv
import io
import shutil
import subprocess
import sys
from typing import Any

import torch

from engine.bench.command import parser_for, say
from engine.bench.decoder import bytes_moved, ways
from engine.bench.presets import label, preset
from engine.bench.timing import hardware
from engine.errors import EngineError
from engine.models.autoencoder import Decoder

WAYS = ("eager", "channels-last", "fused")  # and "tiled" where there are tiles
_NAMES = {"tiled": "fused, tiled"}  # of bench.decoder, without its comma
_METRICS = ("dram__bytes_read.sum", "dram__bytes_write.sum")
_UNITS = {"byte": 1, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}


def main() -> int:
    """The exit code."""
    parser = parser_for(__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(WAYS)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="for one way at most")
    parser.add_argument("--profiled", default="", help="internal: run this way once between profiler marks")
    options = parser.parse_args()
    if options.profiled:
        run_profiled(options.game, options.batch, options.profiled)
        return 0
    try:
        counted = {
            way: count(options.game, options.batch, way, options.seconds) for way in options.ways.split(",")
        }
    except EngineError as error:
        print(f"dreamcade: error: {error}", file=sys.stderr)
        return error.exit_code
    say(result_of(options.game, options.batch, counted), table, options.json)
    return 0


def result_of(game: str, batch: int, counted: dict[str, float]) -> dict[str, Any]:
    with torch.device("meta"):
        least = bytes_moved(Decoder(preset(game).autoencoder), batch, 2)
    eager = counted.get("eager")
    return {
        "bench": "hbm",
        "game": label(game),
        "device": hardware("cuda"),
        "batch": batch,
        "mib_counted": {way: round(total / 2**20, 2) for way, total in counted.items()},
        "mib_computed": {"eager": round(least[0] / 2**20, 2), "fused": round(least[1] / 2**20, 2)},
        "of_eager": {way: round(total / eager, 4) for way, total in counted.items()} if eager else {},
    }


def count(game: str, batch: int, way: str, seconds: float) -> float:
    """Bytes of one decode. Raises EngineError where they cannot be counted."""
    if shutil.which("ncu") is None:
        raise EngineError("ncu is not here: install Nsight Compute, which reads the GPU's counters")
    command = ["ncu", "--clock-control", "none", "--cache-control", "none", "--profile-from-start", "off"]
    command += ["--metrics", ",".join(_METRICS), "--csv", "--print-units", "base"]
    command += [sys.executable, "-m", "engine.bench.hbm", "--game", game, "--batch", str(batch)]
    try:
        ended = subprocess.run([*command, "--profiled", way], capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise EngineError(f"{way} was not profiled within {seconds:.0f} s: give it more --seconds") from None
    total = total_of(ended.stdout)
    if ended.returncode or not total:
        last = (ended.stderr or ended.stdout).strip().splitlines()[-3:]
        raise EngineError(f"ncu counted nothing for {way}: {' / '.join(last)}")
    return total


def total_of(text: str) -> float:
    """Bytes in ncu's CSV, which stands behind its own messages."""
    lines = text.splitlines()
    head = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if head is None:
        return 0.0
    rows = csv.DictReader(io.StringIO("\n".join(lines[head:])))
    counted = [row for row in rows if row["Metric Name"] in _METRICS]
    return sum(float(row["Metric Value"].replace(",", "")) * _UNITS[row["Metric Unit"]] for row in counted)


def run_profiled(game: str, batch: int, way: str) -> None:
    config = preset(game).autoencoder
    decoder = Decoder(config).cuda().eval().requires_grad_(False)
    work = ways(decoder, config.channels, batch, torch.bfloat16, captured=False)[_NAMES.get(way, way)]
    for _ in range(2):
        work()
    torch.cuda.synchronize()
    torch.cuda.cudart().cudaProfilerStart()  # type: ignore[attr-defined]
    work()
    torch.cuda.synchronize()
    torch.cuda.cudart().cudaProfilerStop()  # type: ignore[attr-defined]


def table(result: dict[str, Any]) -> str:
    lines = [f"{result['game']} on {result['device']}, batch {result['batch']}: MiB to and from memory"]
    for way, counted in result["mib_counted"].items():
        share = result["of_eager"].get(way)
        lines.append(f"{way:14} {counted:10.1f}" + (f" {share * 100:6.1f} % of eager" if share else ""))
    return "\n".join([*lines, f"computed least: {result['mib_computed']}"])


if __name__ == "__main__":
    sys.exit(main())
