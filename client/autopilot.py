"""The scripted player of `--autopilot`: reads the telemetry a frame carries, answers with a button mask.

It sees no more than a player could read off the picture, and a dreamed world's telemetry is a little off,
so all rules are bands, none needs an exact value.
"""

import math
from collections import deque

from client.runner import Runner
from client.senses import FPS, Senses
from games.racing.spec import RIVALS, rival_gap_m
from games.spec import GameSpec


class Autopilot:
    """Plays one game. Call `decide` with every shown frame."""

    def __init__(self, spec: GameSpec) -> None:
        players: dict[str, type[_Racer | Runner]] = {"racing": _Racer, "platformer": Runner}
        self._player = players[spec.name](spec)
        self._index: int | None = None

    def decide(self, telemetry: list[float], index: int, latency_frames: float = 0.0) -> int:
        """Buttons to hold from now on.

        index: the frame's; latency_frames: how many frames pass from what is told until a button acts, if
        known.
        """
        passed = 1 if self._index is None else index - self._index
        if passed < 0:  # the game began anew
            self._player = type(self._player)(self._player.spec)
            passed = 1
        self._index = index
        return self._player.decide(telemetry, min(passed, 30), min(max(latency_frames, 0.0), 12.0))


class _Racer:
    """Pure pursuit of a point on the road ahead; the wheel, which telemetry tells a step late, is estimated
    from the keys pressed and from what was told since, and a key is held while the wheel is short of what is
    wanted."""

    HALF_ROAD_M = 6.0
    GRIP_MS2 = 13.0
    BRAKING_MS2 = 12.0
    LOCK = 0.13  # 1/m, the sharpest bend the wheel can ask for
    STUCK_S, BACK_S = 1.5, 1.2
    GAIN = 0.3  # of the observer: share of a told wheel's difference to the estimate that is believed

    def __init__(self, spec: GameSpec) -> None:
        self.spec = spec
        self._senses = Senses(spec)
        self._buttons = spec.buttons
        self._wheels = deque([0.0], maxlen=16)  # by frames, the newest last
        self._mask = 0
        self._nearest = (math.inf, 0.0)  # the rival ahead, see _rival
        self._stuck_s = self._back_s = 0.0

    def decide(self, telemetry: list[float], passed: int, latency_frames: float) -> int:
        self._senses.look(telemetry)
        self._nearest = self._rival()
        self._turn_wheel(passed)
        self._correct_wheel(round(latency_frames))
        self._notice_being_stuck(passed / FPS)
        steer = self._wish(latency_frames / FPS) - self._wheels[-1]
        if self._senses.speed < -0.3:
            steer = -steer  # going backwards the wheel works the other way round
        mask = self._pedals()
        if steer > 0.1:
            mask |= int(self._buttons["RIGHT"])
        elif steer < -0.1:
            mask |= int(self._buttons["LEFT"])
        self._mask = mask
        return mask

    def _turn_wheel(self, frames: int) -> None:
        """Where the wheel is by now: it follows the keys, and quicker back to the middle than out."""
        right, left = self._mask & int(self._buttons["RIGHT"]), self._mask & int(self._buttons["LEFT"])
        goal = float(bool(right)) - float(bool(left))
        for _ in range(frames):
            wheel = self._wheels[-1]
            rate = (6.0 if goal * wheel < 0 else 4.2 if goal == 0 else 3.0) / FPS
            self._wheels.append(wheel + min(max(goal - wheel, -rate), rate))

    def _correct_wheel(self, frames_ago: int) -> None:
        """An observer's correction: the wheel was told of so many frames ago, and a dreamed one may turn more
        or less than keys say."""
        then = self._wheels[max(-1 - frames_ago, -len(self._wheels))]
        off = self.GAIN * (self._senses.steer - then)
        for i in range(len(self._wheels)):
            self._wheels[i] = min(max(self._wheels[i] + off, -1.0), 1.0)

    def _notice_being_stuck(self, seconds: float) -> None:
        standing = abs(self._senses.speed) < 1.0 and self._back_s <= 0
        self._stuck_s = self._stuck_s + seconds if standing else 0.0
        self._back_s -= seconds
        if self._stuck_s > self.STUCK_S:
            self._stuck_s, self._back_s = 0.0, self.BACK_S

    def _wish(self, latency_s: float) -> float:
        """The wheel position, -1 to 1, that leads to the line."""
        s = self._senses
        speed = max(abs(s.speed), 3.0)
        reach = 6.0 + 0.55 * speed
        error = s.heading_error
        lateral_m = s.lateral * self.HALF_ROAD_M + speed * math.sin(error) * latency_s
        bend = s.curvature_near + 0.5 * (s.curvature_mid - s.curvature_near) * min(max(reach - 15, 0) / 25, 1)
        if abs(error) > 1.4:
            return -math.copysign(1.0, error)
        aside_m = self._line_m() - lateral_m - reach * math.sin(error) + bend * reach**2 / 2
        curvature = 2 * aside_m / (reach**2 + aside_m**2)
        return min(max(curvature / min(self.LOCK, self.GRIP_MS2 / (speed**2 + 25)), -1.0), 1.0)

    def _line_m(self) -> float:
        """Where across the road to drive: a little to the inside of a bend, and past rivals."""
        s = self._senses
        line_m = min(max(s.curvature_mid * 40, -0.4), 0.4) * self.HALF_ROAD_M
        gap_m, rival_m = self._nearest
        if gap_m < 10 + 0.9 * max(s.speed, 0) and abs(rival_m - line_m) < 2.9:
            line_m = rival_m - 3.2 if rival_m > 0.3 else rival_m + 3.2
        return min(max(line_m, -0.75 * self.HALF_ROAD_M), 0.75 * self.HALF_ROAD_M)

    def _rival(self) -> tuple[float, float]:
        """How far the nearest rival ahead is, and where across the road, in metres; (inf, 0) if none is."""
        sense = 1.0 if abs(self._senses.heading_error) < math.pi / 2 else -1.0
        found = [(math.inf, 0.0)]
        for rival in range(RIVALS):
            sin, cos, lateral = (self._senses[f"rival_{rival}_{name}"] for name in ("sin", "cos", "lateral"))
            gap_m = rival_gap_m(rival, sin, cos) * sense
            if gap_m > 0:
                found.append((gap_m, lateral * self.HALF_ROAD_M))
        return min(found)

    def _pedals(self) -> int:
        s = self._senses
        if self._back_s > 0:
            return int(self._buttons["BRAKE"])
        allowed = 60.0
        for curvature, distance_m in ((s.curvature_near, 6), (s.curvature_mid, 28), (s.curvature_far, 62)):
            corner = 0.6 * self.GRIP_MS2 / max(abs(curvature), 1e-3)
            allowed = min(allowed, math.sqrt(corner + 2 * self.BRAKING_MS2 * distance_m))
        if abs(s.heading_error) > 0.9 or abs(s.lateral) > 1.1:
            allowed = min(allowed, 9.0)
        gap_m, rival_m = self._nearest
        if gap_m < 4 + 0.3 * max(s.speed, 0) and abs(rival_m - s.lateral * self.HALF_ROAD_M) < 2.2:
            allowed = min(allowed, max(s.speed - 3.0, 8.0))
        if s.speed < allowed:
            return int(self._buttons["THROTTLE"])
        return int(self._buttons["BRAKE"]) if s.speed > allowed + 2.5 else 0
