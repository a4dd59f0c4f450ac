"""The interface that both games' simulators keep: B independent worlds as one batch of tensors.

Way of one frame: buttons -> World.step -> World.render / World.telemetry. The engine uses it to start a
dream, to hold it against the truth, and training lives on it.
"""

from typing import Protocol

from torch import Tensor

from games.spec import GameSpec


class World(Protocol):
    """B worlds at once. A world's result depends on its seed and buttons alone, not on its batch."""

    spec: GameSpec

    def __init__(self, seeds: Tensor, device: str = "cpu") -> None:
        """seeds: int64 [B]. Each world starts ready to play, standing still."""

    def step(self, buttons: Tensor, active: Tensor | None = None) -> None:
        """Advance one frame (1/60 s). buttons: int64 [B] bit masks; active: bool [B], False leaves a world as
        it is."""

    def restart(self, where: Tensor, seeds: Tensor) -> None:
        """Begin anew with `seeds` (int64 [B]) where `where` (bool [B]) is True."""

    def render(self) -> Tensor:
        """The picture now, uint8 [B, 480, 720, 3]. Changes nothing."""

    def render_classes(self) -> tuple[Tensor, Tensor]:
        """The picture and its class map, uint8 [B, 480, 720]: 0 or 1 + index into spec.masks."""

    def telemetry(self) -> Tensor:
        """float32 [B, len(spec.telemetry)] in the fields' units; counts are running totals."""


class Drivers(Protocol):
    """Scripted players for a batch of worlds; together they cover play widely."""

    STYLES: tuple[str, ...]

    def __init__(self, seeds: Tensor, device: str = "cpu", style: str | None = None) -> None:
        """seeds: int64 [B], choose each driver's style and its mistakes; `style` makes all of one kind."""

    def act(self, world: World) -> Tensor:
        """Buttons for the next frame, int64 [B]. A driver may look at everything the world knows."""
