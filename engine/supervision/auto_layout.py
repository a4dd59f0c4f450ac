"""`--layout auto`: the planner's pick for the accelerators that are here, or one rank each where nothing that
was measured fits. No torch."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from engine import machine
from engine.config import GameConfig
from engine.layout import Split, make_plan
from engine.profiles import SHIPPED, WIDE, Profile, ProfileError, gpu_profiles
from engine.supervision.placement import shapes_at
from engine.team import Team
from engine.without import without
from games import GAMES


@dataclass(frozen=True)
class AutoLayout:
    """team None: as without --layout. why: in words, for whoever started the engine."""

    team: Team | None
    why: str


def auto_layout(options: argparse.Namespace, folder: Path = SHIPPED) -> AutoLayout:
    """options: of engine.launch. What the planner picks among layouts that a session can use: it decodes
    picture by picture, so batches of one."""
    if options.device != "cuda":
        return AutoLayout(None, "no layout to choose on a CPU: ranks as for this number of cores")
    gpus = machine.gpus()
    try:
        profile = fitting_profile(options, gpus[0], folder)
        plan = make_plan(profile, len(gpus))
    except ProfileError as error:
        return AutoLayout(None, f"{error}; one rank each")
    most = len(gpus) if options.players < 2 else 1  # players have a world each, ranks that share one, one
    usable = (one for one in plan.table if one.split.batch == 1 and one.split.world_ranks <= most)
    picked = next(usable, None)
    if picked is None:
        return AutoLayout(None, f"{profile.name} has no decode of one picture; one rank each")
    measured = "extrapolated" if picked.extrapolated or len(gpus) > profile.accelerators else "measured"
    figures = f"{picked.frames_per_s:.0f} true frames/s, {picked.latency_ms:.2f} ms"
    return AutoLayout(team_for(picked.split), f"{picked.split}: {figures} ({measured}, {profile.name})")


def team_for(split: Split) -> Team:
    if not split.decoder_ranks:
        return Team(together=True)
    return Team(split.world_ranks, split.decoder_ranks, split.bands)


def fitting_profile(options: argparse.Namespace, hardware: str, folder: Path) -> Profile:
    """Of this hardware and of models shaped like those that will be loaded, best of that game with the
    decoder that will paint. Raises ProfileError."""
    game = options.game or next(iter(GAMES))
    shapes = shapes_at(game, options.weights)
    fits = [p for p in gpu_profiles(folder) if p.hardware == hardware and shapes and same_shapes(p, shapes)]
    if shapes and fits:
        wide = WIDE if shapes.wide_decoder is not None and "wide" not in without() else ""
        wanted = [f"{game}{wide}", *(f"{other}{wide}" for other in GAMES)]
        return min(fits, key=lambda p: [*wanted, p.model.preset].index(p.model.preset))
    raise ProfileError(f"no profile in {folder} is of {hardware} and these models")


def same_shapes(profile: Profile, shapes: GameConfig) -> bool:
    world, model = shapes.world, profile.model
    had = (model.tokens, model.heads, model.layers, model.width)
    return had == (world.tokens, world.heads, world.layers, world.width)
