"""Stage `wide_decoder`: the packed encoder stays as it is, a wider decoder for GPUs learns to paint its
latents.

    python -m engine.training.wide_decoder racing --minutes 6.5 --out OUT [--weights assets/weights/racing]

It begins as the packed CPU decoder, widened (widen.py), and learns as stage `autoencoder` does: live
simulation, the same loss, a little noise on the latents; whole pictures only. Writes
OUT/<game>-decoder-wide.safetensors (bf16) at every tenth of the time, so that a run that is cut short is not
lost, and at the end; then prints held-out figures of both decoders, the wide one as int8 stores it.

On a machine with two GPUs, a game each (starting and judging take about a minute beside the minutes):

    CUDA_VISIBLE_DEVICES=0 python -m engine.training.wide_decoder racing --minutes 6.5 --out OUT &
    CUDA_VISIBLE_DEVICES=1 python -m engine.training.wide_decoder platformer --minutes 6.5 --out OUT & wait
    for game in racing platformer; do
      python -m engine.training.steady $game --out OUT --wide OUT/$game-decoder-wide.safetensors  # no GPU
      python -m engine.training.pack $game --source OUT  # renews what OUT holds: no other stage's files there
      dreamcade evaluate $game --device cuda --json  # --decoder cpu: the CPU's
    done

Sizes: 4.19 M parameters, 19.5 GFLOP a picture (the CPU's decoder: 3.34 M, 4.2 GFLOP), 8 MiB in OUT, 3.3 MiB
packed. Several GPUs for one game: torchrun --nproc-per-node N -m engine.training.wide_decoder ..."""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.config import WideDecoderConfig
from engine.models.autoencoder import Decoder
from engine.models.weights import (
    SHIPPED,
    WIDE,
    from_int8,
    levels_of,
    load_config,
    load_part,
    to_int8,
)
from engine.training.autoencoder import (
    Autoencoder,
    AutoencoderTraining,
    add_loss_options,
    held_out_pool,
    report,
)
from engine.training.command import errors_said, parser_for
from engine.training.files import read_part, write_part
from engine.training.widen import widened

SAVES = 10
"""In a run."""


class WideDecoderTraining(AutoencoderTraining):
    """One run; the encoder is in the model, but does not learn."""

    whole_from = 0.0
    first_seed = 250_000

    def __init__(self, args: argparse.Namespace) -> None:
        self.weights = args.weights or SHIPPED / args.game
        self.saved = 0
        super().__init__(args)

    def _model(self) -> Autoencoder:
        config, _ = load_config(self.weights)
        sizes = config.wide_decoder or WideDecoderConfig()
        model = Autoencoder(sizes.of(config.autoencoder))
        model.encoder.load_state_dict(load_part(self.weights, "encoder").state_dict())
        model.encoder.requires_grad_(False)
        model.decoder = widened(self._cpu_decoder(), model.config)
        if self.args.resume:
            model.decoder.load_state_dict(read_part(self.args.resume))
        return model

    def _cpu_decoder(self) -> Decoder:
        decoder = load_part(self.weights, "decoder")
        assert isinstance(decoder, Decoder)
        return decoder

    def _learner(self) -> nn.Module:
        return self.model.decoder

    def step(self) -> Tensor:
        square = super().step()
        done = int(self.training.progress * SAVES)
        if done > self.saved and self.rank == 0:
            self.save()
        self.saved = done
        return square

    def save(self) -> dict[str, Tensor]:
        """The average so far; returns it."""
        state = self.training.averaged()
        write_part(state, self.out, self.game)
        return state

    def finish(self) -> None:
        """Save, then print both decoders' figures on the same held-out pictures."""
        state = self.save()
        print(f"{self.game}: {WIDE}, {self.training.updates} updates, saved", flush=True)
        self.model.decoder.load_state_dict(from_int8(to_int8(state, levels_of(WIDE))))
        encoder, pool = self.model.encoder, held_out_pool(self.game, self.device, self.small)
        report(f"{self.game} cpu decoder:", encoder, self._cpu_decoder().to(self.device), pool)
        report(f"{self.game} wide decoder:", encoder, self.model.decoder, pool)


def parser() -> argparse.ArgumentParser:
    made = parser_for(__doc__, 6.5)
    made.add_argument("--resume", type=Path, help="go on from this file of an earlier run")
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--muon-lr", type=float, default=1e-3)
    made.add_argument("--noise", type=float, default=0.1, help="most noise on the latents before decoding")
    add_loss_options(made)
    made.add_argument("--small", action="store_true", help="tiny batches, to try the script on a CPU")
    return made


def main() -> None:
    args = parser().parse_args()
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    with errors_said():
        WideDecoderTraining(args).run()


if __name__ == "__main__":
    main()
