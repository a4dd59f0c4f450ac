"""Figures of a long play: is the hero there, does anything move, do colours and sharpness hold, can one go
on? The same code judges dreams and the simulator: what it says of the simulator is the measure's own
error."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.training.evaluation.figures import mean
from engine.training.evaluation.long_play import Trace
from engine.training.reader import PICTURES, Reader, Readings
from games import GAMES

STILL = 0.003
"""Mean difference of two small pictures (0..1) below which nothing moved."""
ALIKE = 0.006
"""... below which two pictures, steps apart, are the same one again."""
LOOP_S = (1.0, 15.0)
LOOP_LASTS_S = 2.0
DYING_S = 1.2
"""A hero who dies may be out of the picture for so long."""
AT_ONCE = 256
"""Small pictures made floats at a time: ten minutes of them are half a gigabyte."""
GOING_S, LEAST_WAY = 5.0, {"racing": 5.0, "platformer": 2.0}
"""Whoever goes less far (metres, tiles) within so long is not getting anywhere."""
BLOCK_S = 15.0
"""Colours, sharpness and spread are compared between stretches of this length."""
BY_MINUTE = ("detected_by_minute", "drivable_by_minute")
SHARP_AFTER_S, SHARP_OVER_S = (10, 60, 600), 10
"""Gradient energy is told of the last seconds before each of these."""


@dataclass(frozen=True)
class Verdict:
    """One play's figures; None where they cannot be had. Differences and ratios are against minute one;
    BY_MINUTE are the fractions of its whole minutes; gradient_energy is that after each of SHARP_AFTER_S,
    None where the play is shorter."""

    detected_fraction: float | None
    freeze_max_s: float
    looped_fraction: float
    colour_drift: float | None
    drivable_fraction: float | None
    sharpness_last: float | None
    spread_last: float | None
    astray_last: float | None
    detected_by_minute: tuple[float | None, ...] = ()
    drivable_by_minute: tuple[float | None, ...] = ()
    gradient_energy: tuple[float | None, ...] = ()


def judge(trace: Trace, reader: Reader | None, device: str = "cpu") -> Verdict:
    """All figures of one play. device: where its pictures are looked at, which should be the reader's."""
    looks = torch.stack(trace.small).to(device)
    telemetry = torch.tensor([list(map(float, row)) for row in trace.telemetry])
    field = {f.name: telemetry[:, i] for i, f in enumerate(GAMES[trace.game].telemetry)}
    moving = torch.tensor(trace.moving)
    detected, fine = torch.zeros(0), torch.zeros(0)
    if reader and len(looks) >= PICTURES:
        reading = reader.read(looks, trace.stride)
        seen = torch.cat((reading.seen[:1].expand(PICTURES - 1), reading.seen)) > 0.5
        awaited = expected(trace.game, field, trace.stride)
        detected = seen.float().masked_fill(~awaited, float("nan"))
        # The dream's telemetry alone says that all is well long after the picture is lost, or stands still.
        witnessed = field | {"x": walked(reading, reader)} if "x" in reader.names else field
        fine = ((seen | ~awaited) & drivable(trace.game, witnessed, trace.stride)).float()
    colours = torch.cat([part.float().mean((2, 3)) / 255 for part in looks.split(AT_ONCE)]).cpu()
    return Verdict(
        mean(detected.tolist()),
        freeze(looks, moving & ~blocked(trace.game, field), trace.stride),
        looped(looks, trace.stride),
        colour_drift(colours, palettes(trace, field), trace.stride),
        mean(fine.tolist()),
        last_to_first(torch.tensor(trace.sharp), trace.stride),
        last_to_first(torch.tensor(trace.spread), trace.stride),
        strayed(trace),
        by_minute(detected, trace.stride),
        by_minute(fine, trace.stride),
        gradient_energy(trace.sharp, trace.stride),
    )


def by_minute(values: Tensor, stride: int) -> tuple[float | None, ...]:
    """values [T], one a step -> their mean in each whole minute; nan is left out."""
    minute = round(3600 / stride)
    return tuple(mean(part.tolist()) for part in values.split(minute) if len(part) == minute)


def gradient_energy(sharp: list[float], stride: int) -> tuple[float | None, ...]:
    """sharp: a play's, by step, nan where it was not measured -> its mean over the SHARP_OVER_S before each
    of SHARP_AFTER_S."""
    steps = lambda seconds: round(seconds * 60 / stride)  # noqa: E731
    return tuple(
        mean(sharp[steps(s - SHARP_OVER_S) + 1 : steps(s) + 1]) if len(sharp) > steps(s) else None
        for s in SHARP_AFTER_S
    )


def longest(flags: Tensor) -> int:
    """The longest run of True in bool [T]."""
    return int(runs(flags).max()) if len(flags) else 0


def runs(flags: Tensor) -> Tensor:
    """How many True in a row end at each place, int64 [T]."""
    places = torch.arange(len(flags), device=flags.device)
    return places - torch.where(flags, -1, places).cummax(0).values


def in_long_runs(flags: Tensor, least: int) -> Tensor:
    """The places that are in a row of `least` True or more, bool [T]."""
    return flags & (runs(flags) + runs(flags.flip(0)).flip(0) - 1 >= least)


def expected(game: str, field: dict[str, Tensor], stride: int) -> Tensor:
    """Steps in which the hero has to be in the picture, bool [T]."""
    if game == "racing":
        return torch.ones_like(field["speed"], dtype=torch.bool)
    dead = runs(field["alive"] < 0.5)
    return (dead == 0) | (dead * stride / 60 > DYING_S)


def walked(reading: Readings, reader: Reader) -> Tensor:
    """Tiles the hero has gone since the play began, as the pictures show it, [T]."""
    steps = reading.fields[:, reader.names.index("x")]
    return torch.cat((torch.zeros(PICTURES - 1), steps)).cumsum(0)


def drivable(game: str, field: dict[str, Tensor], stride: int) -> Tensor:
    """Steps in which one can go on, bool [T]: on the road (racing), and LEAST_WAY gone within GOING_S."""
    travelled = field["speed"].abs() * stride / 60 if game == "racing" else field["x"]
    steps = round(GOING_S * 60 / stride)
    on = torch.ones_like(travelled, dtype=torch.bool)
    if game == "racing":
        on = field["lateral"].abs() <= 1.2
        travelled = travelled.cumsum(0)
    if len(travelled) <= steps:
        return on
    spans = travelled.unfold(0, steps + 1, 1)
    going = (spans.amax(1) - spans.amin(1)) > LEAST_WAY[game]
    return on & torch.cat((torch.ones(steps, dtype=torch.bool), going))


def blocked(game: str, field: dict[str, Tensor]) -> Tensor:
    """Steps in which the hero stands against a wall, so that pressing on changes nothing, bool [T]."""
    if game == "racing":
        return torch.zeros_like(field["speed"], dtype=torch.bool)
    return (field["wall_ahead"] < 0.35) | (field["alive"] < 0.5)


def freeze(looks: Tensor, should_move: Tensor, stride: int) -> float:
    """looks uint8 [T, 3, 60, 90]. Seconds of the longest stretch without change although a button is held
    that makes one."""
    pairs = zip(looks[1:].split(AT_ONCE), looks[:-1].split(AT_ONCE))
    still = torch.cat([(a.float() - b.float()).abs().mean((1, 2, 3)) / 255 for a, b in pairs]) < STILL
    return longest(still.cpu() & should_move[1:]) * stride / 60


def looped(looks: Tensor, stride: int) -> float:
    """Share of steps inside a stretch of LOOP_LASTS_S or more that repeats, picture by picture, what was
    1 to 15 s before, while things move."""
    tiny = torch.cat([F.avg_pool2d(part.float() / 255, 3).flatten(1) for part in looks.split(AT_ONCE)])
    moves = F.pad((tiny[1:] - tiny[:-1]).abs().mean(1) > ALIKE, (1, 0))
    first, last = (round(s * 60 / stride) for s in LOOP_S)
    lasts = round(LOOP_LASTS_S * 60 / stride)
    inside = torch.zeros_like(moves)
    for lag in range(first, min(last, len(tiny) - 1) + 1):
        again = (tiny[lag:] - tiny[:-lag]).abs().mean(1) < ALIKE
        inside[lag:] |= in_long_runs(again & moves[lag:], lasts)
    return float(inside.float().mean())


def palettes(trace: Trace, field: dict[str, Tensor]) -> list[Tensor]:
    """Steps (int64) that should have the same colours, in order. In the simulator those of one look, told by
    its telemetry: its levels differ. A dream begins every level where it began itself, so all of it has the
    look of its opening, whatever it tells."""
    names = [f"look_{look}" for look in GAMES[trace.game].looks]
    told = torch.stack([field[name] for name in names]).argmax(0)
    if trace.dreamed:
        told = torch.zeros_like(told)
    return [(told == look).nonzero()[:, 0] for look in range(len(names))]


def colour_drift(colours: Tensor, parts: list[Tensor], stride: int) -> float | None:
    """colours [T, 3], a step's mean in 0..1. Largest distance, over channels and later blocks, of a block's
    mean from the mean of minute one (of each part; its first half where it is shorter than two minutes)."""
    block, drifts = round(BLOCK_S * 60 / stride), []
    for part in parts:
        inside = colours[part]
        base = min(round(3600 / stride), len(inside) // 2)
        if base < block:
            continue
        later = inside[base : base + (len(inside) - base) // block * block].unflatten(0, (-1, block)).mean(1)
        drifts.append(float((later - inside[:base].mean(0)).abs().max()))
    return max(drifts) if drifts else None


def last_to_first(values: Tensor, stride: int) -> float | None:
    """Mean over the last block by the mean over the first; nan is left out."""
    block = min(round(BLOCK_S * 60 / stride), len(values) // 2)
    begin, end = mean(values[:block].tolist()), mean(values[-block:].tolist())
    return end / begin if begin and end is not None else None


def strayed(trace: Trace) -> float | None:
    """How far astray the latents of the last block are, over how far true ones are."""
    last = mean(trace.astray[-round(BLOCK_S * 60 / trace.stride) :])
    return last / trace.astray_at_first if last is not None and trace.astray_at_first > 0 else None


def summary(verdicts: list[Verdict]) -> dict[str, Any]:
    """Over seeds: the worst of freeze_max_s, the mean of the others, minute by minute of BY_MINUTE;
    unrounded. Gradient energies mean something beside the simulator's only, see `sharpness_ratio`."""
    columns = {name: [asdict(v)[name] for v in verdicts] for name in asdict(verdicts[0])}
    del columns["gradient_energy"]
    minutes = {name: [mean(minute) for minute in zip(*columns.pop(name))] for name in BY_MINUTE}
    over_seeds = {name: max(c) if name == "freeze_max_s" else mean(c) for name, c in columns.items()}
    return over_seeds | minutes


def sharpness_ratio(dreamed: list[Verdict], real: list[Verdict]) -> dict[int, float | None]:
    """Gradient energy of dreams over that of the simulator in the same stretch of play, means over the same
    seeds, by SHARP_AFTER_S; None where either is shorter."""
    ratios: dict[int, float | None] = {}
    for i, second in enumerate(SHARP_AFTER_S):
        made, true = ([v.gradient_energy[i] for v in of] for of in (dreamed, real))
        above, below = mean(made), mean(true)
        known = None not in made and None not in true
        ratios[second] = above / below if known and above is not None and below else None
    return ratios
