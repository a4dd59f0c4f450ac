"""A decode, latent to bytes, by every way this machine has, in one run.

    python -m engine.bench.decoder --game racing --device cuda --batch 1 --json

At batch 1 the intermediates sit in the cache and launches decide; at batches where they leave it, the bytes
moved do. So beside the times: multiply-adds, and the bytes that each way must move at least: every kernel's
inputs and outputs once, as eager PyTorch has them and as the fused kernels have them. Ends with one JSON
line.

"fused, tiled": with the tiles of DREAMCADE_TILES or assets/tiles, see engine/fast/tile_table.py."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from engine.bench.command import dtype_name, dtype_on, figures, parser_for, say
from engine.bench.presets import label, preset
from engine.bench.roofline import Ceilings
from engine.bench.slow import build_slow
from engine.bench.timing import hardware, timed
from engine.fast.bands import Rows, band_macs
from engine.fast.cuda_graph import EagerPaint, GraphDecoder, Paint
from engine.models.autoencoder import Decoder, Up, to_bytes
from engine.models.layers import ConvBlock

ROWS, COLUMNS = 10, 15


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--compiled", action="store_true", help="torch.compile max-autotune too: minutes")
    parser.add_argument("--tuned", action="store_true", help="every tile of the fused kernels too: minutes")
    parser.add_argument("--compile-seconds", type=float, default=100.0, help="for each of the two at most")
    options = parser.parse_args()
    slow = frozenset(name for name in ("compiled", "tuned") if getattr(options, name))
    seconds = options.compile_seconds
    result = measure(options.game, options.device, options.batch, options.runs, slow, seconds)
    say(result, table, options.json)


def measure(
    game: str,
    device: str,
    batch: int,
    runs: int,
    slow: frozenset[str] = frozenset(),
    compile_seconds: float = 100.0,
) -> dict[str, Any]:
    """slow: with what takes minutes to build, "compiled" by torch.compile and "tuned" tiles."""
    config = preset(game).autoencoder
    torch.manual_seed(0)
    decoder = Decoder(config).to(device).eval().requires_grad_(False)
    dtype = dtype_on(device)
    ceilings = Ceilings.of(device, dtype)
    works = ways(decoder, config.channels, batch, dtype)
    left_out = build_slow(works, slow_ways(decoder, config.channels, batch, dtype, slow), compile_seconds)
    timings = timed(works, device, runs)
    macs = band_macs(decoder, Rows(0, ROWS, ROWS), COLUMNS)
    eager_bytes, fused_bytes = bytes_moved(decoder, batch, dtype.itemsize)
    first = next(iter(timings.values())).median_ms
    return {
        "bench": "decoder",
        "game": label(game),
        "device": hardware(device),
        "dtype": dtype_name(dtype),
        "ceilings": ceilings.to_json(),
        "batch": batch,
        "parameters": sum(p.numel() for p in decoder.parameters()),
        "gflop_per_frame": round(2 * macs / 1e9, 3),
        "mib_moved": {"eager": round(eager_bytes / 2**20, 2), "fused": round(fused_bytes / 2**20, 2)},
        "left_out": left_out,
        "ways": {
            name: figures(timing)
            | ceilings.judge(
                timing.median_ms, 2 * macs * batch, fused_bytes if "fused" in name else eager_bytes
            )
            | {
                "ms_per_frame": round(timing.median_ms / batch, 4),
                "times_eager": round(first / timing.median_ms, 3),
                "tflop_per_s": round(2e-9 * macs * batch / timing.median_ms, 3),
            }
            for name, timing in timings.items()
        },
    }


def ways(
    decoder: Decoder,
    channels: int,
    batch: int,
    dtype: torch.dtype,
    captured: bool = True,
) -> dict[str, Callable[[], object]]:
    """What exists on the decoder's device, eager first. captured: in graphs too."""
    shape = (channels, ROWS, COLUMNS)
    device = next(decoder.parameters()).device.type
    latents = torch.randn(batch, *shape, device=device)

    @torch.inference_mode()
    def eager() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            pictures = decoder(latents)
        to_bytes(pictures.float())

    static = functools.partial(painting, decoder, latents, dtype)
    plain = EagerPaint(decoder, dtype)
    works: dict[str, Callable[[], object]] = {"eager": eager, "channels-last": static(plain, False)}
    if device == "cuda":
        fused = fused_ways(decoder, dtype)
        works |= {name: static(paint, False) for name, paint in fused.items()}
    if device == "cuda" and captured:
        works["eager + graph"] = static(plain, True)
        works |= {f"{name} + graph": static(paint, True) for name, paint in fused.items()}
    return works


def fused_ways(decoder: Decoder, dtype: torch.dtype) -> dict[str, Paint]:
    """By the kernels of fused_decoder alone, and with tiles where a table is at hand."""
    from engine.fast.fused_decoder import FusedPaint
    from engine.fast.tile_table import NO_TILES, tiles_at_hand

    paints: dict[str, Paint] = {"fused": FusedPaint(decoder, dtype, table=NO_TILES)}
    if (table := tiles_at_hand(decoder.tail.weight.device)).tiles:
        paints["fused, tiled"] = FusedPaint(decoder, dtype, table=table)
    return paints


def slow_ways(
    decoder: Decoder, channels: int, batch: int, dtype: torch.dtype, slow: frozenset[str]
) -> dict[str, Callable[[], Callable[[], object]]]:
    """By name, what builds them."""
    device = next(decoder.parameters()).device.type
    static = functools.partial(
        painting, decoder, torch.randn(batch, channels, ROWS, COLUMNS, device=device), dtype
    )
    builders: dict[str, Callable[[], Callable[[], object]]] = {}
    if device == "cuda" and "tuned" in slow:
        from engine.fast.fused_decoder import FusedPaint

        builders["fused, tuned + graph"] = lambda: static(FusedPaint(decoder, dtype, tuned=True), True)
    if device == "cuda" and "compiled" in slow:
        best = torch.compile(EagerPaint(decoder, dtype), mode="max-autotune-no-cudagraphs", dynamic=False)
        builders["torch.compile max-autotune + graph"] = lambda: static(best, True)
    return builders


def painting(
    decoder: Decoder, latents: torch.Tensor, dtype: torch.dtype, paint: Paint, capture: bool
) -> Callable[[], None]:
    """A decode of these latents on static buffers."""
    batch, channels, rows, columns = latents.shape
    made = GraphDecoder(decoder, (channels, rows, columns), batch, dtype, capture, paint)
    made.latents.copy_(latents)
    return made.replay


def bytes_moved(decoder: Decoder, batch: int, size: int) -> tuple[int, int]:
    """Bytes that eager PyTorch and the fused kernels read and write at least, weights included."""
    weights = sum(p.numel() for p in decoder.parameters()) * size
    eager = fused = weights
    pixels, channels = batch * ROWS * COLUMNS, decoder.tail.in_channels
    for layer in decoder.body:
        if isinstance(layer, ConvBlock):
            one = pixels * layer.conv1.in_channels * size
            eager += 9 * one  # conv 2, SiLU 2, conv 2, sum 3
            fused += 5 * one  # conv 2, conv with the residual 3
            continue
        conv = layer.conv if isinstance(layer, Up) else layer
        assert isinstance(conv, nn.Conv2d)
        through = pixels * (conv.in_channels + conv.out_channels) * size
        fused += through
        eager += through + (2 * pixels * conv.out_channels * size if isinstance(layer, Up) else 0)
        pixels *= layer.factor**2 if isinstance(layer, Up) else 1
    picture = pixels * decoder.tail.out_channels
    fused += pixels * channels * size + picture
    # SiLU 2, conv; shuffle 2, halve 2, shift 2; to float 1 + 4 bytes; clamp, scale, shift 8; bytes 5 and 2.
    eager += pixels * 3 * channels * size + picture * (7 * size + (size + 4) + 24 + 5 + 2)
    return eager, fused


def table(result: dict[str, Any]) -> str:
    head = f"{result['game']} on {result['device']}, {result['dtype']}, batch {result['batch']}: "
    head += f"{result['parameters'] / 1e6:.2f}M parameters, {result['gflop_per_frame']} GFLOP a frame, "
    head += f"{result['mib_moved']['eager']} MiB moved eagerly, {result['mib_moved']['fused']} fused"
    columns = f"{'median ms':>9} {'p99 ms':>9} {'ms/frame':>9} {'x eager':>8} {'TFLOP/s':>8} bound"
    lines = [head, f"{'way':36} {columns}"]
    for name, one in result["ways"].items():
        times = f"{one['median_ms']:9.3f} {one['p99_ms']:9.3f} {one['ms_per_frame']:9.3f}"
        lines.append(f"{name:36} {times} {one['times_eager']:8.2f} {one['tflop_per_s']:8.2f} {one['bound']}")
    lines += [f"{name}: {why}" for name, why in result["left_out"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
