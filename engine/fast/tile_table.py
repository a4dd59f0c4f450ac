"""Which tile each convolution of the fused decoder takes, by batch and shape: measured once on a kind of GPU,
kept in a file.

    python -m engine.bench.tiles --game wide-decoder --batch 64 --keep FILE

writes it; DREAMCADE_TILES=FILE has it used, and assets/tiles/sm90.json (on GPUs of compute capability 9.0)
where that is not said. A layer that stands in no table, or is quicker so, runs by the kernel of
engine/fast/fused_decoder.py."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import torch

from engine.fast.tiled_convolution import Tile

SHIPPED = Path(__file__).parents[2] / "assets" / "tiles"
VARIABLE = "DREAMCADE_TILES"
LARGE = 32
"""Pictures at once: from here on what is best for one batch is taken for others too."""


@dataclass(frozen=True)
class Layer:
    """A convolution over [rows, columns] pixels, and what follows it."""

    rows: int
    columns: int
    cin: int
    cout: int
    side: int
    shuffle: int = 1
    residual: bool = False
    silu: bool = False
    bytes: bool = False

    def __str__(self) -> str:
        after = [name for name in ("residual", "silu", "bytes") if getattr(self, name)]
        after += [f"shuffle{self.shuffle}"] if self.shuffle > 1 else []
        said = [f"{self.cin}>{self.cout} {self.side}x{self.side} {self.rows}x{self.columns}", *after]
        return " ".join(said)

    def gflop(self, batch: int) -> float:
        return 2e-9 * batch * self.rows * self.columns * self.cin * self.cout * self.side**2

    def fits(self, itemsize: int) -> bool:
        """Whether boxes of it can be copied: rows of channels are multiples of 16 bytes."""
        return self.cin * itemsize % 16 == 0 and (self.shuffle > 1 or self.cout * itemsize % 16 == 0)


@dataclass(frozen=True)
class TileTable:
    """tiles: by `key`; a layer that is not in it has none."""

    tiles: Mapping[str, Tile] = field(default_factory=dict)

    @staticmethod
    def key(layer: Layer, batch: int) -> str:
        return f"{batch} of {layer}"

    def of(self, layer: Layer, batch: int, itemsize: int) -> Tile | None:
        """Measured at this batch, or at the nearest where both are large."""
        if not layer.fits(itemsize):
            return None
        exact = self.tiles.get(self.key(layer, batch))
        if exact is not None or batch < LARGE:
            return exact
        of_layer = f" of {layer}"
        known = {int(k.removesuffix(of_layer)): v for k, v in self.tiles.items() if k.endswith(of_layer)}
        large = [size for size in known if size >= LARGE]
        return known[min(large, key=lambda size: abs(math.log(size / batch)))] if large else None

    @classmethod
    def read(cls, path: Path) -> "TileTable":
        """Raises ValueError, which names the file, where that is no table."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls({key: Tile(**tile) for key, tile in data.items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no table of tiles: {error}; engine.bench.tiles makes one") from None

    def write(self, path: Path) -> None:
        data = {key: asdict(tile) for key, tile in sorted(self.tiles.items())}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


NO_TILES = TileTable()


def tiles_at_hand(device: torch.device) -> TileTable:
    """Those that were named, else this kind of chip's, else none."""
    named = os.environ.get(VARIABLE)
    if named:
        return _read(Path(named))
    if device.type != "cuda":
        return NO_TILES
    path = SHIPPED / file_name(torch.cuda.get_device_capability(device))
    return _read(path) if path.exists() else NO_TILES


@lru_cache
def _read(path: Path) -> TileTable:
    return TileTable.read(path)


def file_name(capability: tuple[int, int]) -> str:
    """Of a kind of chip: (9, 0), an H100 or an H200 -> sm90.json"""
    return f"sm{capability[0]}{capability[1]}.json"
