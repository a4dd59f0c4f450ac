"""Measures one kind of accelerator for the planner and writes its profile. See engine/profiles.py.

    python -m engine.bench.profile --preset racing --device cuda --ranks 1,2 --worlds 1,4 --out FILE

Steps run on so many sequence-parallel ranks, each a process: on the CPU one thread, on CUDA one GPU. A decode
by bands is timed as its dearest band. Weights are random: times do not depend on them."""

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from engine.bench.command import dtype_on, numbers
from engine.bench.presets import NAMES, label, preset
from engine.bench.ranks import run_ranks
from engine.bench.timing import hardware, timed
from engine.fast.bands import band_macs, split_rows
from engine.fast.cuda_graph import GraphDecoder, GraphWorld
from engine.fast.sequence_parallel import make_split
from engine.models.autoencoder import Decoder
from engine.models.world_model import WorldModel
from engine.profiles import VERSION, DecodeTime, Link, Model, Profile, StepTime, TogetherTime

_TICKS = 16
_BIG, _SMALL = (
    {"cpu": 16 << 20, "cuda": 256 << 20},
    64,
)  # bytes of the two messages that tell bandwidth and latency


@dataclass(frozen=True)
class Wanted:
    preset: str
    device: str
    worlds: tuple[int, ...]
    batches: tuple[int, ...]
    bands: tuple[int, ...]
    runs: int

    @property
    def dtype(self) -> torch.dtype:
        return dtype_on(self.device)


def measure(wanted: Wanted, ranks: tuple[int, ...], name: str) -> Profile:
    """Everything, one number of ranks after another."""
    device, config = wanted.device, preset(wanted.preset)
    steps: list[StepTime] = []
    for n in ranks:
        steps += run_ranks(n, measure_steps, wanted, device=device, timeout_s=900)
    alone = run_ranks(1, measure_alone, wanted, device=device, timeout_s=900)
    link = run_ranks(2, measure_link, wanted, device=device) if max(ranks) > 1 else None
    world = config.world
    model = Model(
        preset=label(wanted.preset),
        tokens=world.tokens,
        heads=world.heads,
        layers=world.layers,
        width=world.width,
        rows=world.rows,
        latent_bytes=4 * world.channels * world.latent_tokens,
        frame_bytes=3 * 480 * 720,
    )
    memory_gib = torch.cuda.mem_get_info()[1] / 2**30 if device == "cuda" else host_memory_gib()
    return Profile(
        version=VERSION,
        name=name,
        hardware=hardware(device),
        device="cuda" if device == "cuda" else "cpu",
        measured=True,
        made=made(),
        accelerators=max(ranks),
        memory_gib=round(memory_gib, 1),
        model=model,
        steps=tuple(steps),
        decodes=tuple(alone.decodes),
        link=link,
        to_host=alone.to_host,
        together=tuple(alone.together),
    )


def measure_steps(rank: int, wanted: Wanted) -> list[StepTime]:
    ranks, config = dist.get_world_size(), preset(wanted.preset).world
    with torch.device(wanted.device):  # a CPU would draw a wide model's numbers for minutes
        model = WorldModel(config).eval().requires_grad_(False)
    out = []
    for worlds in wanted.worlds:
        split = make_split(config) if ranks > 1 else None
        world = GraphWorld(model, worlds, wanted.dtype, split, capture=wanted.device == "cuda")
        controls = np.ones(world.controls.shape, np.float32)
        step = {"": partial(world.step, controls)}
        alone, row = (timed(step, wanted.device, wanted.runs, calls)[""].median_ms for calls in (1, _TICKS))
        out.append(StepTime(ranks, worlds, alone, used_gib(wanted.device), row))
    return out


@dataclass(frozen=True)
class Alone:
    """What one accelerator shows by itself: in one process, its start is half of the time."""

    decodes: list[DecodeTime]
    to_host: Link
    together: list[TogetherTime]


def measure_alone(rank: int, wanted: Wanted) -> Alone:
    return Alone(measure_decodes(wanted), measure_to_host(wanted), measure_together(wanted))


def measure_decodes(wanted: Wanted) -> list[DecodeTime]:
    config = preset(wanted.preset)
    decoder = Decoder(config.autoencoder).to(wanted.device).eval().requires_grad_(False)
    works: dict[tuple[int, int], Callable[[], None]] = {}
    for batch in wanted.batches:
        for bands in wanted.bands:
            dearest = max(split_rows(decoder, 10, bands), key=lambda band: band_macs(decoder, band, 15))
            made = GraphDecoder(
                decoder,
                (config.autoencoder.channels, 10, 15),
                batch,
                wanted.dtype,
                capture=wanted.device == "cuda",
                band=dearest if bands > 1 else None,
            )
            works[batch, bands] = made.replay
    alone, row = (timed(works, wanted.device, wanted.runs, calls) for calls in (1, _TICKS))
    used = used_gib(wanted.device)
    return [DecodeTime(*key, alone[key].median_ms, used, row[key].median_ms) for key in works]


def measure_together(wanted: Wanted) -> list[TogetherTime]:
    """Steps beside decodes on one GPU, one decode for all worlds; the CPU does them in turn anyway, and a
    world of another grid has no decoder."""
    from engine.bench.engine import built, shape_of

    out: list[TogetherTime] = []
    fits = shape_of(preset(wanted.preset))[1:] == (10, 15)
    for worlds in wanted.worlds if wanted.device == "cuda" and fits else ():
        pipeline, controls = built(preset(wanted.preset), wanted.device, worlds)
        tick = timed({"": partial(pipeline.push, controls)}, wanted.device, wanted.runs, calls=_TICKS)[""]
        out.append(TogetherTime(worlds, worlds, tick.median_ms))
    return out


def measure_link(rank: int, wanted: Wanted) -> Link:
    """There and back between two ranks."""
    took_s = []
    for size in (_SMALL, _BIG[wanted.device]):
        message = torch.zeros(size, dtype=torch.uint8, device=wanted.device)

        def bounce(message: torch.Tensor = message) -> None:
            ways = (dist.send, dist.recv) if rank == 0 else (dist.recv, dist.send)
            for way in ways:
                way(message, 1 - rank)

        took_s.append(timed({"": bounce}, wanted.device, 20)[""].median_ms / 2e3)
    return link_of(_BIG[wanted.device], *took_s)


def measure_to_host(wanted: Wanted) -> Link:
    took_s = []
    for size in (_SMALL, _BIG[wanted.device]):
        there = torch.zeros(size, dtype=torch.uint8, device=wanted.device)
        here = torch.zeros(size, dtype=torch.uint8, pin_memory=there.is_cuda)
        copy = partial(here.copy_, there, non_blocking=True)
        took_s.append(timed({"": copy}, wanted.device, 20)[""].median_ms / 1e3)
    return link_of(_BIG[wanted.device], *took_s)


def link_of(big: int, small_s: float, big_s: float) -> Link:
    """What a message of _SMALL and one of `big` bytes took, one way."""
    return Link(round(small_s * 1e6, 3), round(big / max(big_s - small_s, 1e-9) / 1e9, 3))


def used_gib(device: str) -> float:
    """The most that this rank ever held."""
    if device == "cuda":
        return round(torch.cuda.max_memory_reserved() / 2**30, 3)
    import resource  # not on Windows

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)


def host_memory_gib() -> float:
    from engine import machine

    return machine.memory_mib() / 1024


def made() -> str:
    """When, at which commit."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown commit"
    return f"{time.strftime('%Y-%m-%d')} by engine.bench.profile at {commit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=NAMES, default="racing")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--ranks", type=numbers, default=(1,), help="numbers of world ranks, e.g. 1,2")
    parser.add_argument("--worlds", type=numbers, default=(1,))
    parser.add_argument("--batches", type=numbers, default=(1,))
    parser.add_argument("--bands", type=numbers, default=(1, 2))
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--name", default="", help="of the profile; the hardware otherwise")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    wanted = Wanted(
        options.preset, options.device, options.worlds, options.batches, options.bands, options.runs
    )
    profile = measure(wanted, options.ranks, options.name or hardware(options.device))
    text = json.dumps(asdict(profile))
    for entry in (*profile.steps, *profile.decodes, profile.link, profile.to_host):
        print(entry)
    if options.out:
        options.out.write_text(json.dumps(json.loads(text), indent=2) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
