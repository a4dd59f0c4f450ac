"""Sounds made from what a frame tells of itself: an engine's hum, tyres on grass, coins, jumps, landings.

Everything is synthesised with numpy at the start; nothing is a file. A dream's telemetry flickers, so flags
count only past a band. Without an audio device there is silence, and no error.
"""

import numpy as np
import pygame

from games.spec import GameSpec

RATE = 22050
_HUMS = 20  # loops of rising pitch, crossfaded by speed
_HUM_S = 0.5
_TOP_SPEED = 70.0  # m/s
_ON, _OFF = 0.65, 0.35
_LOUD = 0.35

Wave = np.ndarray
"""float32 [n], -1 to 1."""


def tone(frequencies: tuple[float, ...], seconds: float, fall: float = 6.0) -> Wave:
    """Notes one after the other, each `seconds` long, soft at both ends. fall: how fast they fade, 1/s."""
    t = np.arange(round(seconds * RATE)) / RATE
    fade = np.minimum(t / 0.004, 1) * np.exp(-fall * t) * np.minimum((seconds - t) / 0.01, 1)
    notes = [(np.sin(2 * np.pi * f * t) + 0.3 * np.sin(4 * np.pi * f * t)) / 1.3 * fade for f in frequencies]
    return np.concatenate(notes).astype(np.float32)


def sweep(start: float, end: float, seconds: float) -> Wave:
    """A tone that glides from `start` to `end` Hz and fades."""
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * (start * t + (end - start) * t**2 / (2 * seconds))
    return (np.sin(phase) * (1 - t / seconds) ** 1.5 * np.minimum(t / 0.004, 1)).astype(np.float32)


def rumble(seconds: float, smoothing: int, fall: float = 0.0) -> Wave:
    """Low noise; without a fall it loops."""
    n = round(seconds * RATE)
    noise = np.random.default_rng(1).standard_normal(n).astype(np.float32)
    kernel = np.hanning(smoothing).astype(np.float32)
    spectrum = np.fft.rfft(noise) * np.fft.rfft(kernel, n)  # circular, so its ends meet
    low = np.fft.irfft(spectrum, n)
    low /= np.abs(low).max()
    t = np.arange(n) / RATE
    fade = np.exp(-fall * t) * np.minimum(t / 0.004, 1) if fall else 1.0
    return (low * fade).astype(np.float32)


def hum(step: int) -> Wave:
    """One loop of the engine: whole periods, so that its ends meet."""
    base = round((55 + 9 * step) * _HUM_S) / _HUM_S
    t = np.arange(round(_HUM_S * RATE)) / RATE
    parts = ((1, 1.0), (2, 0.55), (3, 0.3), (4, 0.18), (6, 0.08))
    wave = sum(a * np.sin(2 * np.pi * base * n * t + n) for n, a in parts)
    return (np.asarray(wave) / 2.0).astype(np.float32)


class Flag:
    """A telemetry flag with a band: `rose` and `fell` are true for one frame."""

    def __init__(self) -> None:
        self._on: bool | None = None
        self.rose = self.fell = False

    def take(self, value: float) -> None:
        before = self._on
        self._on = value > (_OFF if before else _ON)
        self.rose, self.fell = before is False and self._on, before is True and not self._on


class Listener:
    """Names the sounds that a frame's telemetry asks for. Pure: no audio."""

    def __init__(self, spec: GameSpec) -> None:
        self._spec = spec
        self._flags = {f.name: Flag() for f in spec.telemetry if f.kind == "flag"}
        self._counts: dict[str, int] = {}

    def hear(self, telemetry: list[float], epoch: int) -> list[str]:
        """Sounds that begin now."""
        values = {f.name: value for f, value in zip(self._spec.telemetry, telemetry, strict=True)}
        for name, flag in self._flags.items():
            flag.take(values[name])
        if epoch != self._counts.get("epoch"):
            self._counts = {"epoch": epoch}
        return self._racing(values) if self._spec.name == "racing" else self._running(values)

    def _racing(self, values: dict[str, float]) -> list[str]:
        sounds = ["bump"] if self._flags["collision"].rose else []
        return sounds + ["goal"] * self._grew("lap", values["lap"])

    def _running(self, values: dict[str, float]) -> list[str]:
        sounds = []
        if self._flags["grounded"].fell and values["vy"] > 2:
            sounds.append("jump")
        if self._flags["grounded"].rose:
            sounds.append("land")
        if self._flags["alive"].fell:
            sounds.append("fall")
        sounds += ["coin"] * self._grew("coins", values["coins"])
        return sounds + ["goal"] * self._grew("level", values["level"])

    def _grew(self, name: str, value: float) -> bool:
        """Whether a running total is higher than it ever was in this epoch."""
        now = round(value)
        before = self._counts.setdefault(name, now)
        self._counts[name] = max(now, before)
        return now > before


class Sound:
    """Plays. `muted` silences everything at once."""

    def __init__(self, spec: GameSpec, muted: bool) -> None:
        self.muted = muted
        self._spec, self._listener = spec, Listener(spec)
        self._level = -1
        self.available = False
        try:
            pygame.mixer.init(RATE, -16, 1, 512)
        except pygame.error:
            return
        if pygame.mixer.get_init() != (RATE, -16, 1):  # a device that takes another form only
            return
        self.available = True
        pygame.mixer.set_num_channels(12)
        pygame.mixer.set_reserved(3)
        self._engine = [pygame.mixer.Channel(0), pygame.mixer.Channel(1)]
        self._ground = pygame.mixer.Channel(2)
        self._effects = {name: _sound(wave, loud) for name, (wave, loud) in _effects().items()}
        self._hums = [_sound(hum(step), 1.0) for step in range(_HUMS)] if spec.name == "racing" else []
        self._grass = _sound(rumble(1.0, 60), 1.0)

    def hear(self, telemetry: list[float], epoch: int) -> None:
        """A frame was shown."""
        if not self.available:
            return
        for name in self._listener.hear(telemetry, epoch):
            if not self.muted:
                self._effects[name].play()
        if self._hums and not self.muted:
            self._drive(telemetry)

    def toggle(self) -> bool:
        """True if there is sound now."""
        self.muted = not self.muted
        if self.muted:
            self.hush()
        return not self.muted

    def hush(self) -> None:
        """Silence until the next frame: a pause, or the end."""
        if self.available:
            pygame.mixer.stop()
            self._level = -1

    def _drive(self, telemetry: list[float]) -> None:
        """The hum follows the speed: two neighbouring loops, mixed by how near each is."""
        speed = abs(telemetry[self._spec.field_index("speed")])
        place = min(speed / _TOP_SPEED, 1.0) * (_HUMS - 1.001)
        level, share = int(place), place % 1
        if level != self._level:
            for channel, step in zip(self._engine, sorted((level, level + 1), key=lambda n: n % 2)):
                if channel.get_sound() is not self._hums[step]:
                    channel.play(self._hums[step], loops=-1)
            self._level = level
        loud = _LOUD * (0.35 + 0.4 * min(speed / 30, 1))
        even, odd = (1 - share, share) if level % 2 == 0 else (share, 1 - share)
        self._engine[0].set_volume(loud * even)
        self._engine[1].set_volume(loud * odd)
        self._roll(speed, telemetry[self._spec.field_index("off_road")] > 0.5)

    def _roll(self, speed: float, off_road: bool) -> None:
        if not self._ground.get_busy():
            self._ground.play(self._grass, loops=-1)
        self._ground.set_volume(_LOUD * min(speed / 25, 1) if off_road else 0.0)


def _effects() -> dict[str, tuple[Wave, float]]:
    """name -> (wave, loudness)."""
    return {
        "coin": (tone((988, 1319), 0.09), 0.5),
        "jump": (sweep(260, 620, 0.16), 0.45),
        "land": (rumble(0.12, 90, fall=30), 0.8),
        "fall": (sweep(420, 90, 0.5), 0.5),
        "bump": (rumble(0.3, 40, fall=14), 1.0),
        "goal": (tone((659, 784, 988, 1319), 0.12, fall=4), 0.5),
    }


def _sound(wave: Wave, loud: float) -> pygame.mixer.Sound:
    return pygame.mixer.Sound(buffer=(np.clip(wave * loud, -1, 1) * 32767 * 0.8).astype(np.int16).tobytes())
