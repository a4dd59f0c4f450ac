"""Telemetry by name, for the scripted players in autopilot.py and runner.py."""

from games.spec import GameSpec

FPS = 60.0


class Senses:
    """Call `look` with a frame's telemetry; its fields then are attributes."""

    def __init__(self, spec: GameSpec) -> None:
        self._at = {field.name: i for i, field in enumerate(spec.telemetry)}
        self._values: list[float] = []

    def look(self, telemetry: list[float]) -> None:
        self._values = telemetry

    def __getattr__(self, name: str) -> float:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name: str) -> float:
        return self._values[self._at[name]]
