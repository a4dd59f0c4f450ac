"""Racing: constants, buttons, telemetry. No torch."""

from enum import IntFlag

from games.spec import GameSpec, TelemetryField, look_fields


class Buttons(IntFlag):
    LEFT = 1
    RIGHT = 2
    THROTTLE = 4
    BRAKE = 8


LOOKS = ("alpine", "desert", "neon")
PATTERNS_M = (24, 12)
"""Periods of what is painted on ground and road; kerbs have half the smaller."""


def _rival_lateral(rival: str) -> TelemetryField:
    meaning = "that rival's offset minus the car's; 0 when none"
    return TelemetryField(f"{rival}_lateral", "half road widths", "value", -3.0, 3.0, meaning)


def _rival_speed(rival: str, whose: str) -> TelemetryField:
    return TelemetryField(
        f"{rival}_speed", "m/s", "value", -60.0, 60.0, f"{whose} minus the car's; 0 when none"
    )


def _wave(metres: int, name: str) -> TelemetryField:
    meaning = f"{name} of the car's place in the road's {metres} m pattern"
    return TelemetryField(f"pattern_{metres}_{name}", "", "value", -1.0, 1.0, meaning)


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
            "rival_gap", "m", "value", 0.0, 60.0, "to the nearest rival ahead; 60 when there is none nearer"
        ),
        _rival_lateral("rival"),
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
        *(_wave(metres, name) for metres in PATTERNS_M for name in ("sin", "cos")),
        _rival_speed("rival", "the nearest rival ahead's"),
        TelemetryField(
            "other_gap",
            "m",
            "value",
            -10.0,
            60.0,
            "to the next other rival, beside the car or ahead; 60 when none",
        ),
        _rival_lateral("other"),
        _rival_speed("other", "that rival's"),
    ),
    looks=LOOKS,
    masks=("car", "rival", "marking", "roadside"),
    movers=("rival",),
    lasting=tuple(field.name for field in look_fields(LOOKS)),
)
