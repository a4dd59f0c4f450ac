"""The GPU's way of a step and a decode: each one CUDA graph, on buffers that never move.

A graph replays hundreds of small kernels for one launch; at batch 1 both models are bound by launches, not by
arithmetic. With capture=False the same classes run as they are, on the CPU too, and are tested there. See
engine/fast/pipeline.py for both at once."""

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.fast.bands import Rows, decode_band
from engine.fast.kernels_at_hand import has_kernels
from engine.fast.static_world import EMPTY, StaticWorld
from engine.fast.token_split import TokenSplit
from engine.models.autoencoder import Decoder, to_bytes
from engine.models.world_model import WorldModel

Paint = Callable[[Tensor, Tensor], None]
"""latents [B, C, h, w] float32, pictures uint8 [B, H, W, 3] to write."""
Body = Callable[[StaticWorld], Callable[[], None]]
"""Makes what steps the world once, on its buffers."""
_MOST_WIDTH = 512  # of a model that our kernels step: wider products are cuBLAS's matter
_WARM_UPS = 3  # before a capture: libraries choose their kernels and allocate


class Replay:
    """`work`, which reads and writes static tensors and returns nothing: captured once, replayed by calls."""

    def __init__(self, work: Callable[[], None], capture: bool) -> None:
        self._work = work
        self._graph = captured(work) if capture else None

    def __call__(self) -> None:
        if self._graph is None:
            self._work()
        else:
            self._graph.replay()


def captured(work: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """Warmed up on a stream of its own, as capture demands."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # thread_local: another thread (NCCL's watchdog, a receiver) may use the device meanwhile.
    recording = torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local")
    with recording:
        work()
    return graph


class Staging:
    """Host values on their way into a device buffer: two pinned buffers in turn, so that nobody waits for a
    copy that is under way unless two are."""

    def __init__(self, target: Tensor) -> None:
        self._target, self._turn = target, 0
        self._pinned: list[Tensor] = []
        if target.is_cuda:
            self._pinned = [torch.empty(target.shape, dtype=target.dtype, pin_memory=True) for _ in range(2)]
            self._copied = [torch.cuda.Event() for _ in range(2)]

    def send(self, values: np.ndarray) -> None:
        if not self._pinned:
            self._target.copy_(torch.from_numpy(values))
            return
        self._turn ^= 1
        pinned, copied = self._pinned[self._turn], self._copied[self._turn]
        copied.synchronize()  # of two sends ago; at once where it never was recorded
        pinned.copy_(torch.from_numpy(values))
        self._target.copy_(pinned, non_blocking=True)
        copied.record()


class GraphWorld(StaticWorld):
    """A StaticWorld whose step is one graph. body: what makes the step; `make_body` chooses unless one is
    given."""

    def __init__(
        self,
        model: WorldModel,
        worlds: int = 1,
        dtype: torch.dtype = torch.bfloat16,
        split: TokenSplit | None = None,
        capture: bool = True,
        body: Body | None = None,
    ) -> None:
        super().__init__(model, worlds, dtype, split)
        self._staging = Staging(self.controls)
        self.replay = Replay((body or make_body(self))(self), capture)
        self.number.zero_()  # warm-up steps were nobody's
        self.bias.fill_(EMPTY)

    def step(self, controls: np.ndarray) -> None:
        self._staging.send(controls)
        self.replay()


def make_body(world: StaticWorld) -> Body:
    """Our own kernels where they can be had, all tokens are here and launches cost (with large products where
    worlds are many), PyTorch's elsewhere."""
    if world.split.ranks > 1 or world.config.width > _MOST_WIDTH or not has_kernels(world.device):
        return plain_body
    from engine.fast.fused_world import FusedStep
    from engine.fast.many_step import ManyStep, takes

    return ManyStep if takes(world) else FusedStep


def plain_body(world: StaticWorld) -> Callable[[], None]:
    return world.advance


def compiled_body(world: StaticWorld) -> Callable[[], None]:
    """torch.compile fuses the small kernels first: minutes, for benchmarks."""
    return torch.no_grad()(torch.compile(world.body, dynamic=False))


class GraphDecoder:
    """B latents -> uint8 pictures, channels-last and in `dtype` throughout, bytes made before the shuffle.

    Buffers: latents [B, C, h, w] float32 in, pictures [B, H, W, 3] uint8 out, of a band its rows only. paint:
    what fills the second from the first; `make_paint` chooses unless one is given."""

    def __init__(
        self,
        decoder: Decoder,
        shape: tuple[int, int, int],
        batch: int = 1,
        dtype: torch.dtype = torch.bfloat16,
        capture: bool = True,
        paint: Paint | None = None,
        band: Rows | None = None,
    ) -> None:
        device = next(decoder.parameters()).device
        self.latents = torch.zeros(batch, *shape, device=device)
        rows, columns = (shape[1] if band is None else len(band)) * 48, shape[2] * 48
        self.pictures = torch.zeros(batch, rows, columns, 3, dtype=torch.uint8, device=device)
        self._paint = paint or make_paint(decoder, dtype, band)
        self.replay = Replay(self.advance, capture)
        self._host = torch.empty(self.pictures.shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._staging = Staging(self.latents[0])

    @torch.inference_mode()
    def advance(self) -> None:
        """latents -> pictures, in place."""
        self._paint(self.latents, self.pictures)

    def decode(self, latent: np.ndarray) -> np.ndarray:
        """See engine.backend.FrameDecoder; for a batch of one."""
        self._staging.send(latent)
        self.replay()
        self._host.copy_(self.pictures, non_blocking=True)
        if self.pictures.is_cuda:
            torch.cuda.current_stream().synchronize()
        return self._host[0].numpy().copy()


def make_paint(decoder: Decoder, dtype: torch.dtype, band: Rows | None = None, tuned: bool = False) -> Paint:
    """Our own kernels where they can be had, PyTorch's elsewhere. tuned: try all tiles first."""
    if not has_kernels(next(decoder.parameters()).device):
        return EagerPaint(decoder, dtype, band)
    from engine.fast.fused_decoder import FusedPaint

    return FusedPaint(decoder, dtype, band, tuned)


class EagerPaint:
    """The decoder as PyTorch runs it, with its own copy of the weights."""

    def __init__(self, decoder: Decoder, dtype: torch.dtype, band: Rows | None = None) -> None:
        own = copy.deepcopy(decoder).to(dtype)
        self._decoder = own.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._dtype, self._band = dtype, band

    def __call__(self, latents: Tensor, pictures: Tensor) -> None:
        x = latents.to(self._dtype, memory_format=torch.channels_last)
        if self._band is not None:
            pictures.copy_(to_bytes(decode_band(self._decoder, x, self._band).float()))
            return
        x = self._decoder.tail(F.silu(self._decoder.body(x)))
        write_bytes(x, pictures, self._decoder.last_shuffle)


def write_bytes(x: Tensor, pictures: Tensor, shuffle: int) -> None:
    """The tail's output x [B, 3 s s, h, w], -1..1 -> pictures uint8 [B, h s, w s, 3]: bytes first, then the
    shuffle moves a quarter of what floats would be."""
    batch, _, rows, columns = x.shape
    values = (x.float() * 127.5 + 128.0).clamp(0.0, 255.5).to(torch.uint8)
    values = values.permute(0, 2, 3, 1).unflatten(3, (3, shuffle, shuffle))  # [B, h, w, 3, s, s]
    target = pictures.view(batch, rows, shuffle, columns, shuffle, 3)
    target.copy_(values.permute(0, 1, 4, 2, 5, 3))
