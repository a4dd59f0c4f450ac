"""Stage `unpack`: shipped int8 weights -> files as the stages write them, to go on training from.

    python -m engine.training.unpack racing --out OUT [--weights assets/weights/racing]

The other way of `pack`: <game>-autoencoder, <game>-world-0, <game>-extrapolator, <game>-decoder-wide,
<game>-sight, all float32."""

import argparse
from pathlib import Path

from safetensors.torch import save_file

from engine.models.weights import PARTS, SHIPPED, SIGHT, WIDE, has_part, load_part
from games import GAMES

FILES = {
    "encoder": "autoencoder",
    "decoder": "autoencoder",
    "world": "world-0",
    "extrapolator": "extrapolator",
    WIDE: WIDE,
    SIGHT: SIGHT,
}
"""Part -> the file of it; what is in files of other names than world's says its part before a dot."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument("--weights", type=Path, help="a directory instead of the shipped weights")
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()
    source = args.weights or SHIPPED / args.game
    args.out.mkdir(parents=True, exist_ok=True)
    for file in dict.fromkeys(FILES.values()):
        parts = [part for part in PARTS if FILES[part] == file and has_part(source, part)]
        states = {part: load_part(source, part).state_dict() for part in parts}
        named = {
            name if part == "world" else f"{part}.{name}": value.contiguous()
            for part, state in states.items()
            for name, value in state.items()
        }
        if named:
            save_file(named, args.out / f"{args.game}-{file}.safetensors")
    print(f"{args.game}: {source} -> {args.out}")


if __name__ == "__main__":
    main()
