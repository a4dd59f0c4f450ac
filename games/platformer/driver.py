"""Scripted players for data: one reactive player, and ways to play worse, elsewhere or for fun.

All randomness is a hash of (driver seed, decision number), so a driver gives the same buttons in any batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from games.noise import hash_bits
from games.platformer.senses import Ahead, look_ahead
from games.platformer.spec import Buttons
from games.platformer.state import State
from games.platformer.units import COIN, HERO_W, SUB, TILE
from games.select import either

if TYPE_CHECKING:
    from games.platformer.world import World

WEIGHTS = {
    "skilled": 30, "speedrunner": 10, "sloppy": 22, "explorer": 9, "jumper": 6, "pit_diver": 3,
    "enemy_toucher": 4, "idle": 4, "back_runner": 5, "masher": 4, "wall_hugger": 3,
}  # fmt: skip
FULL_HOLD = 25
"""Frames a jump must be held to rise all the way."""


@dataclass(frozen=True)
class Wish:
    """What the reactive player would do: direction -1..1, start a jump now, hold it for so many frames."""

    direction: Tensor
    jump: Tensor
    hold: Tensor


def skilled_wish(state: State, ahead: Ahead, timing: Tensor) -> Wish:
    """Run the way the hero faces, jump gaps, steps and enemies; `timing` in px moves every take-off."""
    speed = state.vx.abs() * 60 // SUB  # px a second
    level_enemy = ahead.enemy_height.abs() < TILE
    gap = (ahead.gap_width > 0) & (ahead.gap <= 10 + timing)
    wall = (ahead.wall_height > 0) & (ahead.wall <= 14 + speed // 7 + timing)
    # A wall beyond a pit is a matter of the jump over the pit.
    wall &= (ahead.wall < ahead.gap) | gap
    enemy = level_enemy & (ahead.enemy < 26 + speed * 3 // 16 + timing)
    landing_up = (ahead.wall <= ahead.gap + ahead.gap_width + TILE) & (ahead.wall_height > 0)
    # A tapped jump lasts 21 frames, each frame of holding adds about two.
    flight = (ahead.gap + ahead.gap_width + 28) * 60 // speed.clamp(min=150)
    width = either(gap, (flight - 21) * 3 // 5 + 2, 0)
    reach = either(gap, 4 + ahead.gap_width * 4 // TILE, 0)
    climb = either(wall | (gap & landing_up), 6 + ahead.wall_height * 7 // TILE + reach, 0)
    hop = either(enemy, either(ahead.enemy_spiked, 18, 4), 0)
    hold = torch.maximum(torch.maximum(width, climb), hop).clamp(2, FULL_HOLD)
    brake = (state.grounded == 0) & _falls_short(state, ahead)
    return Wish(either(brake, -state.vx.sign(), state.facing), gap | wall | enemy, hold)


def _falls_short(state: State, ahead: Ahead) -> Tensor:
    """In the air over ground, and the landing will be in the pit behind it: better brake. bool [B]."""
    vy, g = state.vy.to(torch.float32) / SUB, 0.72
    height = (state.y // SUB - ahead.below).clamp(min=0).to(torch.float32)
    frames = (vy + torch.sqrt((vy * vy + 2 * g * height).clamp(min=0))) / g
    speed = state.vx.abs().to(torch.float32) / SUB
    lands = (speed * frames).to(torch.int64)
    into = (lands > ahead.gap + 8) & (lands < ahead.gap + ahead.gap_width - 4)
    # Or the far side is higher, and the hero will be below its edge when he gets there.
    later = ahead.wall.to(torch.float32) / speed.clamp(min=0.5)
    rises = vy * later - g / 2 * later * later
    beyond = (
        (ahead.wall_height > 0)
        & (ahead.wall >= ahead.gap)
        & (ahead.wall < ahead.gap + ahead.gap_width + TILE)
    )
    into |= beyond & (lands > ahead.gap + 8) & (rises < ahead.wall_height)
    return into & (ahead.gap_width > 0) & (ahead.gap > 0) & (ahead.below >= 0) & (state.vx.abs() > SUB // 2)


class Drivers:
    """B scripted players (games.world.Drivers); each changes its style every 4 to 15 seconds."""

    STYLES = tuple(WEIGHTS)

    def __init__(self, seeds: Tensor, device: str = "cpu", style: str | None = None) -> None:
        """seeds: int64 [B]; `style` fixes one of STYLES for all; ValueError if it is not there."""
        self.seeds = seeds.to(device=device, dtype=torch.int64)
        self._fixed = None if style is None else self.STYLES.index(style)
        weights = torch.tensor([WEIGHTS[s] for s in self.STYLES], device=device)
        self._bounds = weights.cumsum(0)
        self._frame = torch.zeros_like(self.seeds)
        self._epoch = torch.zeros_like(self.seeds)
        self._until = torch.zeros_like(self.seeds)
        self._hold = torch.zeros_like(self.seeds)
        self.style = torch.zeros_like(self.seeds)

    def act(self, world: World) -> Tensor:
        """Buttons for the next frame, int64 [B]."""
        state = world.state
        self._choose_style()
        ahead = look_ahead(world.level, state)
        wish = self._styled(world, ahead)
        free = (self._hold <= 0) & (state.held == 0) & (state.coyote > 0)
        self._hold = either(wish.jump & free, wish.hold, self._hold)
        pressed = (self._hold > 0).long()
        self._hold = (self._hold - 1).clamp(min=0)
        self._frame = self._frame + 1
        direction = either(wish.direction > 0, int(Buttons.RIGHT), 0)
        direction = either(wish.direction < 0, int(Buttons.LEFT), direction)
        buttons = direction + pressed * int(Buttons.JUMP)
        random = self._dice(9, self._frame // 7)
        return either(self._is("masher"), (random & 7) | ((random >> 8) & 2), buttons)

    def _dice(self, purpose: int, counter: Tensor) -> Tensor:
        """32 bits of this driver for a purpose and a counter [B]."""
        return hash_bits(self.seeds, torch.full_like(self.seeds, purpose), counter)

    def _is(self, style: str) -> Tensor:
        return self.style == self.STYLES.index(style)

    def _choose_style(self) -> None:
        due = self._frame >= self._until
        self._epoch = self._epoch + due.long()
        self._until = either(due, self._frame + 240 + self._dice(1, self._epoch) % 660, self._until)
        if self._fixed is not None:
            self.style = torch.full_like(self.style, self._fixed)
            return
        draw = self._dice(2, self._epoch) % self._bounds[-1]
        self.style = either(due, torch.searchsorted(self._bounds, draw, right=True), self.style)

    def _styled(self, world: World, ahead: Ahead) -> Wish:
        """The skilled player's wish, changed by each driver's style."""
        state, beat = world.state, self._frame // 40
        mood = self._dice(3, beat)
        # Sloppy: take-offs up to half a tile late or a tile early, and short presses now and then.
        timing = either(self._is("sloppy"), (mood >> 4) % 70 - 22, 0)
        wish = skilled_wish(state, ahead, timing)
        hold = either(self._is("sloppy") & (mood % 5 == 0), wish.hold // 2 + 2, wish.hold)
        jump = wish.jump
        skips = self._is("pit_diver") & (ahead.gap <= 10)
        skips |= self._is("enemy_toucher") & (ahead.enemy < 3 * TILE)
        skips |= self._is("wall_hugger") & (mood % 4 != 0)
        skips |= self._is("sloppy") & (mood % 11 == 0)
        jump = jump & ~skips
        hops = self._is("jumper") | (self._is("explorer") & (mood % 3 == 0)) | self._coin_above(world, mood)
        hold = either(hops & ~jump, 6 + (mood >> 9) % 20, hold)
        return Wish(self._heading(state, ahead, wish, mood), jump | hops, hold)

    def _coin_above(self, world: World, mood: Tensor) -> Tensor:
        """A skilled player jumps for a coin overhead, most times."""
        x, y = world.state.x[:, None] // SUB, world.state.y[:, None] // SUB
        left, bottom, present = world.level.coin.unbind(-1)
        ahead = (left - x - HERO_W // 2 + COIN // 2) * world.state.facing[:, None]
        above = bottom - y
        near = (ahead > 0) & (ahead < 2 * TILE) & (above > TILE) & (above < 4 * TILE + TILE // 2)
        near &= (present == 1) & (world.state.coin == 0)
        return near.any(1) & self._is("skilled") & (mood % 3 != 0) & (world.state.grounded == 1)

    def _heading(self, state: State, ahead: Ahead, wish: Wish, mood: Tensor) -> Tensor:
        """Direction after style: most run right, some back and forth, some stand."""
        slow = self._dice(4, self._frame // 110)
        right = torch.ones_like(state.x)
        goal = either(self._is("explorer"), either(slow % 8 < 3, -1, 1), right)
        goal = either(self._is("back_runner"), either(slow % 8 < 6, -1, 1), goal)
        goal = either(self._is("idle"), either(mood % 9 == 0, (mood >> 8) % 3 - 1, 0), goal)
        pauses = self._is("sloppy") & (mood % 17 == 3)
        goal = either(pauses, 0, goal)
        braking = (wish.direction != state.facing) & ~self._is("pit_diver")
        return either(braking & (goal == state.facing), wish.direction, goal)
