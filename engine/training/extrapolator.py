"""Stage `extrapolator`: latents of every frame of live simulation -> the network that fills in between.

    python -m engine.training.extrapolator racing --minutes 4 --resume assets/weights/racing --out OUT

The truth is free: the simulators run at 60 Hz. Windows of all strides: half of them 1 to 2 x stride ahead
with the newest buttons, half towards a draft, which is the true latent a stride ahead, as it is in play when
buttons stay as they were. Loss: the squared error of the latent in the decoder's own metric (how much a
change of a token changes the picture, averaged over pictures), where small things are more, and most where
they move by themselves; to which --pixels adds the squared error of decoded pictures and --edges that of
their edges' strength (what squared errors alone make soft). The inputs get noise, part of it shared with the
truth: in play the latents are a dream's, and their faults go on.
--resume goes on from a stage's own file or from a packed directory, also of a network that took no drafts;
with --only-drafts what it does without one stays as it was.
On a CPU give --bank FILE: rendering and encoding take a tenth of a second a frame, so frames are kept
there."""

import argparse
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.backend import load_backend
from engine.config import GameConfig
from engine.models.extrapolator import exp_map, log_map
from engine.models.extrapolator_net import ExtrapolatorNet, Heads, between, last_motion, moved, time_features
from engine.models.layers import perturb_on_sphere
from engine.models.weights import SHIPPED, WeightsError, build, load_config, load_part
from engine.training.autoencoder import edge_strength, load_autoencoder
from engine.training.captured import Captured
from engine.training.command import errors_said
from engine.training.context import mixed
from engine.training.latent_fit import CombinationFit, Metric, decoder_metric
from engine.training.live_windows import LiveWindows, encoder_function, sizes_for
from engine.training.optim import Training, join_ranks
from engine.training.pack import DRAFT_BLOCKS, game_config
from engine.training.runs import Encode, Windows, windows
from games import GAMES

ERROR_WEIGHT, PIXEL_WEIGHT, EDGE_WEIGHT = 0.02, 50.0, 10.0
PIXELS_FROM = 0.4
"""Share of the time without decoded pictures in the loss; none where the network was trained before."""
SHARED_NOISE, OWN_NOISE = 0.2, 0.06
"""Largest root mean square per channel of the noise that inputs share with the truth, and of each one's
own."""


def noisy(batch: Windows) -> Windows:
    """Inputs as a dream would have them: a fault that goes on (shared with the truth), and a little of each
    latent's own. A quarter of the windows stay clean."""
    rows = (len(batch.newest), 1, 1, 1)
    device = batch.newest.device
    some = torch.rand(rows, device=device) > 0.25
    level = torch.rand(rows, device=device) * SHARED_NOISE * some
    own = torch.rand(rows, device=device) * OWN_NOISE * some
    fault = torch.randn_like(batch.newest)

    def given(z: Tensor, own: Tensor) -> Tensor:
        z = perturb_on_sphere(z, level, fault, dim=1)
        return perturb_on_sphere(z, own, torch.randn_like(z), dim=1)

    return replace(
        batch,
        before=given(batch.before, own),
        newest=given(batch.newest, own),
        truth=given(batch.truth, own * 0),
        draft=given(batch.draft, own),
    )


class Step:
    """One batch's losses. The network may be compiled; the geometry around it is cheap."""

    def __init__(self, net: nn.Module, metric: Metric) -> None:
        self.net, self.metric = net, metric

    def __call__(self, batch: Windows, half: torch.dtype | None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the loss; squared errors, detached, [2, 3]: without a draft and with one, of the network,
        of what it does when it knows nothing, of hold (sums over the batch of each window's mean); the
        latents made."""
        motion, drafted = last_motion(batch.before, batch.newest), batch.drafted.float().view(-1, 1, 1, 1)
        toward = log_map(batch.newest, batch.draft) * drafted
        ratio = (batch.aheads / batch.strides).view(-1, 1, 1, 1)
        heads = self._heads(batch, motion, toward, half)
        made = moved(batch.newest, motion, heads, ratio)
        made = torch.where(drafted > 0, between(batch.newest, toward, heads, ratio), made)
        error = self.metric.squared(made - batch.truth)
        plain = self.metric.squared(exp_map(batch.newest, toward * ratio) - batch.truth).detach()
        # Fast windows have errors a hundred times those of slow ones: meet them half way.
        scale = (plain.mean((1, 2, 3), keepdim=True) + 0.01).sqrt()
        logs = heads.log_errors.clamp(-12, 6)
        expected = torch.cat((error.detach(), plain), 1) + 1e-4
        calibration = (logs + expected * (-logs).exp()).mean()  # least where exp(log) is the mean error
        loss = (error * batch.weights / scale).mean() + ERROR_WEIGHT * calibration
        held = self.metric.squared(batch.newest - batch.truth)
        errors = torch.stack([x.detach().mean((1, 2, 3)) for x in (error, plain, held)], 1)
        modes = torch.cat((1 - drafted, drafted), 1).flatten(1)
        return loss, modes.T @ errors, made

    def _heads(self, batch: Windows, motion: Tensor, toward: Tensor, half: torch.dtype | None) -> Heads:
        told = time_features(batch.buttons, batch.strides, batch.aheads)
        drafted = batch.drafted.float()[:, None]
        device = motion.device.type
        with torch.autocast(device, half or torch.bfloat16, enabled=half is not None, cache_enabled=False):
            heads = self.net(motion, batch.newest, told, toward, drafted)
        return Heads(*(x.float() for x in heads))


@dataclass(frozen=True)
class PixelLoss:
    """What decoded pictures of a batch's first `rows` windows add to the loss: `pixels` x their squared
    error, `edges` x how far the strength of their edges is from the truth's."""

    decoder: nn.Module
    pixels: float
    edges: float
    rows: int = 32

    def __call__(self, made: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
        """Latents [B, C, 10, 15] each, and what their tokens count [B, 1, 10, 15]."""
        with torch.no_grad():
            wanted = self.decoder(truth[: self.rows]).float()
        shown = self.decoder(made[: self.rows]).float()
        square = (shown - wanted).square()
        each = F.interpolate(weights[: self.rows], square.shape[-2:])
        loss = self.pixels * (square * each).mean()
        if self.edges:
            loss = loss + self.edges * (edge_strength(shown) - edge_strength(wanted)).abs().mean()
        return loss


@dataclass(frozen=True)
class Given:
    """What the stage starts from: the trained autoencoder's halves, frozen, and the sizes of the network."""

    config: GameConfig
    encode: Encode
    decoder: nn.Module


def given_models(game: str, weights: Path | None, autoencoder: list[Path] | None, device: str) -> Given:
    """From a stage's own files, or from a packed directory (the shipped one by default), whose encoder a CPU
    runs faster. Raises WeightsError."""
    if autoencoder:
        trained = load_autoencoder(autoencoder, device)
        return Given(game_config(game), encoder_function(trained.encoder, device), trained.decoder)
    directory = weights or SHIPPED / game
    config, _ = load_config(directory)
    decoder = load_part(directory, "decoder").to(device)
    if device != "cpu":
        return Given(config, encoder_function(load_part(directory, "encoder").to(device), device), decoder)
    threads = torch.get_num_threads()
    backend = load_backend(game, roles=("encoder",), threads=threads, weights=str(directory))
    quick = backend.encoder()
    return Given(config, lambda pictures: torch.from_numpy(quick.encode(pictures.numpy())), decoder)


def with_drafts(config: GameConfig) -> GameConfig:
    """The same sizes for a network that takes drafts."""
    own = config.extrapolator
    return replace(config, extrapolator=replace(own, draft_blocks=own.draft_blocks or DRAFT_BLOCKS))


def resume(net: ExtrapolatorNet, config: GameConfig, source: Path) -> None:
    """Weights from a packed directory or a stage's file into `net`; of a network without drafts, what it
    has. Raises WeightsError."""
    if source.is_dir():
        state = load_part(source, "extrapolator").state_dict()
    else:
        state = {k.removeprefix("extrapolator."): v.float() for k, v in load_file(source).items()}
    plain = build(replace(config, extrapolator=replace(config.extrapolator, draft_blocks=0)), "extrapolator")
    try:
        missing, unknown = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{source} is of other sizes: {str(error).splitlines()[-1].strip()}") from None
    if unknown or set(missing) & set(plain.state_dict()):
        raise WeightsError(f"{source} is no extrapolator of this network: {[*unknown, *missing][0]}")


class ExtrapolatorStage:
    """See the module. Under torchrun every GPU has its own worlds and batches."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.game = args, args.game
        self.device, self.rank = join_ranks(args.device)
        torch.manual_seed(2)  # the network begins alike on all ranks
        torch.set_float32_matmul_precision("high")
        self.given = given_models(self.game, args.weights, args.autoencoder, self.device)
        config = with_drafts(self.given.config)
        self.net = ExtrapolatorNet(config).to(self.device)
        if args.resume:
            resume(self.net, config, args.resume)
        self.learner: nn.Module = self.net
        self.prefix = ""
        if args.only_drafts:
            self.net.requires_grad_(False)
            self.learner, self.prefix = self.net.draft.requires_grad_(True), "draft."
        torch.manual_seed(2 + self.rank)
        sizes = sizes_for(self.device, args.small, args.bank is not None, args.batch)
        offset = args.seed_offset + self.rank * 400_000
        self.data = LiveWindows(
            self.game,
            self.given.encode,
            self.device,
            sizes,
            offset,
            args.bank,
            1.0 if args.only_drafts else args.drafted,
        )
        self.data.collect(args.collect_minutes * 60)
        picked = windows(self.data.runs, 2 if args.small else 4).newest
        self.metric = decoder_metric(self.given.decoder, picked, 1 if args.small else 24)
        self.fit = CombinationFit(self.metric, self.device)
        run = torch.compile(self.net, dynamic=False) if self.device == "cuda" else self.net
        self.step = Step(run, self.metric)  # type: ignore[arg-type]
        self.half = torch.bfloat16 if self.device == "cuda" else None
        pixels = (1.0 if self.device == "cuda" else 0.0) if args.pixels is None else args.pixels
        self.pixels_from = 2.0 if not pixels else 0.0 if args.resume else PIXELS_FROM
        rows = 2 if args.small else 32
        self.pixel_loss = PixelLoss(
            self.given.decoder, PIXEL_WEIGHT * pixels, EDGE_WEIGHT * pixels * args.edges, rows
        )

    def run(self) -> Path:
        """Train for the minutes; returns the file written (by rank 0)."""
        training = self.training = Training(
            self.learner, self.args.minutes * 60, self.args.lr, self.args.muon_lr, warmup=100, cooldown=0.5
        )
        self.learn = Captured(self._learn)
        sums, said = torch.zeros(2, 3, device=self.device), time.monotonic()
        while training.progress < 1 and (not self.args.updates or training.updates < self.args.updates):
            sums += self._update(training)
            if time.monotonic() - said > 15:
                self._report(training, sums)
                sums, said = torch.zeros_like(sums), time.monotonic()
        self._report(training, sums)
        return self._save(training)

    def _update(self, training: Training) -> Tensor:
        clean = self.data.sample(training.updates)
        self.fit.add(clean)
        pixels = training.progress >= self.pixels_from
        errors = self.learn(*vars(clean).values(), pixels=pixels)
        training.apply()
        return errors.clone()

    def _learn(self, *parts: Tensor, pixels: bool) -> Tensor:
        """Gradients of one batch of windows. Returns the squared errors of `Step`."""
        batch = noisy(Windows(*parts))
        loss, errors, made = self.step(batch, self.half)
        if pixels:
            with mixed(self.device):
                loss = loss + self.pixel_loss(made, batch.truth, batch.weights)
        self.training.backward(loss)
        return errors

    def _report(self, training: Training, sums: Tensor) -> None:
        if not math.isfinite(float(sums.sum())):
            raise SystemExit("the loss is not finite: stopping")
        if self.rank or not training.updates:
            return
        made, plain = (1 - sums[:, :2] / sums[:, 2:].clamp(min=1e-9)).T.tolist()
        alone = "" if self.args.only_drafts else f"{made[0]:.1%} without a draft, "
        print(
            f"{self.game} {training.progress:4.0%} update {training.updates}: of hold's latent error removed "
            f"{alone}{made[1]:.1%} with one (the great circle to it: {plain[1]:.1%})",
            flush=True,
        )

    def _save(self, training: Training) -> Path:
        kept = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in self.net.named_parameters()}
        kept |= {self.prefix + name: value for name, value in training.averaged().items()}
        fitted = self.net.coefficients if self.args.only_drafts else self.fit.coefficients()
        kept["coefficients"] = fitted.contiguous()
        path: Path = self.args.out / f"{self.game}-extrapolator.safetensors"
        if self.rank == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({f"extrapolator.{name}": value for name, value in kept.items()}, path)
        return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", choices=tuple(GAMES))
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--weights", type=Path, help="a packed directory instead of the shipped one")
    parser.add_argument("--autoencoder", type=Path, nargs="+", help="or the autoencoder stage's own file")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bank", type=Path, help="runs are kept there, and read from there if it exists")
    parser.add_argument("--collect-minutes", type=float, default=0.0, help="collect at least so long first")
    parser.add_argument("--resume", type=Path, help="go on from a packed directory or this stage's own file")
    parser.add_argument("--drafted", type=float, default=0.5, help="share of the windows that have a draft")
    parser.add_argument(
        "--only-drafts",
        action="store_true",
        help="train nothing but the way to a draft, which every window has",
    )
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--muon-lr", type=float, help="kernels by Muon, at this rate; default AdamW for all")
    parser.add_argument("--batch", type=int, help="windows in a batch")
    parser.add_argument("--updates", type=int, help="stop after so many, whatever the time")
    parser.add_argument("--pixels", type=float, help="weight of decoded pictures' error; default 1 on a GPU")
    parser.add_argument("--edges", type=float, default=1.0, help="weight of their edges' strength in that")
    parser.add_argument("--seed-offset", type=int, default=500_000, help="first training seed")
    parser.add_argument("--small", action="store_true", help="tiny batches, to try the script on a CPU")
    args = parser.parse_args()
    with errors_said():
        path = ExtrapolatorStage(args).run()
    print(f"{args.game}: wrote {path}", flush=True)


if __name__ == "__main__":
    main()
