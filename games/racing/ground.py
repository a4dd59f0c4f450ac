"""The background of a picture: panorama above, road and land below, per pixel and band-limited.

Every pixel of the ground is cast onto the plane, placed on its road (s, lateral), and painted by bands and
square waves that are averaged over the pixel's footprint there: nothing aliases, everything fades to haze.
On a GPU `backdrop` is compiled into fused kernels; on the CPU it runs as it stands, one world at a time.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from games.racing.looks import LOOKS
from games.racing.skyline import COLUMNS, FOCAL_PX, HORIZON_ROW, ROWS, TURN_PX
from games.racing.track import Track

WIDTH, HEIGHT = 720, 480
CENTRE = WIDTH / 2
FAR_M = 1200.0
HAZE_M, HAZE_MOST = 150.0, 0.93
PATTERN_M = 72.0
"""All patterns along the road repeat within this; the track's length counts as a whole number of it."""
COLOURS = ("ground", "stripe", "shoulder", "road", "line", "kerb_a", "kerb_b", "haze")


@dataclass(frozen=True)
class Camera:
    """[B]: x, y, height m; sin, cos of the view's heading, and that; horizon px at the middle column;
    roll (rise of the horizon per pixel to the right; a shear, so that upright things stay upright);
    car_x, car_y m and sin, cos of the car's heading: where the headlights are; look int64."""

    x: Tensor
    y: Tensor
    height: Tensor
    sin: Tensor
    cos: Tensor
    view: Tensor
    horizon: Tensor
    roll: Tensor
    car_x: Tensor
    car_y: Tensor
    car_sin: Tensor
    car_cos: Tensor
    look: Tensor


def haze_at(z: Tensor) -> Tensor:
    """Share of the haze colour at distance z m."""
    return HAZE_MOST * (1.0 - torch.exp(-z / HAZE_M))


def backdrop(
    cam: Camera,
    track: Track,
    palette: Tensor,
    lamp: Tensor,
    panorama: Tensor,
    sky_end: int,
    ground_start: int,
    lamps: bool,
) -> tuple[Tensor, Tensor]:
    """Pictures float32 [B, 3, 480, 720] and where road markings are, bool [B, 480 - ground_start, 720].

    palette [B, len(COLOURS), 3]; lamp [B]; panorama as skyline.panoramas. Rows from `sky_end` on are ground,
    rows before `ground_start` are sky; `lamps` False leaves the night's lights out.
    """
    ground, below, marking = _ground(cam, track, palette, lamp, ground_start, lamps)
    sky = _sky(cam, panorama, sky_end)
    seam = sky_end - ground_start
    cover = (below[:, None, :seam] + 0.5).clamp(0.0, 1.0)
    mixed = torch.lerp(sky[:, :, ground_start:], ground[:, :, :seam], cover)
    return torch.cat([sky[:, :, :ground_start], mixed, ground[:, :, seam:]], 2), marking


def _sky(cam: Camera, panorama: Tensor, end: int) -> Tensor:
    """Rows 0..end of the panorama as it is turned now, [B, 3, end, 720]."""
    device = cam.x.device
    x = torch.arange(WIDTH, device=device) + (0.5 - CENTRE)
    y = torch.arange(end, device=device) + 0.5
    turn = torch.remainder(cam.view[:, None] * FOCAL_PX + torch.atan(x / FOCAL_PX) * FOCAL_PX, float(TURN_PX))
    row = y[:, None] + (cam.roll[:, None] * x)[:, None] + (HORIZON_ROW - cam.horizon)[:, None, None]
    row = row.clamp(0.5, ROWS - 0.5) + (cam.look * ROWS)[:, None, None]
    u = ((turn + 0.5) * (2.0 / COLUMNS) - 1.0)[:, None].expand_as(row)
    v = row * (2.0 / (ROWS * len(LOOKS))) - 1.0
    batch = cam.x.shape[0]
    grid = torch.stack([u, v], -1).view(1, batch * end, WIDTH, 2)
    sky = F.grid_sample(panorama, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sky.view(3, batch, end, WIDTH).transpose(0, 1)


def _ground(
    cam: Camera, track: Track, palette: Tensor, lamp: Tensor, start: int, lamps: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows from `start` down: colour [B, 3, R, 720], pixels below the horizon and marking [B, R, 720]."""
    device = cam.x.device

    def wide(v: Tensor) -> Tensor:
        return v[:, None, None]

    x = torch.arange(WIDTH, device=device) + (0.5 - CENTRE)
    y = torch.arange(start, HEIGHT, device=device) + 0.5
    below = (y[:, None] - wide(cam.horizon)) + wide(cam.roll) * x
    z = (wide(cam.height * FOCAL_PX) / below.clamp(min=0.25)).clamp(max=FAR_M)
    across = z * (1.0 / FOCAL_PX)  # metres per pixel to the right, and into the picture
    right = across * x
    into = z * across / wide(cam.height)
    sin, cos = wide(cam.sin), wide(cam.cos)
    px, py = wide(cam.x) + sin * z + cos * right, wide(cam.y) + cos * z - sin * right

    road = track.locate(px, py)
    ahead = (road.tx * sin + road.ty * cos).abs()
    aside = (road.tx * cos - road.ty * sin).abs()
    print_s = ahead * into + aside * across
    print_l = aside * into + ahead * across
    colour, marking = _surface(road.s, road.lateral, print_s, print_l, track, palette, lamp, lamps)
    if lamps:
        light = _headlights(cam, px, py) * wide(lamp)
        colour = colour * (1.0 + 1.25 * light)[:, None] + light[:, None] * torch.tensor(
            [16.0, 15.0, 20.0], device=device
        ).view(3, 1, 1)
    haze = palette[:, COLOURS.index("haze")][:, :, None, None]
    return torch.lerp(colour, haze, haze_at(z)[:, None]), below, marking


def pattern(track: Track) -> tuple[Tensor, Tensor]:
    """A lap has a whole number of patterns: its length by them in m, and what to multiply s by, [B] each."""
    laps = (track.length / PATTERN_M).round().clamp(min=1.0) * PATTERN_M
    return laps, laps / track.length


def _surface(
    s: Tensor,
    lateral: Tensor,
    print_s: Tensor,
    print_l: Tensor,
    track: Track,
    palette: Tensor,
    lamp: Tensor,
    lamps: bool,
) -> tuple[Tensor, Tensor]:
    """Colour [B, 3, R, W] and marking [B, R, W] of points on their road, averaged over their footprint."""

    def paint(name: str) -> Tensor:
        return palette[:, COLOURS.index(name)][:, :, None, None]

    half = track.half_width[:, None, None]
    laps, stretch = pattern(track)
    s = s * stretch[:, None, None]
    side = lateral.abs()
    inv_s, inv_l = 1.0 / print_s, 1.0 / print_l

    def wave(period: float, share: float) -> Tensor:
        return _wave(s, print_s, period, share)

    def band(at: Tensor, first: Tensor | float, last: Tensor | float) -> Tensor:
        return _band(at, print_l, first, last)

    land_wave = wave(24.0, 0.5)
    calm = (1.7 - side * (1.0 / 26.0)).clamp(0.0, 1.0)  # far from the road the stripes end
    land = torch.lerp(paint("ground"), paint("stripe"), (0.5 + (land_wave - 0.5) * calm)[:, None])
    shoulder = ((half + 2.6 - side) / (print_l + 0.9) + 0.5).clamp(0.0, 1.0)
    colour = torch.lerp(land, paint("shoulder"), shoulder[:, None])
    tone = torch.lerp(paint("road"), paint("line"), 0.045 * wave(36.0, 0.5)[:, None])
    on_road = ((half - side) * inv_l + 0.5).clamp(0.0, 1.0)
    colour = torch.lerp(colour, tone, on_road[:, None])

    line = band(side, half - 0.78, half - 0.54)
    dash = band(lateral, -0.12, 0.12) * wave(12.0, 1.0 / 3.0)
    from_start = torch.where(s > 0.5 * laps[:, None, None], s - laps[:, None, None], s) - 5.0
    grid = ((0.9 + 0.5 * print_s - from_start.abs()) * inv_s).clamp(0.0, 1.0) * on_road
    white = torch.maximum(torch.maximum(line, dash), grid)
    colour = torch.lerp(colour, paint("line"), 0.94 * white[:, None])

    kerb = band(side, half - 0.12, half + 0.78)
    kerb_tone = torch.lerp(paint("kerb_a"), paint("kerb_b"), wave(6.0, 0.5)[:, None])
    colour = torch.lerp(colour, kerb_tone, kerb[:, None])
    if lamps:  # what glows, lights the ground beside it
        near = torch.exp(-(((side - half - 0.3) / (1.5 + print_l)) ** 2))
        glow = near * 0.22 * lamp[:, None, None] * (1.0 - kerb)
        colour = colour + glow[:, None] * kerb_tone
    return colour, torch.maximum(white, kerb) > 0.5


def _wave(s: Tensor, print_s: Tensor, period: float, share: float) -> Tensor:
    """A square wave along the road at `s`: 1 for `share` of each period, averaged over the footprint
    `print_s` (metres, both [B, R, W])."""
    a, b = (s - 0.5 * print_s) * (1.0 / period), (s + 0.5 * print_s) * (1.0 / period)
    fa, fb = a.floor(), b.floor()
    sum_a = torch.add((a - fa).clamp(max=share), fa, alpha=share)
    sum_b = torch.add((b - fb).clamp(max=share), fb, alpha=share)
    return (sum_b - sum_a) * (period * (1.0 / print_s))


def _band(at: Tensor, print_l: Tensor, first: Tensor | float, last: Tensor | float) -> Tensor:
    """1 where `at` lies between two offsets, averaged over the footprint `print_l` (metres, both
    [B, R, W])."""
    reach = 0.5 * print_l
    upper = torch.minimum(at + reach, torch.as_tensor(last))
    lower = torch.maximum(at - reach, torch.as_tensor(first))
    return (upper - lower).clamp(min=0.0) * (1.0 / print_l)


def _headlights(cam: Camera, px: Tensor, py: Tensor) -> Tensor:
    """Light of the player's two lamps on the ground, about 0..1."""
    dx, dy = px - cam.car_x[:, None, None], py - cam.car_y[:, None, None]
    sin, cos = cam.car_sin[:, None, None], cam.car_cos[:, None, None]
    along, aside = dx * sin + dy * cos - 1.2, dx * cos - dy * sin
    spread = 1.5 + 0.17 * along.clamp(min=0.0)
    reach = torch.sigmoid(along * 0.9) * torch.exp(-along.clamp(min=0.0) * (1.0 / 34.0))
    return torch.exp(-((aside / spread) ** 2)) * reach
