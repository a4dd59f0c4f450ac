"""Stage `sharpen`: the last two stages of the CPU's decoder, the last one wider, learn on without a GPU.

    python -m engine.training.sharpen racing --minutes 17 --edge 1.3 --muon-lr 5e-4 --out OUT [--weights DIR]

Edges are drawn where pictures are a quarter of their size, by few channels: too few, and a dotted dark line
runs beside every bright one. What comes before costs most of a decode and stays as it is. Pictures are the
simulator's, played on training seeds before the clock starts; whole ones, latents with a little noise, the
loss of stage `autoencoder`. One core gives some seven updates a second. Writes OUT/<game>-decoder.safetensors
(bf16), which `pack` takes."""

import argparse
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from engine.backend import load_backend
from engine.models.autoencoder import Decoder, Up, from_bytes
from engine.models.layers import perturb_on_sphere
from engine.models.weights import SHIPPED, load_config, load_part
from engine.training.autoencoder import add_loss_options, class_worth, held_out_pool, picture_loss, report
from engine.training.command import errors_said, parser_for
from engine.training.data import FramePool, Simulation
from engine.training.files import write_part
from engine.training.optim import Training
from engine.training.widen import widened

FIRST_SEED = 320_000
WORLDS, STEP_FRAMES = 50, 40
MOST_NOISE = 0.1


def freeze_first_stages(decoder: Decoder) -> int:
    """Only what comes from its second last `Up` on learns. Returns that layer's place in the body."""
    first = [number for number, layer in enumerate(decoder.body) if isinstance(layer, Up)][-2]
    for layer in list(decoder.body)[:first]:
        layer.requires_grad_(False)
    return first


class SharpenTraining:
    """A fixed set of pictures with their latents, and the decoder's end; `run` until the time is over."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(4)
        self.args, self.game = args, args.game
        weights = args.weights or SHIPPED / args.game
        sizes = load_config(weights)[0].autoencoder
        small = load_part(weights, "decoder")
        assert isinstance(small, Decoder)
        last = max(args.width, sizes.decoder_widths[-1])
        self.sizes = replace(sizes, decoder_widths=(*sizes.decoder_widths[:-1], last))
        self.worth = class_worth(self.game, args.mask)
        decoder = widened(small, self.sizes)
        freeze_first_stages(decoder)
        self.decoder = decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pool = played(self.game, args.pictures)
        backend = load_backend(self.game, weights=str(weights), roles=("encoder",))
        encoder = backend.encoder()
        parts = [encoder.encode(part.numpy()) for part in self.pool.pictures.split(16)]
        self.latents = torch.from_numpy(np.concatenate(parts))
        print(f"{self.game}: {len(self.latents)} pictures", flush=True)
        self.training = Training(self.decoder, args.minutes * 60, lr=3e-4, muon_lr=args.muon_lr, warmup=100)

    def step(self) -> Tensor:
        """One update. Returns the mean squared error."""
        which = torch.randint(len(self.latents), (self.args.batch,))
        latents = self.latents[which]
        sigma = torch.rand(len(which), 1, 1, 1) * MOST_NOISE
        latents = perturb_on_sphere(latents, sigma, torch.randn_like(latents), dim=1)
        with torch.autocast("cpu", torch.bfloat16):
            made = self.decoder(latents.contiguous(memory_format=torch.channels_last))
        true, classes = from_bytes(self.pool.pictures[which]), self.pool.classes[which]
        loss, square = picture_loss(made.float(), true, classes, self.worth, self.args.edge)
        self.training.backward(loss)
        self.training.apply()
        return square

    def run(self) -> None:
        self.training.run(self.step, self.game)
        state = self.training.averaged()
        write_part(state, self.args.out, self.game, "decoder")
        print(f"{self.game}: decoder, {self.training.updates} updates, saved", flush=True)
        self._report(state)

    @torch.no_grad()
    def _report(self, state: dict[str, Tensor]) -> None:
        decoder = Decoder(self.sizes).eval()
        decoder.load_state_dict({name: value.float() for name, value in state.items()})
        encoder = load_part(self.args.weights or SHIPPED / self.game, "encoder")
        report(self.game, encoder, decoder, held_out_pool(self.game, "cpu", small=True))


def played(game: str, count: int) -> FramePool:
    """`count` pictures of training seeds, of WORLDS drivers from anywhere in a game."""
    simulation = Simulation(game, min(WORLDS, count), "cpu", offset=FIRST_SEED)
    simulation.play_in()
    pool = FramePool(simulation, count, stride=STEP_FRAMES)
    while pool.filled < count:
        pool.refresh()
    return pool


def main() -> None:
    parser = parser_for(__doc__, 20.0)
    parser.add_argument("--width", type=int, default=48, help="channels of the last stage; its own if more")
    parser.add_argument("--pictures", type=int, default=3000, help="played before the clock starts")
    parser.add_argument("--batch", type=int, default=2, help="pictures of an update")
    parser.add_argument("--muon-lr", type=float, default=1e-3)
    add_loss_options(parser)
    parser.set_defaults(edge=1.5)
    args = parser.parse_args()
    if min(args.pictures, args.batch, args.width) < 1 or args.muon_lr < 0:
        parser.error("--pictures, --batch and --width are 1 or more; --muon-lr 0 or more")
    with errors_said():
        SharpenTraining(args).run()


if __name__ == "__main__":
    main()
