"""The models in PyTorch: on CUDA in bfloat16, and on a CPU where OpenVINO is missing."""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engine.fast.cuda_graph import GraphDecoder, GraphWorld
from engine.fast.dream import Dream
from engine.fast.extrapolators import LearnedExtrapolator, SphereExtrapolator, TorchNet
from engine.fast.graphed_extrapolator import GraphedExtrapolator
from engine.fast.own_worlds import OwnWorlds
from engine.fast.sight import Sight, load_sight
from engine.fast.slots import WorldSlots
from engine.fast.static_dream import StaticDream
from engine.models.autoencoder import Decoder, Encoder, from_bytes, to_bytes
from engine.models.extrapolator_net import ExtrapolatorNet
from engine.models.weights import WIDE, has_part, load_config, load_part, weights_id
from engine.models.world_model import Inputs, WorldModel


class TorchBackend:
    """One game's models on `device`, with the wide decoder or the CPU's. See engine.backend.Backend."""

    min_stride = 4  # where the dream is judged

    def __init__(self, game: str, directory: Path, device: str, threads: int, wide: bool = False) -> None:
        self.game, self.directory, self.device = game, directory, device
        self.config, _ = load_config(directory)
        self.weights_id = weights_id(directory)
        self.name = f"torch-{device}-" + ("bf16" if device == "cuda" else "f32")
        self.dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self.latent_shape = (self.config.world.channels, self.config.world.rows, self.config.world.columns)
        self.decoder_name, self._decoder_part = ("wide", WIDE) if wide else ("cpu", "decoder")
        if device == "cpu":
            torch.set_num_threads(threads)

    def _part(self, name: str) -> nn.Module:
        return load_part(self.directory, name).to(self.device)

    def world(self) -> Dream:
        model = self._part("world")
        assert isinstance(model, WorldModel)
        if self.device == "cuda":
            return StaticDream(self.game, GraphWorld(model, dtype=self.dtype), sight=self.sight)
        return self._dream(model)

    def _dream(self, model: WorldModel) -> Dream:
        return Dream(self.game, self.config.world, TorchStep(model, self.dtype), sight=self.sight)

    @cached_property
    def sight(self) -> Sight | None:
        return load_sight(self.game, self.directory)

    def worlds(self, players: int) -> WorldSlots | OwnWorlds:
        """A GPU steps them at once, a CPU one after the other."""
        if self.device == "cuda":
            return self.slots(players)
        model = self._part("world")
        assert isinstance(model, WorldModel)
        return OwnWorlds(lambda: self._dream(model), players)

    def slots(self, slots: int) -> WorldSlots:
        """So many dreams in one static world, one graph on a GPU."""
        model = self._part("world")
        assert isinstance(model, WorldModel)
        world = GraphWorld(model, slots, self.dtype, capture=self.device == "cuda")
        return WorldSlots(self.game, world, self.sight)

    def decoder(self) -> "TorchDecoder | GraphDecoder":
        model = self._part(self._decoder_part)
        assert isinstance(model, Decoder)
        if self.device == "cuda":
            return GraphDecoder(model, self.latent_shape, dtype=self.dtype)
        return TorchDecoder(model, self.dtype)

    def batch_decoder(self, batch: int) -> GraphDecoder:
        """The same decoder for so many latents at once: see its buffers and `replay`."""
        model = self._part(self._decoder_part)
        assert isinstance(model, Decoder)
        capture = self.device == "cuda"
        return GraphDecoder(model, self.latent_shape, batch, self.dtype, capture)

    def encoder(self) -> "TorchEncoder":
        return TorchEncoder(self._part("encoder"))

    def extrapolator(self) -> SphereExtrapolator | LearnedExtrapolator:
        if not has_part(self.directory, "extrapolator"):
            return SphereExtrapolator()
        net = self._part("extrapolator")
        assert isinstance(net, ExtrapolatorNet)
        if self.device == "cuda":
            return GraphedExtrapolator(net, self.latent_shape, self.config.world.buttons)
        return LearnedExtrapolator(TorchNet(net, self.dtype), takes_drafts=net.takes_drafts)


class TorchStep:
    """WorldModel.step on numpy arrays; `Dream` keeps the ring."""

    def __init__(self, model: WorldModel, dtype: torch.dtype) -> None:
        self.model, self.dtype = model, dtype
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def __call__(self, arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        latent, previous, *conditions, cos, sin, ring, bias = (
            torch.from_numpy(a).to(self.device) for a in arrays
        )
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            out = self.model.step(latent, previous, Inputs(*conditions), cos, sin, ring, bias)
        made, telemetry, entries = (x.float().cpu().numpy() for x in out)
        return made, telemetry, entries


class TorchDecoder:
    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        assert isinstance(model, Decoder)
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def decode(self, latent: np.ndarray) -> np.ndarray:
        z = torch.from_numpy(latent)[None].to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            picture = self.model(z)
        return to_bytes(picture.float())[0].cpu().numpy()


class TorchEncoder:
    def __init__(self, model: nn.Module) -> None:
        assert isinstance(model, Encoder)
        self.model = model
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def encode(self, pictures: np.ndarray) -> np.ndarray:
        latents: list[Tensor] = [
            self.model(from_bytes(torch.from_numpy(p)[None].to(self.device))).cpu() for p in pictures
        ]
        return torch.cat(latents).numpy()
