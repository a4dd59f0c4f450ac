"""The scripted player of `--autopilot`: reads the telemetry a frame carries, answers with a button mask.

It sees no more than a player could read off the picture, and a dreamed world's telemetry is a little off,
so all rules are bands, none needs an exact value. Constants are in the telemetry's units.
"""

import math

from games.spec import GameSpec

FPS = 60.0


class _Senses:
    """Telemetry by name."""

    def __init__(self, spec: GameSpec) -> None:
        self._at = {field.name: i for i, field in enumerate(spec.telemetry)}
        self._values: list[float] = []

    def look(self, telemetry: list[float]) -> None:
        self._values = telemetry

    def __getattr__(self, name: str) -> float:
        try:
            return self._values[self._at[name]]
        except KeyError:
            raise AttributeError(name) from None


class Autopilot:
    """Plays one game. Call `decide` with every shown frame."""

    def __init__(self, spec: GameSpec) -> None:
        players: dict[str, type[_Racer | _Runner]] = {"racing": _Racer, "platformer": _Runner}
        self._player = players[spec.name](spec)
        self._index: int | None = None

    def decide(self, telemetry: list[float], index: int, latency_frames: float = 0.0) -> int:
        """Buttons to hold from now on.

        index: the frame's; latency_frames: how many frames pass until a button acts, if known.
        """
        passed = 1 if self._index is None else index - self._index
        if passed < 0:  # the game began anew
            self._player = type(self._player)(self._player.spec)
            passed = 1
        self._index = index
        return self._player.decide(telemetry, min(passed, 30), min(max(latency_frames, 0.0), 12.0))


class _Racer:
    """Pure pursuit of a point on the road ahead; the wheel, which telemetry tells a step late, is estimated
    from the keys pressed, and a key is held while the wheel is short of what is wanted."""

    HALF_ROAD_M = 6.0
    GRIP_MS2 = 13.0
    BRAKING_MS2 = 12.0
    LOCK = 0.13  # 1/m, the sharpest bend the wheel can ask for
    STUCK_S, BACK_S = 1.5, 1.2

    def __init__(self, spec: GameSpec) -> None:
        self.spec = spec
        self._senses = _Senses(spec)
        self._buttons = spec.buttons
        self._wheel = 0.0
        self._mask = 0
        self._stuck_s = self._back_s = 0.0

    def decide(self, telemetry: list[float], passed: int, latency_frames: float) -> int:
        self._senses.look(telemetry)
        self._turn_wheel(passed / FPS)
        self._notice_being_stuck(passed / FPS)
        steer = self._wish(latency_frames / FPS) - self._wheel
        if self._senses.speed < -0.3:
            steer = -steer  # going backwards the wheel works the other way round
        mask = self._pedals()
        if steer > 0.1:
            mask |= int(self._buttons["RIGHT"])
        elif steer < -0.1:
            mask |= int(self._buttons["LEFT"])
        self._mask = mask
        return mask

    def _turn_wheel(self, seconds: float) -> None:
        """Where the wheel is by now: it follows the keys, and quicker back to the middle than out."""
        right, left = self._mask & int(self._buttons["RIGHT"]), self._mask & int(self._buttons["LEFT"])
        goal = float(bool(right)) - float(bool(left))
        rate = 6.0 if goal * self._wheel < 0 else 4.2 if goal == 0 else 3.0
        self._wheel += min(max(goal - self._wheel, -rate * seconds), rate * seconds)

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
        rival_m = (s.lateral + s.rival_lateral) * self.HALF_ROAD_M
        if s.rival_gap < 10 + 0.9 * max(s.speed, 0) and abs(rival_m - line_m) < 2.9:
            line_m = rival_m - 3.2 if rival_m > 0.3 else rival_m + 3.2
        return min(max(line_m, -0.75 * self.HALF_ROAD_M), 0.75 * self.HALF_ROAD_M)

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
        if s.rival_gap < 4 + 0.3 * max(s.speed, 0) and abs(s.rival_lateral) * self.HALF_ROAD_M < 2.2:
            allowed = min(allowed, max(s.speed - 3.0, 8.0))
        if s.speed < allowed:
            return int(self._buttons["THROTTLE"])
        return int(self._buttons["BRAKE"]) if s.speed > allowed + 2.5 else 0


class _Runner:
    """Runs right; jumps pits, steps and enemies, holding the key for as long as the way is wide or high."""

    FULL_HOLD = 25  # frames for the highest jump
    RISE, FALL = 48.6, 56.3  # tiles/s2, gravity on the way up and down
    BRAKE_2A = 105.0  # tiles/s2, twice what turning round in the air takes off
    STUCK_S, BACK_S = 2.0, 0.6
    LEAST_TILES = 1.5  # in that time: a dream creeps on where the picture stands against a step

    def __init__(self, spec: GameSpec) -> None:
        self.spec = spec
        self._senses = _Senses(spec)
        self._left, self._right = int(spec.buttons["LEFT"]), int(spec.buttons["RIGHT"])
        self._jump = int(spec.buttons["JUMP"])
        self._hold = 0
        self._pressed = self._braking = False
        self._aimed_y, self._across_x = 0.0, -math.inf
        self._turned_right = 99  # frames since the hero was last sent elsewhere
        self._best_x = -math.inf
        self._stuck_s = self._back_s = 0.0

    def decide(self, telemetry: list[float], passed: int, latency_frames: float) -> int:
        self._senses.look(telemetry)
        self._notice_being_stuck(passed / FPS)
        direction = self._direction()
        self._turned_right = self._turned_right + passed if direction == self._right else 0
        self._hold = 0 if self._braking else max(self._hold - passed, 0)
        # What lies ahead is told for the way the hero faces, so wait until he faces right again.
        ready = self._senses.grounded > 0.5 and self._turned_right > 1 + latency_frames
        if self._hold == 0 and ready and not self._pressed:
            self._hold = self._wanted_hold(latency_frames)
        self._pressed = self._hold > 0
        return direction | (self._jump if self._pressed else 0)

    def _notice_being_stuck(self, seconds: float) -> None:
        """Hardly any way gained for a while: back up a little, then take a running jump."""
        if self._senses.x > self._best_x + self.LEAST_TILES or self._senses.alive < 0.5:
            self._best_x, self._stuck_s = self._senses.x, 0.0
        elif self._senses.x < self._best_x - 6:  # sent back to a checkpoint
            self._best_x = self._senses.x
        self._stuck_s += seconds
        self._back_s -= seconds
        if self._stuck_s > self.STUCK_S:
            self._stuck_s, self._back_s = 0.0, self.BACK_S

    def _direction(self) -> int:
        """Right, but in the air brake for a small place to land rather than fly past it."""
        s = self._senses
        if self._back_s > 0:
            return self._left
        if s.grounded > 0.5:
            self._braking, self._aimed_y = False, s.y
        elif not self._braking and self._is_across() and s.gap_width > 0.2 and s.vx > 1.25:
            stop = s.vx**2 / self.BRAKE_2A
            flight = s.vx * self._seconds_to_land()
            self._braking = 0.05 < s.gap_ahead < stop + 0.2 + s.vx * 2 / FPS and flight > s.gap_ahead + 0.3
        if not self._braking:
            return self._right
        return self._left if s.vx > 0.8 else 0

    def _is_across(self) -> bool:
        """What was jumped lies behind, so the next pit is another one."""
        s = self._senses
        return s.vy < 2.5 or (s.x > self._across_x and s.y > self._aimed_y - 0.1)

    def _seconds_to_land(self) -> float:
        """From here down to the height the jump was aimed at; a long second once that is missed."""
        s = self._senses
        if s.y < self._aimed_y - 0.1:
            return 1.0
        up_s = max(s.vy, 0.0) / self.RISE
        top = s.y + max(s.vy, 0.0) ** 2 / (2 * self.RISE)
        down_s = math.sqrt(2 * max(top - self._aimed_y, 0.0) / self.FALL)
        return up_s + down_s + min(s.vy, 0.0) / self.FALL

    def _wanted_hold(self, latency_frames: float) -> int:
        """Frames to hold the jump from now; 0: no reason to jump."""
        s = self._senses
        speed, early = max(s.vx, 0.0), max(s.vx, 0.0) * latency_frames / FPS
        gap = s.gap_width > 0.2 and s.gap_ahead <= 0.22 + early
        wall = s.wall_height > 0.2 and s.wall_ahead <= 0.3 + speed / 7 + early
        wall = wall and (s.wall_ahead < s.gap_ahead or gap)
        near = s.enemy_ahead < 0.55 + speed * 3 / 16 + early
        enemy = near and -2.3 < s.enemy_height < 1.0
        hold = 0.0
        if gap:
            hold = 5 + 5 * s.gap_width
            if s.wall_height > 0.2 and s.wall_ahead <= s.gap_ahead + s.gap_width + 1:
                hold = max(hold, 7 + 6 * s.wall_height)
        if wall:
            hold = max(hold, 7 + 6 * s.wall_height)
        if enemy:
            hold = max(hold, 18 if s.enemy_spiked > 0.5 else 4)
        if hold <= 0:
            return 0
        up = s.wall_height if wall or (gap and s.wall_ahead <= s.gap_ahead + s.gap_width + 1) else 0.0
        self._aimed_y = s.y + up
        self._across_x = s.x + (s.gap_ahead + s.gap_width - 0.3 if gap else 0.0)
        return min(max(round(hold), 2), self.FULL_HOLD)
