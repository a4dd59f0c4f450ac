"""Stage `tail`: a decoder's last convolution anew, by least squares: nearer to the truth, and as crisp.

    python -m engine.training.tail racing --truth 0.5 --detail 0.2 --mask 3 12 20 6 --out OUT [--part
    decoder-wide] [--weights DIR]

The last convolution is linear, so what it makes best of its inputs can be solved for. --truth says how far
the new one goes from what it was (0) to the one whose pictures have the least squared error (1), where small
things weigh as --mask says; that one alone is softer, as every mean of what may be. --detail is how much of
what a blur (1 2 1, both ways) takes from the picture is then added to it once more: that makes edges as
strong as they are in true pictures for a tenth of a decibel. The rest of the decoder stays as it is, and
nothing is computed at play that was not before. Writes OUT/<game>-<part>.safetensors (bf16), which `pack`
takes; run on what it made, it adds the detail again. Some minutes of one core."""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.autoencoder import Decoder, from_bytes
from engine.models.weights import SHIPPED, WIDE, load_part
from engine.training.autoencoder import class_worth, held_out_pool, report, weight
from engine.training.command import errors_said, parser_for
from engine.training.data import FramePool, encode_all
from engine.training.files import write_part
from engine.training.sharpen import played

RIDGE = 1e-4
"""Of the inputs' mean square: inputs that say the same shall not be blown up to large weights."""


def detail(pictures: Tensor) -> Tensor:
    """[B, 3, H, W] less what a small blur leaves of it."""
    side = torch.tensor([0.25, 0.5, 0.25], device=pictures.device)
    kernel = (side[:, None] * side).expand(3, 1, 3, 3)
    return pictures - F.conv2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


class TailFit:
    """Sums over pictures from which the last convolution is solved: least squares of the truth and of the
    detail of what it makes now, on what goes into it."""

    def __init__(self, decoder: Decoder, worth: Tensor) -> None:
        """worth [classes]: what a pixel weighs."""
        self.decoder, self.worth, tail = decoder, worth, decoder.tail
        assert tail.bias is not None
        self.now = torch.cat((tail.weight.flatten(1).T, tail.bias[None])).double()
        self.products = torch.zeros(len(self.now), len(self.now), dtype=torch.float64)
        self.true, self.detail = torch.zeros_like(self.now), torch.zeros_like(self.now)

    @torch.no_grad()
    def add(self, latent: Tensor, picture: Tensor, classes: Tensor) -> None:
        """One picture: latent [1, C, 10, 15], picture [1, 3, 480, 720] in 0..1, classes [1, 480, 720]."""
        decoder, factor = self.decoder, self.decoder.last_shuffle
        given = F.silu(decoder.body(latent))
        columns = F.unfold(given, 3, padding=1)[0].T
        inputs = torch.cat((columns, torch.ones(len(columns), 1)), 1)
        worth = F.avg_pool2d(self.worth[classes.long()], factor).flatten()[:, None]
        made = F.pixel_shuffle(decoder.tail(given), factor)

        def rows(pictures: Tensor) -> Tensor:
            return F.pixel_unshuffle(pictures, factor).flatten(2)[0].T

        weighed = (inputs * worth).T
        self.products += (weighed @ inputs).double()
        self.true += (weighed @ rows(2 * picture - 1)).double()
        self.detail += (weighed @ rows(detail(made))).double()

    def solved(self, truth: float, amount: float) -> tuple[Tensor, Tensor]:
        """Weight [3 f f, W, 3, 3] and bias [3 f f], f pixels a side: `truth` (0 to 1) of the way to the least
        squared error, with `amount` of the detail once more."""
        ridge = RIDGE * self.products.diagonal().mean() * torch.eye(len(self.products), dtype=torch.float64)
        nearest = torch.linalg.solve(self.products + ridge, self.true + ridge @ self.now)
        added = torch.linalg.solve(self.products + ridge, self.detail)
        made = (self.now + truth * (nearest - self.now) + amount * added).float()
        return made[:-1].T.reshape(self.decoder.tail.weight.shape).contiguous(), made[-1].contiguous()


def refit(
    decoder: Decoder, latents: Tensor, pool: FramePool, worth: Tensor, truth: float, amount: float
) -> None:
    """A decoder's last convolution, in place. latents [B, C, 10, 15] of the pool's B pictures; worth: what a
    pixel of each class weighs; truth, amount: see `TailFit.solved`."""
    fit = TailFit(decoder, worth)
    for latent, picture, classes in zip(latents.split(1), pool.pictures.split(1), pool.classes.split(1)):
        fit.add(latent, from_bytes(picture), classes)
    kernel, bias = fit.solved(truth, amount)
    decoder.tail.load_state_dict({"weight": kernel, "bias": bias})


def run(args: argparse.Namespace) -> None:
    """Fit, write, and print what it was and what it is on seeds that no training sees."""
    torch.manual_seed(5)
    weights, worth = args.weights or SHIPPED / args.game, class_worth(args.game, args.mask)
    encoder, decoder = load_part(weights, "encoder"), load_part(weights, args.part)
    assert isinstance(decoder, Decoder)
    pool = played(args.game, args.pictures)
    with torch.no_grad():
        latents = encode_all(encoder, pool.pictures, at_once=8)
    judged = held_out_pool(args.game, "cpu", small=True)
    report(f"{args.game} {args.part} before:", encoder, decoder, judged)
    refit(decoder, latents, pool, worth, args.truth, args.detail)
    print(f"wrote {write_part(decoder.state_dict(), args.out, args.game, args.part)}")
    report(f"{args.game} {args.part} now:", encoder, decoder, judged)


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--part", choices=("decoder", WIDE), default="decoder")
    parser.add_argument("--truth", type=float, default=0.5, help="how far to the least squared error, 0 to 1")
    parser.add_argument("--detail", type=float, default=0.15, help="of the detail, added once more")
    parser.add_argument("--pictures", type=int, default=300, help="that are played for the fit")
    parser.add_argument(
        "--mask", type=weight, nargs="+", metavar="W", default=[0.0], help="as in autoencoder"
    )
    args = parser.parse_args()
    if args.pictures < 8 or not (0 <= args.truth <= 1 and 0 <= args.detail <= 1):
        parser.error("--pictures is 8 or more, --truth and --detail 0 to 1")
    with errors_said():
        run(args)


if __name__ == "__main__":
    main()
