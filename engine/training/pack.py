"""Stage `pack`: trained bf16 weights -> gzipped int8 files, checksums and config.json, as
assets/weights/<game> holds them.

    python -m engine.training.pack racing --source OUT --facts facts.json [--target assets/weights/racing]

Source files are those that the stages wrote: <game>-autoencoder.safetensors, <game>-world-0 and -1,
<game>-extrapolator, <game>-decoder-wide, <game>-sight. What is not there is taken from the target, so that
one stage can be renewed alone. A world model's head is changed in one respect, see `keep_lasting`."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.config import ExtrapolatorConfig, GameConfig, SightConfig, WideDecoderConfig, WorldConfig
from engine.models.autoencoder import with_decoder_of
from engine.models.stored import file_name
from engine.models.weights import (
    MOST_LEVELS,
    OPTIONAL,
    SHIPPED,
    SIGHT,
    WIDE,
    build,
    levels_of,
    load_config,
    store,
)
from games import GAMES

TEMPERATURE, LIVELY = {"platformer": 0.2}, {"platformer": 0.2}
"""Where they are not WorldConfig's: less is sharper there, and nearer to what comes; but all ground is flat
without some steps that are not."""
DRAFT_BLOCKS = 4
"""Of the shipped extrapolators: a frame filled in takes a thread some 1.5 ms."""


def game_config(game: str) -> GameConfig:
    """The shipped sizes for `game`."""
    spec = GAMES[game]
    return GameConfig(
        game=game,
        world=WorldConfig(
            buttons=spec.n_buttons,
            telemetry=len(spec.telemetry),
            temperature=TEMPERATURE.get(game, WorldConfig.temperature),
            lively=LIVELY.get(game, WorldConfig.lively),
        ),
        extrapolator=ExtrapolatorConfig(draft_blocks=DRAFT_BLOCKS),
        wide_decoder=WideDecoderConfig(),
        sight=SightConfig(tuple(map(spec.field_index, spec.shown))) if spec.shown else None,
    )


def read_parts(game: str, source: Path) -> dict[str, dict[str, Tensor]]:
    """State dicts by part, float32, of the files that are there."""
    parts: dict[str, dict[str, Tensor]] = {}
    for path in sorted(source.glob(f"{game}-*.safetensors")):
        for name, value in load_file(path).items():
            part, rest = ("world", name) if "-world-" in path.name else name.split(".", 1)
            parts.setdefault(part, {})[rest] = value.float()
    return parts


def keep_lasting(state: dict[str, Tensor], game: str) -> dict[str, Tensor]:
    """A world model's weights by which telemetry that no world of its game ever changes is told on as it
    is."""
    changes = torch.tensor([float(field.name not in GAMES[game].lasting) for field in GAMES[game].telemetry])
    weight, bias = state["to_telemetry.weight"], state["to_telemetry.bias"]
    return state | {"to_telemetry.weight": weight * changes[:, None], "to_telemetry.bias": bias * changes}


def packed_config(
    game: str, target: Path, parts: Mapping[str, Mapping[str, Tensor]], facts: dict[str, Any]
) -> GameConfig:
    """Sizes of the renewed parts, of a decoder as its state has them, of the others as they are shipped;
    those of the target for what stays, and its facts where none are given."""
    fresh, renewed = game_config(game), set(parts)
    if "decoder" in parts:
        fresh = replace(fresh, autoencoder=with_decoder_of(fresh.autoencoder, parts["decoder"]))
    old = load_config(target)[0] if (target / "config.json").exists() else None

    def optional(part: str, name: str) -> Any:
        """What is of another encoder's latents goes with them, see drop_stale."""
        stays = None if old is None or "encoder" in renewed else getattr(old, name)
        return getattr(fresh, name) if part in renewed else stays

    extras = {name: optional(part, name) for part, name in ((WIDE, "wide_decoder"), (SIGHT, "sight"))}
    if old is None:
        return replace(fresh, training=facts, **extras)
    return GameConfig(
        game,
        (fresh if renewed & {"encoder", "decoder"} else old).autoencoder,
        (fresh if "world" in renewed else old).world,
        (fresh if "extrapolator" in renewed else old).extrapolator,
        training=facts or old.training,
        **extras,
    )


def drop_stale(target: Path, renewed: set[str]) -> None:
    """What is optional and of another encoder's latents is worse than none: it goes when the encoder
    changes."""
    for part in OPTIONAL:
        old = target / file_name(part)
        if "encoder" in renewed and part not in renewed and old.exists():
            old.unlink()
            stage = "wide_decoder" if part == WIDE else part
            print(f"{old}: removed, it belongs to the encoder before; train stage {stage} anew")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument("--source", type=Path, default=Path("out"))
    parser.add_argument("--target", type=Path)
    parser.add_argument(
        "--facts", type=Path, help="JSON object for the config's `training`: commands, minutes, figures"
    )
    parser.add_argument(
        "--world-levels",
        type=int,
        default=levels_of("world"),
        choices=range(1, MOST_LEVELS + 1),
        metavar="N",
        help="levels of a world's weights (default %(default)s): fewer make a smaller file",
    )
    args = parser.parse_args()
    target = args.target or SHIPPED / args.game
    facts = json.loads(args.facts.read_text()) if args.facts else {}
    parts = read_parts(args.game, args.source)
    config = packed_config(args.game, target, parts, facts)
    models: dict[str, nn.Module] = {}
    if "world" in parts:
        parts["world"] = keep_lasting(parts["world"], args.game)
    for part, state in parts.items():
        models[part] = build(config, part)
        models[part].load_state_dict(state)
    drop_stale(target, set(parts))
    store(target, config, models, {"world": args.world_levels})
    size = sum(path.stat().st_size for path in target.iterdir()) / 2**20
    print(f"{args.game}: {', '.join(models)} -> {target}, {size:.1f} MiB in all")


if __name__ == "__main__":
    main()
