"""What `dreamcade play` was asked for."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PlayOptions:
    """What `dreamcade play` was asked for; defaults are the command line's."""

    game: str
    engine: str | None = None
    seed: int = 0
    record: Path | None = None
    reference: bool = False
    autopilot: bool = False
    headless: bool = False
    seconds: float | None = None
    stride: int = 0
    fullscreen: bool = False
    device: str | None = None
    weights: Path | None = None
    ranks: tuple[str, ...] = ()
    """Of a local engine: arguments that say how many ranks it has."""
    beside: bool = False
    mute: bool = False
    picture: Path | None = None

    @property
    def mode(self) -> str:
        return "reference" if self.reference else "dream"

    def engine_arguments(self) -> list[str]:
        """Of a local engine.launch."""
        arguments = ["--game", self.game]
        if self.device is not None:
            arguments += ["--device", self.device]
        if self.weights is not None:
            arguments += ["--weights", str(self.weights)]
        return [*arguments, *self.ranks]
