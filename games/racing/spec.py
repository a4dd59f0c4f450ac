"""Racing: constants, buttons, telemetry. No torch."""

import math
from enum import IntFlag

from games.spec import GameSpec, TelemetryField, angle_fields, circles, look_fields


class Buttons(IntFlag):
    LEFT = 1
    RIGHT = 2
    THROTTLE = 4
    BRAKE = 8


LOOKS = ("alpine", "desert", "neon")
PATTERNS_M = (24, 12)
"""Periods of what is painted on ground and road; kerbs have half the smaller."""
COMPASS = (1, 4, 16)
"""The camera's direction is told so many times over: the first knows the whole turn, the last a pixel."""


RIVALS, RIVAL_PAINTS = 4, 3
RETURNS_M, AHEAD_M, APART_M = 170.0, 250.0, 30.0
"""A rival so far behind the car comes back so far ahead of it, each so much further than the one before: out
of sight both times."""
NEAR_M = 25.0
"""Gaps are told times exp(-|gap| / NEAR_M), too: where metres count they are metres, far away nothing."""


def circle_m(rival: int) -> float:
    """Length of the way on which a rival is at most RETURNS_M behind and then ahead again."""
    return RETURNS_M + AHEAD_M + APART_M * rival


def rival_gap_m(rival: int, sin: float, cos: float) -> float:
    """Metres from the car to a rival along the road, negative behind, from its place on that circle."""
    return math.atan2(sin, cos) % math.tau / math.tau * circle_m(rival) - RETURNS_M


def _rival(rival: int) -> tuple[TelemetryField, ...]:
    """Every rival is told by itself, wherever it is: nobody is told twice, and who overtakes whom makes
    nothing leap."""

    def value(name: str, unit: str, low: float, high: float, meaning: str) -> TelemetryField:
        return TelemetryField(f"rival_{rival}_{name}", unit, "value", low, high, meaning)

    place = f"its place on the way from {RETURNS_M:.0f} m behind to {AHEAD_M + APART_M * rival:.0f} ahead"
    return (
        value("near", "m", -10.0, 10.0, f"its gap to the car, times exp(-gap / {NEAR_M:.0f} m)"),
        *angle_fields(f"rival_{rival}", place),
        value("lateral", "half road widths", -1.2, 1.2, "its offset from the centre line"),
        value("speed", "m/s", 0.0, 60.0, "along the road"),
        value("drift", "m/s", -3.0, 3.0, "to the right"),
    )


PAINT_FIELDS = tuple(
    TelemetryField(f"paint_{paint}", "", "flag", 0.0, 1.0, f"the first rival has paint {paint}")
    for paint in range(RIVAL_PAINTS)
)
ANGLES = (
    *(f"pattern_{metres}" for metres in PATTERNS_M),
    *(f"compass_{times}" for times in COMPASS),
    "gate",
    *(f"rival_{rival}" for rival in range(RIVALS)),
)
"""What is told by sine and cosine."""

SPEC = GameSpec(
    name="racing",
    title="Racing",
    buttons=Buttons,
    keys={
        "LEFT": ("left", "a"),
        "RIGHT": ("right", "d"),
        "THROTTLE": ("up", "w"),
        "BRAKE": ("down", "s", "space"),
    },
    telemetry=(
        TelemetryField("speed", "m/s", "value", -10.0, 70.0, "along the car; negative when reversing"),
        TelemetryField(
            "lateral", "half road widths", "value", -3.0, 3.0, "offset from the centre line, right positive"
        ),
        TelemetryField(
            "heading_error", "rad", "value", -3.2, 3.2, "car's heading minus the road's, right positive"
        ),
        TelemetryField(
            "curvature_near", "1/m", "value", -0.05, 0.05, "of the road 15 m ahead, right positive"
        ),
        TelemetryField("curvature_mid", "1/m", "value", -0.05, 0.05, "of the road 40 m ahead"),
        TelemetryField("curvature_far", "1/m", "value", -0.05, 0.05, "of the road 80 m ahead"),
        TelemetryField(
            "progress", "laps", "count", -0.001, 0.001, "distance along the track, in laps since the start"
        ),
        TelemetryField("lap", "laps", "event", -1.0, 1.0, "full laps completed"),
        TelemetryField("off_road", "", "flag", 0.0, 1.0, "at least half the car is on the grass or sand"),
        TelemetryField("collision", "", "flag", 0.0, 1.0, "touched a rival within the last 0.25 s"),
        TelemetryField("curvature_horizon", "1/m", "value", -0.05, 0.05, "of the road 140 m ahead"),
        *look_fields(LOOKS),
        # What moves the picture by pixels from one step to the next; a player sees no number of it.
        TelemetryField("steer", "", "value", -1.0, 1.0, "where the wheel is, right positive"),
        TelemetryField("view", "rad", "value", -0.2, 0.2, "the camera's heading minus the car's"),
        TelemetryField("roll", "rad", "value", -0.06, 0.06, "the camera's lean"),
        TelemetryField("pitch", "px", "value", -6.0, 6.0, "how far braking moves the horizon, down positive"),
        TelemetryField("slip", "m/s", "value", -3.0, 3.0, "the car's speed to its right"),
        TelemetryField("curvature_here", "1/m", "value", -0.05, 0.05, "of the road under the car"),
        TelemetryField("curvature_next", "1/m", "value", -0.05, 0.05, "of the road 25 m ahead"),
        TelemetryField("half_width", "m", "value", 4.5, 6.5, "of the road, from its middle to its edge"),
        # Which part of the skyline the camera sees.
        *(
            field
            for times in COMPASS
            for field in angle_fields(f"compass_{times}", f"{times} times its direction")
        ),
        *(
            field
            for metres in PATTERNS_M
            for field in angle_fields(
                f"pattern_{metres}", f"the car's place in the road's {metres} m pattern"
            )
        ),
        TelemetryField("gate_near", "m", "value", -10.0, 10.0, "the nearest gate, told as a rival is"),
        *angle_fields("gate", "how much of the way to the next is done"),
        *(field for rival in range(RIVALS) for field in _rival(rival)),
        *PAINT_FIELDS,
    ),
    looks=LOOKS,
    masks=("car", "rival", "marking", "roadside"),
    movers=("rival",),
    lasting=("half_width", *(field.name for field in (*look_fields(LOOKS), *PAINT_FIELDS))),
    circles=circles(ANGLES),
    whole_units=(("lap", "progress"),),
)
