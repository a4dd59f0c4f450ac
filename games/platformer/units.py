"""Sizes and speeds of the platformer in whole numbers: pixels, frames and 1/256 pixels.

All game state is integer, so a world gives the same bytes on every device and in every batch.
Heights grow upwards from the level's floor line (the lower edge of tile row 0).
"""

TILE = 48
SUB = 256
"""Steps of a position or a speed per pixel."""

VIEW_W, VIEW_H = 720, 480
PARALLAX, PERIOD = (20, 45, 70), 1440
"""Speed of the hills' layers in percent of the play plane's, the farthest first; pixels after which each of
them repeats."""
ROWS = 14
SLOT = 12
"""Columns of one section; a level is a row of sections."""
FLAG_COLUMN = 7
"""Column of the goal flag's pole inside the last section."""
MIN_SLOTS, MAX_SLOTS = 9, 13
COLUMNS = SLOT * MAX_SLOTS

HERO_W, HERO_H = 36, 56
"""The hero's collision box in pixels (the drawing is 48 x 60)."""

RUN = 6 * SUB
ACCEL, AIR_ACCEL, FRICTION, AIR_FRICTION = 80, 68, 112, 24
JUMP = 15 * SUB + 128
JUMP_CUT = 6 * SUB
GRAVITY, FALL_GRAVITY, MAX_FALL = 166, 192, 15 * SUB
"""A full jump rises 3.8 tiles and lasts 46 frames: 5.7 tiles at full speed."""
BOUNCE, BOUNCE_HIGH = 9 * SUB, 14 * SUB
COYOTE, BUFFER = 5, 5

ENEMY_W, ENEMY_H = 38, 38
COIN = 36
COIN_WIDTHS, COIN_POSE_FRAMES = (36, 27, 11, 27), 7
"""Of a turning coin's poses, px, each shown so long."""
COIN_TURN_FRAMES = len(COIN_WIDTHS) * COIN_POSE_FRAMES
GAIT_POSES, GAIT_POSE = 4, 22
GAIT = GAIT_POSES * GAIT_POSE
"""Pixels of way in which the running hero's poses come round, and of each."""
PLATFORM_W, PLATFORM_H = 3 * TILE, 24

DEATH_FRAMES, CHEER_FRAMES, SQUASH_FRAMES, POP_FRAMES, STOMP_FRAMES = 42, 45, 24, 16, 12
START_LIVES = 5
CHECKPOINT_SLOTS = 2
"""A checkpoint (invisible) at the start of every second section: each 24 tiles."""
