"""The two games. GAMES holds their constants and needs no torch; `simulator(name)` imports one."""

from types import ModuleType

from games.platformer.spec import SPEC as PLATFORMER
from games.racing.spec import SPEC as RACING
from games.spec import GameSpec

GAMES: dict[str, GameSpec] = {"racing": RACING, "platformer": PLATFORMER}

TRAIN_SEEDS = range(0, 1_000_000)
"""Seeds that training may draw from; 1,000,000 and up are held out."""


def simulator(name: str) -> ModuleType:
    """The game's simulator module (needs torch): `.World`, a batch of worlds, and `.Drivers`, scripted
    players.

    Raises KeyError for an unknown game.
    """
    import importlib

    return importlib.import_module(f"games.{GAMES[name].name}.world")
