"""Platformer: constants, buttons, telemetry. No torch."""

from enum import IntFlag

from games.platformer.units import (
    CHECKPOINT_SLOTS,
    CHEER_FRAMES,
    COIN_TURN_FRAMES,
    FLAG_COLUMN,
    GAIT,
    HERO_W,
    PARALLAX,
    SLOT,
    TILE,
)
from games.spec import GameSpec, Respawn, TelemetryField, angle_fields, circles, look_fields


class Buttons(IntFlag):
    LEFT = 1
    RIGHT = 2
    JUMP = 4


LOOKS = ("meadow", "cavern", "city")

LAYERS_TOLD = (1, 4)
"""A layer's place is told so many times over: the first knows the whole period, the last a pixel."""
ANGLES = {
    **{
        f"layer_{layer}_{times}": f"{times} times the place of the picture in the hills' layer {layer}, the "
        "farthest first"
        for layer in range(len(PARALLAX))
        for times in LAYERS_TOLD
    },
    "tile": f"the picture's place in tiles of {TILE} px",
    "gait": f"the hero's place in his four poses of {GAIT} px",
    "coin": f"the time in a coin's turn of {COIN_TURN_FRAMES} frames",
}
"""What is told by sine and cosine. A dream sees a second back: of hills that it has left it knows by these
what they were."""

SPEC = GameSpec(
    name="platformer",
    title="Platformer",
    buttons=Buttons,
    keys={
        "LEFT": ("left", "a"),
        "RIGHT": ("right", "d"),
        "JUMP": ("up", "w", "space"),
    },
    telemetry=(
        TelemetryField(
            "x", "tiles", "count", -0.2, 0.2, "distance run from the level's start; grows over levels"
        ),
        TelemetryField(
            "y", "tiles", "value", -2.0, 12.0, "height of the hero's feet above the level's floor line"
        ),
        TelemetryField("vx", "tiles/s", "value", -12.0, 12.0, "right positive"),
        TelemetryField("vy", "tiles/s", "value", -20.0, 20.0, "up positive"),
        TelemetryField("grounded", "", "flag", 0.0, 1.0, "stands on a tile or platform"),
        TelemetryField("alive", "", "flag", 0.0, 1.0, "0 while the death animation plays"),
        TelemetryField("progress", "", "value", 0.0, 1.0, "share of the level's length passed"),
        TelemetryField(
            "gap_ahead",
            "tiles",
            "value",
            0.0,
            10.0,
            "to the near edge of the next pit in the facing direction; 10 when none",
        ),
        TelemetryField(
            "gap_width", "tiles", "value", 0.0, 10.0, "of that pit, to where one can stand next; 0 when none"
        ),
        TelemetryField(
            "wall_ahead",
            "tiles",
            "value",
            0.0,
            10.0,
            "to the next step up in the facing direction; 10 when none",
        ),
        TelemetryField("wall_height", "tiles", "value", 0.0, 6.0, "of that step up; 0 when none"),
        TelemetryField(
            "enemy_ahead",
            "tiles",
            "value",
            0.0,
            10.0,
            "to the next enemy in the facing direction; 10 when none",
        ),
        TelemetryField(
            "enemy_height", "tiles", "value", -5.0, 5.0, "that enemy's feet above the hero's; 0 when none"
        ),
        TelemetryField("enemy_spiked", "", "flag", 0.0, 1.0, "that enemy cannot be stomped"),
        TelemetryField("coins", "coins", "event", -1.0, 1.0, "collected so far"),
        TelemetryField(
            "lives",
            "lives",
            "event",
            -1.0,
            1.0,
            "left; a fall or a touch costs one, none left restarts the first level",
        ),
        TelemetryField("level", "levels", "event", -1.0, 1.0, "finished so far"),
        *look_fields(LOOKS),
        # What moves the picture by pixels from one step to the next; a player sees no number of it.
        TelemetryField("faces_right", "", "flag", 0.0, 1.0, "the hero looks right, else left"),
        TelemetryField(
            "camera_ahead",
            "tiles",
            "value",
            -7.5,
            7.5,
            "of the picture's middle from the hero, right positive",
        ),
        TelemetryField(
            "camera_height", "tiles", "value", 0.0, 4.0, "of the picture's lower edge above the floor line"
        ),
        *(field for angle, meaning in ANGLES.items() for field in angle_fields(angle, meaning)),
    ),
    looks=LOOKS,
    respawn=Respawn(
        alive="alive",
        stands="grounded",
        lives="lives",
        level="level",
        place="x",
        every=CHECKPOINT_SLOTS * SLOT,
        progress="progress",
        height="y",
        lowest=0.5,
        goal=SLOT - FLAG_COLUMN + HERO_W / TILE,
        finish_frames=CHEER_FRAMES,
    ),
    shown=(
        "gap_ahead",
        "gap_width",
        "wall_ahead",
        "wall_height",
        "enemy_ahead",
        "enemy_height",
        "enemy_spiked",
    ),
    masks=("player", "enemy", "coin", "platform"),
    movers=("enemy",),
    circles=circles(ANGLES),
)
