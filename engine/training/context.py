"""What a world model is given in training in place of the truth: a past with the faults that a dream's has.

Its own outputs; noise everywhere, of a level it is told; parts of the picture that show something else for a
while, or no longer what moves by itself; telemetry that is wrong. Of the last two it is told nothing: it has
to see what contradicts the rest."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.config import WorldConfig
from engine.models.layers import perturb_on_sphere, to_sphere
from engine.models.world_model import Inputs
from engine.training.captured import Captured
from engine.training.data import Clips

NOISE = 0.5
"""Largest root mean square of the noise on context latents; a quarter of the clips have none."""
MISREAD, MISREAD_SHARE = 0.4, 0.05
"""Largest root mean square of a lasting error of the telemetry a clip is given, and how many of its fields
have one: telemetry is what a dream goes by where its picture went wrong, so it is mostly right."""
ADRIFT = 0.2
"""The same over what the field is worth, of fields that are a little off: where the picture shows the car,
and where it is told to be, drift apart if both are always the same in training."""
BLURRED = 0.004
"""Root mean square of a passing error of every field, over what the field is worth (engine.training.score):
what a pixel is worth must not drown in it."""
MISTOLD_SHARE = 0.3
"""How many clips are told what lies ahead in another clip (GameSpec.shown): what a dream tells of it and what
it draws part, and where they do it must go by the picture."""
STRAYED_SHARE = 0.6
"""How many clips have a part that shows something else."""
HAZED_SHARE, HAZE = 0.25, (0.1, 0.6)
"""How many of those show another clip all over, and how much of it: that is how a look changes."""


def noise_levels(count: int, device: str) -> Tensor:
    """Context noise for `count` clips, [count]."""
    level = torch.rand(count, device=device) * NOISE
    return torch.where(torch.rand_like(level) < 0.25, 0.0, level)


def noisy(latents: Tensor, level: Tensor) -> Tensor:
    """latents [B, T, C, H, W], level [B]."""
    return perturb_on_sphere(latents, level.view(-1, 1, 1, 1, 1), torch.randn_like(latents), dim=2)


def misread(telemetry: Tensor, worth: Tensor, share: float = MISREAD_SHARE, adrift: float = 0.0) -> Tensor:
    """telemetry [B, T, F] with small errors everywhere, the smaller the more a field is worth [F], and, in
    some fields of a clip, larger ones that last: a dream that believed what it once read would drift from
    what it shows. share, adrift: how many have one of up to MISREAD, and of ADRIFT over their worth."""
    one = telemetry[:, :1]
    wrong = (torch.rand_like(one) < share) * torch.rand_like(one) * MISREAD
    lasting, passing = torch.randn_like(one), torch.randn_like(telemetry)
    off = (torch.rand_like(one) < adrift) * ADRIFT / worth * torch.randn_like(one)
    return telemetry + wrong * (lasting + 0.5 * passing) + off + BLURRED / worth * torch.randn_like(telemetry)


def mistold(telemetry: Tensor, shown: Tensor, samples: int = 1, share: float = MISTOLD_SHARE) -> Tensor:
    """telemetry [B, T, F] whose fields of `shown` (bool [F]) are another clip's in some clips, from their
    begin or from some step on. samples: so many copies of all clips stand behind each other, and are told
    alike."""
    batch, steps = telemetry.shape[0] // samples, telemetry.shape[1]

    def chance() -> Tensor:
        return torch.rand(batch, 1, device=telemetry.device)

    begin = torch.where(chance() < 0.5, 0.0, chance() * steps)
    where = (torch.arange(steps, device=telemetry.device) >= begin) & (chance() < share)
    another = telemetry.unflatten(0, (samples, -1)).roll(1, 1).flatten(0, 1)
    return torch.where(where.repeat(samples, 1)[..., None] & shown, another, telemetry)


def strayed(latents: Tensor, samples: int = 1, share: float = STRAYED_SHARE) -> Tensor:
    """latents [B, T, C, H, W] where in some clips a rectangle shows another place of the same picture or
    another clip, more or less, or all of it another clip, faintly, from the clip's begin until some step,
    mostly all the time. samples: so many copies of all clips stand behind each other, and stray alike.

    A dream puts a tree where the road should go on, and then what it sees is a tree that comes nearer. Told
    the truth afterwards it learns to go by what the rest of the picture and the telemetry say."""
    batch, steps, _, height, width = latents.shape
    device = latents.device

    def drawn(low: int, high: int) -> Tensor:
        return _drawn(low, high, latents, samples)

    def chance() -> Tensor:
        return torch.rand(batch // samples, device=device).repeat(samples)[:, None, None, None, None]

    def span(size: int, least: int) -> Tensor:
        """[B, size], at least `least` long where the picture does not end first."""
        begin, long, at = drawn(1 - least, size), drawn(least, size + 1), torch.arange(size, device=device)
        return (at >= begin) & (at < begin + long)

    haze = chance() < HAZED_SHARE
    region = (span(height, 2)[:, :, None] & span(width, 4)[:, None, :]) | haze[:, 0, 0]
    during = torch.arange(steps, device=device) < drawn(2, 3 * steps)
    where = (during[:, :, None, None] & region[:, None])[:, :, None] & (chance() < share)
    aside = _turned(latents, drawn(2, width - 1))
    another = latents.unflatten(0, (samples, -1)).roll(1, 1).flatten(0, 1)
    shown = torch.where(haze | (chance() < 0.5), another, aside)
    faint, clear = HAZE[0] + (HAZE[1] - HAZE[0]) * chance(), 0.3 + 0.7 * chance()
    return to_sphere(latents + (shown - latents) * torch.where(haze, faint, clear) * where, dim=2)


def faded(latents: Tensor, movers: Tensor, samples: int = 1, share: float = 0.0) -> Tensor:
    """latents [B, T, C, H, W] where in some clips what moves by itself is gone from some step on, mostly from
    the begin: its tokens and those around, movers [B, T, H, W], show another place of the same rows. samples:
    so many copies of all clips stand behind each other, and fade alike.

    A dream draws a rival less and less until it is gone, while its telemetry goes on telling of it. Told the
    truth afterwards it learns to draw what it is told."""
    batch, steps, _, _, width = latents.shape
    chance = torch.rand(batch // samples, 1, device=latents.device).repeat(samples, 1)
    begin = _drawn(-steps, steps, latents, samples)
    gone = (torch.arange(steps, device=latents.device) >= begin) & (chance < share)
    there = F.max_pool2d(movers.flatten(0, 1)[:, None], 3, 1, 1).view_as(movers) > 0
    aside = _turned(latents, _drawn(3, width - 2, latents, samples))
    return torch.where((there & gone[:, :, None, None])[:, :, None], aside, latents)


def _drawn(low: int, high: int, latents: Tensor, samples: int) -> Tensor:
    """A whole number from low to high - 1 for each clip, [B, 1], the same for its copies."""
    return torch.randint(low, high, (len(latents) // samples, 1), device=latents.device).repeat(samples, 1)


def _turned(latents: Tensor, by: Tensor) -> Tensor:
    """latents [B, T, C, H, W] whose columns are turned by so many, [B, 1]."""
    width = latents.shape[4]
    columns = (torch.arange(width, device=latents.device) + by) % width
    return latents.gather(4, columns[:, None, None, None, :].expand_as(latents))


def conditions(config: WorldConfig, clips: Clips, telemetry: Tensor, level: Tensor) -> Inputs:
    """The model's, for steps 0..T-1 of clips, a new random vector each. telemetry [B, T, F], level [B]
    context noise."""
    batch, steps = telemetry.shape[:2]
    return Inputs(
        buttons=clips.buttons[:, 2:],
        strides=clips.strides[:, 2:],
        telemetry=telemetry,
        context_noise=level[:, None].expand(batch, steps),
        noise=torch.randn(batch, steps, config.noise, device=telemetry.device),
    )


class OwnPast:
    """Clips whose past is what the model itself would have made of it."""

    def __init__(self, model: Callable, config: WorldConfig) -> None:
        self.model, self.config = model, config
        self.one = Captured(self._one)

    @torch.no_grad()
    def __call__(self, clips: Clips, level: Tensor, passes: int) -> tuple[Tensor, Tensor]:
        """Latents [B, T+1, C, H, W] (steps -1 to T-1) and telemetry [B, T, F], true up to a random step of
        each clip. passes: the depth of rollout whose errors they carry; 0 is the truth."""
        # Contiguous, as all later passes': another layout would be compiled anew, maybe while it is captured.
        latents, told = clips.latents[:, :-1].contiguous(), clips.telemetry[:, 1:-1].contiguous()
        steps = latents.shape[1] - 1
        begin = torch.randint(0, steps // 2, (len(latents), 1), device=latents.device)
        keep = torch.arange(-1, steps, device=latents.device) <= begin
        for _ in range(passes):
            latents, told = self.one(latents, told, level, keep, *vars(clips).values())
        return latents, told

    @torch.no_grad()
    def _one(
        self, latents: Tensor, told: Tensor, level: Tensor, keep: Tensor, *parts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """All positions predicted from what they are given now; the predictions are given next."""
        clips = Clips(*parts)
        truth, telemetry = clips.latents[:, :-1], clips.telemetry[:, 1:-1]
        given = noisy(latents, level)
        with mixed(latents.device.type):
            made, read = self.model(given[:, 1:], given[:, :-1], conditions(self.config, clips, told, level))
        latents = torch.where(keep[..., None, None, None], truth, torch.cat((truth[:, :2], made[:, :-1]), 1))
        return latents, torch.where(
            keep[:, 1:, None], telemetry, torch.cat((telemetry[:, :1], read[:, :-1]), 1)
        )


def mixed(device: str) -> torch.autocast:
    """bfloat16 products on a GPU. Nothing is cached: a captured graph could not find it again."""
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda", cache_enabled=False)
