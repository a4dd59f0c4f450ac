"""B latents to pictures and back at once, for long plays that step together.

On a GPU with the decoder that play would use, in the same kernels, as one graph for all; pictures stay on the
device. Elsewhere by the backend's own decoder and encoder, one picture after the other, and so the same bytes
as a play by itself."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from engine.backend import Backend, FrameDecoder, FrameEncoder
from engine.fast.torch_backend import TorchBackend
from engine.models.autoencoder import from_bytes

ENCODED_AT_ONCE = 16  # a picture takes some 50 MB in the encoder, in float32


class Canvas(Protocol):
    def paint(self, latents: np.ndarray) -> Tensor:
        """float32 [B, C, 10, 15] -> uint8 [B, 480, 720, 3], which the next call may overwrite."""

    def encode(self, pictures: Tensor) -> np.ndarray:
        """uint8 [B, 480, 720, 3] -> float32 [B, C, 10, 15]."""


def canvas_of(backend: Backend, batch: int) -> Canvas:
    """For `batch` pictures at most."""
    if isinstance(backend, TorchBackend) and backend.device == "cuda":
        return AtOnce(backend, batch)
    return OneByOne(backend.decoder(), backend.encoder())


def astray(latents: np.ndarray, pictures: Tensor, canvas: Canvas) -> np.ndarray:
    """long_play.astray of latents [B, C, 10, 15], whose pictures were painted already, [B]."""
    again = canvas.encode(pictures)
    return np.sqrt(np.mean((again - latents) ** 2, (1, 2, 3)))


class OneByOne:
    def __init__(self, decoder: FrameDecoder, encoder: FrameEncoder) -> None:
        self._decoder, self._encoder = decoder, encoder

    def paint(self, latents: np.ndarray) -> Tensor:
        return torch.from_numpy(np.stack([self._decoder.decode(latent) for latent in latents]))

    def encode(self, pictures: Tensor) -> np.ndarray:
        return self._encoder.encode(pictures.numpy())


class AtOnce:
    """A batch below the decoder's leaves the rest of its pictures unused."""

    def __init__(self, backend: TorchBackend, batch: int) -> None:
        self._decoder = backend.batch_decoder(batch)
        self._encoder = backend.encoder()

    def paint(self, latents: np.ndarray) -> Tensor:
        count = len(latents)
        self._decoder.latents[:count].copy_(torch.from_numpy(latents))
        self._decoder.replay()
        return self._decoder.pictures[:count]

    @torch.inference_mode()
    def encode(self, pictures: Tensor) -> np.ndarray:
        made = [self._encoder.model(from_bytes(part)) for part in pictures.split(ENCODED_AT_ONCE)]
        return torch.cat(made).cpu().numpy()
