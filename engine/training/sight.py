"""Stage `sight`: true latents -> the net that reads off them what lies ahead; a CPU core is enough.

    python -m engine.training.sight platformer --minutes 5 --out OUT [--weights DIR]

Pictures are the simulator's, played on training seeds before the clock starts, as the packed encoder sees
them; latents are given with much noise, as a dream's are not a picture's. Only pictures of a hero who lives
count. Prints how far it is off on pictures that it did not learn from; writes OUT/<game>-sight.safetensors
(bf16), which `pack` takes. Needs a game that names what its pictures show (GameSpec.shown)."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.backend import load_backend
from engine.config import ConfigError
from engine.models.layers import perturb_on_sphere
from engine.models.sight_net import SightNet
from engine.models.telemetry import TelemetryScale
from engine.models.weights import SHIPPED, SIGHT, load_config
from engine.training.command import errors_said, parser_for
from engine.training.data import Simulation
from engine.training.files import write_part
from engine.training.optim import Training
from engine.training.pack import game_config
from games import GAMES

FIRST_SEED = 340_000
WORLDS = {"cpu": 48, "cuda": 512}
STEP_FRAMES = 10
MOST_NOISE, SMALL = 0.4, 0.05
"""Root mean square of the noise; errors below SMALL, in halves of a range, count by their square."""
NEAR_TILES, NEAR_WORTH, FAR_SHARE = 4.0, 4.0, 0.15
"""What is so near counts so much more; of pictures with nothing near so many are kept."""
BATCH, HELD_OUT = 128, 0.07


class SightTraining:
    """A fixed set of latents with their telemetry, and the net; `run` until the time is over."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(5)
        self.args, self.game, self.device = args, args.game, args.device
        weights = args.weights or SHIPPED / args.game
        sizes = game_config(self.game).sight
        if sizes is None:
            raise ConfigError(f"{self.game} names no telemetry that its pictures show (GameSpec.shown)")
        config = replace(load_config(weights)[0], sight=sizes)
        self.net = SightNet(config).to(self.device)
        fields = [GAMES[self.game].telemetry[i] for i in sizes.fields]
        self.halves = torch.tensor([(field.high - field.low) / 2 for field in fields], device=self.device)
        self.latents, told = played(self.game, args.pictures, weights, self.device)
        shown = told[:, list(sizes.fields)]
        self.told = TelemetryScale(fields).scaled(shown, shown, torch.ones_like(told[:, 0]))
        self.worth = 1 + (NEAR_WORTH - 1) * near(self.game, told)[:, list(sizes.fields)]
        self.learned = len(told) - max(1, round(len(told) * HELD_OUT))
        print(f"{self.game}: {len(told)} pictures", flush=True)
        seconds = args.minutes * 60
        self.training = Training(self.net, seconds, lr=args.lr, muon_lr=None, warmup=100, cooldown=1.0)

    def step(self) -> Tensor:
        """One update. Returns the mean error, in halves of a range."""
        which = torch.randint(self.learned, (BATCH,), device=self.device)
        latents = self.latents[which].float()
        sigma = torch.rand(BATCH, 1, 1, 1, device=self.device) * MOST_NOISE
        read = self.net(perturb_on_sphere(latents, sigma, torch.randn_like(latents), dim=1))
        loss = F.smooth_l1_loss(read, self.told[which], beta=SMALL, reduction="none")
        self.training.backward((loss * self.worth[which]).mean())
        self.training.apply()
        return (read.detach() - self.told[which]).abs().mean()

    def run(self) -> None:
        self.training.run(self.step, self.game, lambda error: f"off by {error:.4f}")
        state = self.training.averaged()
        write_part(state, self.args.out, self.game, SIGHT)
        print(f"{self.game}: {SIGHT}, {self.training.updates} updates, saved", flush=True)
        self.net.load_state_dict({name: value.float() for name, value in state.items()})
        self._report()

    @torch.no_grad()
    def _report(self) -> None:
        """Of the pictures kept back, in each field's unit."""
        read = torch.cat([self.net(part.float()) for part in self.latents[self.learned :].split(256)])
        off = (read.clamp(-1, 1) - self.told[self.learned :]).abs() * self.halves
        for name, errors in zip(GAMES[self.game].shown, off.T):
            print(f"  {name}: off by {errors.mean():.2f} (half of the pictures {errors.median():.2f})")


def near(game: str, told: Tensor) -> Tensor:
    """Which of what lies ahead does so near, 0 or 1, [N, F]; told [N, F] in units."""
    ahead = [field.name.endswith("_ahead") for field in GAMES[game].telemetry]
    distances = torch.tensor(ahead, device=told.device)
    return ((told < NEAR_TILES) & distances).float()


def played(game: str, count: int, weights: Path, device: str) -> tuple[Tensor, Tensor]:
    """Latents [N, C, H, W] in half precision and telemetry [N, F] in units, on `device`, of `count` pictures
    or some more, most of them with something near."""
    simulation = Simulation(game, min(WORLDS[device], count), device, offset=FIRST_SEED)
    simulation.play_in()
    encoder = load_backend(game, device=device, weights=str(weights), roles=("encoder",)).encoder()
    respawn = GAMES[game].respawn
    alive = GAMES[game].field_index(respawn.alive) if respawn else None
    latents: list[Tensor] = []
    told: list[Tensor] = []
    while sum(map(len, told)) < count:
        simulation.replace_old()
        simulation.advance(torch.full((simulation.batch,), STEP_FRAMES, device=device), STEP_FRAMES)
        now = simulation.world.telemetry()
        kept = near(game, now).amax(1) + torch.rand(len(now), device=device) > 1 - FAR_SHARE
        if alive is not None:
            kept &= now[:, alive] > 0.5
        if not kept.any():
            continue
        pictures = simulation.world.render()[kept].cpu().numpy()
        latents.append(torch.from_numpy(encoder.encode(pictures)).half().to(device))
        told.append(now[kept])
    return torch.cat(latents), torch.cat(told)


def main() -> None:
    parser = parser_for(__doc__, 5.0)
    parser.add_argument("--pictures", type=int, default=20_000, help="played before the clock starts")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--device", choices=WORLDS, default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.pictures < 2:
        parser.error("--pictures is 2 or more")
    with errors_said():
        SightTraining(args).run()


if __name__ == "__main__":
    main()
