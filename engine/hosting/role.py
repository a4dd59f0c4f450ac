"""What a role is to its host. A role is one session's: world, decoder, or the simulator instead of both."""

from typing import Protocol

from engine.inner import Begin, Control, Input, Opened, Start


class Role(Protocol):
    name: str
    rarely_s: float
    """What one of its steps may take now and then, for a known reason; 0 when they are all alike."""

    def open(self, start: Start) -> Opened: ...
    def begin(self, begin: Begin, now_s: float) -> None: ...
    def input(self, message: Input, now_s: float) -> None: ...
    def control(self, message: Control, now_s: float) -> None: ...
    def seconds_until_due(self, now_s: float) -> float: ...
    def step(self, now_s: float) -> None: ...
    @property
    def draft_s(self) -> float:
        """What a draft of its next step would take that it wants to make; infinite when it wants none."""

    def draft(self) -> None: ...
    def end(self) -> None: ...
    def close(self) -> None: ...


def owes_true_frame(role: Role) -> bool:
    """Whether a true frame is due from it that was not shown yet."""
    return getattr(role, "owes_true_frame", False)
