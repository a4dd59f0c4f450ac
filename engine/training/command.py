"""What the command lines of stages that begin with packed weights share."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.config import ConfigError
from engine.models.weights import WeightsError
from games import GAMES


def parser_for(doc: str | None, minutes: float | None = None) -> argparse.ArgumentParser:
    """doc: the module's text; minutes: --minutes unless given; None: the stage takes as long as it takes."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("game", choices=tuple(GAMES))
    if minutes is not None:
        made.add_argument("--minutes", type=float, default=minutes)
    made.add_argument("--out", type=Path, default=Path("out"))
    made.add_argument("--weights", type=Path, help="a packed directory instead of the shipped one")
    return made


@contextmanager
def errors_said() -> Iterator[None]:
    """Weights or sizes that cannot be, or a file that is not there, end the command with one line,
    SystemExit, instead of a traceback."""
    try:
        yield
    except (WeightsError, ConfigError, FileNotFoundError) as error:
        raise SystemExit(f"dreamcade: error: {error}") from None
