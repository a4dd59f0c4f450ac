"""The reader: a small network that reads a game's state, the buttons held and the hero off pictures.

It never sees a latent or a dream while it learns, only the simulators' pictures, so what it reads off a dream
is what a player would. Three pictures at 1/8 of the resolution, one step apart: from them it tells the
state at the last one, the share of the last step each button was held, and whether the player's car or hero
is in the last picture. engine/training/probes.py trains it, engine/training/evaluate.py uses it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from engine.models.stored import file_name
from engine.models.telemetry import TelemetryScale
from engine.models.weights import SHIPPED, WeightsError, fill, stored
from games import GAMES

PROBES = {
    "racing": ("speed", "lateral", "heading_error"),
    "platformer": ("x", "y", "grounded", "alive"),
}
"""Telemetry fields that can be read off pictures; a count (x) is read as its change over the last step."""
SCALE = 8
ROWS, COLUMNS = 480 // SCALE, 720 // SCALE
PICTURES = 3


@dataclass(frozen=True)
class Readings:
    """fields [B, S] in units (a count: its change over the last step), in PROBES' order; buttons [B, N] the
    chance that each was held; seen [B] the chance that the car or hero is there; features [B, 160] what the
    net made all that of."""

    fields: Tensor
    buttons: Tensor
    seen: Tensor
    features: Tensor


class ReaderNet(nn.Module):
    """pictures float [B, 3, 3, 60, 90] in 0..1, oldest first; strides [B] -> scaled fields [B, S], button
    logits [B, N], presence logit [B]."""

    def __init__(self, fields: int, buttons: int, widths: tuple[int, int, int] = (32, 64, 96)) -> None:
        super().__init__()
        a, b, c = widths
        self.fields, self.buttons = fields, buttons
        self.body = nn.Sequential(
            nn.Conv2d(10, a, 5, 2, 2), nn.GroupNorm(4, a), nn.SiLU(),
            nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(4, b), nn.SiLU(),
            nn.Conv2d(b, c, 3, 2, 1), nn.GroupNorm(4, c), nn.SiLU(),
            nn.Conv2d(c, c, 3, 1, 1), nn.GroupNorm(4, c), nn.SiLU(),
            nn.Conv2d(c, 16, 1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(16 * 8 * 12, 160), nn.SiLU())
        self.out = nn.Linear(160, fields + buttons + 1)

    def features(self, pictures: Tensor, strides: Tensor) -> Tensor:
        """[B, 160], from which everything is told."""
        before, middle, after = pictures.unbind(1)
        plane = (strides.to(after) / 8).view(-1, 1, 1, 1).expand(-1, 1, ROWS, COLUMNS)
        # Motion of less than a small pixel is a faint difference: amplified, it need not be found first.
        planes = [after * 2 - 1, 4 * (after - middle), 4 * (middle - before), plane]
        return self.head(self.body(torch.cat(planes, 1)))

    def told(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fields, buttons, seen = self.out(features).split([self.fields, self.buttons, 1], 1)
        return fields, buttons, seen[:, 0]

    def forward(self, pictures: Tensor, strides: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.told(self.features(pictures, strides))


def small(pictures: Tensor) -> Tensor:
    """uint8 [B, 480, 720, 3] -> float [B, 3, 60, 90] in 0..1: what the reader looks at."""
    rows = pictures.view(-1, ROWS, SCALE, COLUMNS, SCALE * 3).float().sum(2)  # 15 times as fast as avg_pool2d
    return rows.view(-1, ROWS, COLUMNS, SCALE, 3).sum(3).permute(0, 3, 1, 2) / (255 * SCALE**2)


def new_net(game: str) -> ReaderNet:
    return ReaderNet(len(PROBES[game]), GAMES[game].n_buttons)


class Reader:
    """A trained net of one game, on any device; takes small pictures, answers in units on the CPU."""

    def __init__(self, game: str, net: ReaderNet, facts: dict[str, Any] | None = None) -> None:
        self.game, self.net, self.facts = game, net.eval(), facts or {}
        self.names = PROBES[game]
        spec = GAMES[game]
        self.specs = tuple(spec.telemetry[spec.field_index(name)] for name in self.names)
        self.scale = TelemetryScale(self.specs)

    def to(self, device: str) -> "Reader":
        """Itself, moved."""
        self.net.to(device)
        return self

    @torch.inference_mode()
    def read(self, pictures: Tensor, stride: int) -> Readings:
        """pictures [T, 3, 60, 90], float or bytes, one step of `stride` frames apart: one reading for each
        but the first two, [T - 2]."""
        if len(pictures) < PICTURES:
            raise ValueError(f"the reader needs {PICTURES} pictures, not {len(pictures)}")
        parts, device = [], self.net.out.weight.device
        for group in pictures.unfold(0, PICTURES, 1).permute(0, 4, 1, 2, 3).split(64):
            group = group.to(device)
            group = group.float() / 255 if group.dtype == torch.uint8 else group
            parts.append(self.net.features(group, torch.full((len(group),), float(stride), device=device)))
        features = torch.cat(parts)
        scaled, buttons, seen = (told.cpu() for told in self.net.told(features))
        fields = self.scale.in_units(scaled, torch.zeros(len(self.names)), stride)
        return Readings(fields, buttons.sigmoid(), seen.sigmoid(), features.cpu())


def store_reader(directory: Path, game: str, net: ReaderNet, facts: dict[str, Any]) -> None:
    """Write probes.safetensors.gz (int8) and probes.json (checksum, training facts). Not part of config.json:
    nothing that plays depends on the reader, so it must not change the weights' id."""
    directory.mkdir(parents=True, exist_ok=True)
    data = stored(net)
    (directory / file_name("probes")).write_bytes(data)
    about = {"game": game, "sha256": hashlib.sha256(data).hexdigest(), "fields": PROBES[game], **facts}
    (directory / "probes.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def load_reader(game: str, directory: Path | None = None) -> Reader | None:
    """The reader in `directory`, or the shipped one; None where none was trained. Raises WeightsError."""
    places = [d for d in (directory, SHIPPED / game) if d and (d / "probes.json").exists()]
    if not places:
        return None
    path = places[0] / file_name("probes")
    try:
        facts, data = json.loads((places[0] / "probes.json").read_text(encoding="utf-8")), path.read_bytes()
        if hashlib.sha256(data).hexdigest() != facts.get("sha256"):
            raise WeightsError(f"{path} is truncated or altered: its checksum is not that of probes.json")
        net = new_net(game)
        fill(net, data)
    except WeightsError:
        raise
    except (OSError, SafetensorError, RuntimeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{path} cannot be used ({str(error).splitlines()[0]}); train it anew: "
            f"python -m engine.training.probes {game}"
        ) from None
    return Reader(game, net, facts)
