"""Every message between a client and an engine, its version, packing and unpacking. No torch.

One ZeroMQ message part per message: msgpack of a tagged struct; a Frame is followed, in the same part,
by its pixels (a header and its picture cannot be torn apart or conflated separately):

    b"DC" | header length, uint32 little-endian | msgpack header | pixels (only behind a Frame)

Unpacking never raises anything but ProtocolError, whatever the bytes.
"""

import math
import struct
from typing import Literal

import msgspec
import numpy as np

PROTOCOL_VERSION = 2
MAX_MESSAGE_BYTES = 8 << 20
_MAGIC = b"DC"
_HEADER = struct.Struct("<2sI")
_MAX_HEADER_BYTES = 64 << 10

Seed = int  # 0 <= seed < 2**31
MAX_SEED = 2**31 - 1

SESSION_KEPT_S = 30.0
"""Not heard for so long, a client loses its session; until then a lost link may come back."""


class ProtocolError(ValueError):
    """A message that does not parse or holds what it must not; the text says what is wrong."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    pass


# -- client -> engine ---------------------------------------------------------------------------------


class Hello(Message, frozen=True, kw_only=True):
    """The first message; `version` is checked before anything else is believed. Said again by one who plays
    it is answered with the same Welcome, whatever its seed: within a session new_seed changes that."""

    version: int
    game: str
    seed: Seed = 0
    mode: Literal["dream", "reference"] = "dream"
    stride: int = 0
    """Frames per true step, 1 to 8; 0 lets the engine choose."""
    record_hashes: bool = False


class Buttons(Message, frozen=True, kw_only=True):
    """What the player holds now, plus whatever was pressed since the last message (taps are not lost)."""

    seq: int
    held: int
    pressed: int = 0


class Command(Message, frozen=True, kw_only=True):
    """pause, resume, step (one true step while paused), reset (same seed), new_seed (to `seed`), beside (the
    game's own simulator plays along, see BesideState), alone (no longer), bye."""

    kind: Literal["pause", "resume", "step", "reset", "new_seed", "beside", "alone", "bye"]
    seed: Seed = 0


class Ping(Message, frozen=True, kw_only=True):
    """Keeps a session alive while nothing else is sent; answered with Pong."""

    nonce: int = 0


# -- engine -> client ---------------------------------------------------------------------------------


class Loading(Message, frozen=True, kw_only=True):
    """Progress of start-up, shown on the loading screen. fraction: 0 to 1."""

    stage: str
    fraction: float


class Welcome(Message, frozen=True, kw_only=True):
    """The session exists; frames follow."""

    version: int
    session: str
    game: str
    mode: str
    seed: Seed
    width: int
    height: int
    fps: int
    stride: int
    lag: int
    device: str
    backend: str
    decoder: str
    weights: str
    """First 12 hex digits of the weights' checksum; empty for the reference."""
    machine: dict[str, str] = {}
    """Processor, cores and library versions of the engine, for recordings."""


class Refused(Message, frozen=True, kw_only=True):
    """No session: why, and what to do."""

    reason: str
    fix: str


class Ended(Message, frozen=True, kw_only=True):
    """The engine stops: which role failed (or "engine"), why, and the exit code it ends with."""

    role: str
    reason: str
    exit_code: int


class Pong(Message, frozen=True, kw_only=True):
    nonce: int


class BesideState(Message, frozen=True, kw_only=True):
    """The simulator beside the dream: it starts, it catches up with the dream (`fraction` of the way), or it
    stopped, and why. Once it is in step its frames say so."""

    state: Literal["starting", "catching up", "stopped"]
    fraction: float = 0.0
    reason: str = ""


class Beginning(Message, frozen=True, kw_only=True):
    """An epoch of a dream begins: the game of `seed` stood still for some steps of `stride` frames, and was
    encoded. All that is needed to begin it again."""

    epoch: int
    seed: Seed
    stride: int
    noise_seed: int
    latent_hash: str = ""
    """Of all its latents in order; empty unless the Hello asked for hashes."""


class TrueStep(Message, frozen=True, kw_only=True):
    """A true step of a dream was taken: number `step` of its epoch, to the picture of frame `index`.
    buttons: the mask applied in each of its frames, in order."""

    epoch: int
    step: int
    index: int
    buttons: list[int]
    latent_hash: str = ""
    sketch: list[float] = []
    """A few of the latent's values, which tell how far off a latent with another hash is."""


class StageTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds on the engine's monotonic clock, durations only."""

    world_ms: float = 0.0
    """Of the true step this frame builds on, and of the drafts of it that were not good."""
    extrapolate_ms: float = 0.0
    decode_ms: float = 0.0
    queue_ms: float = 0.0
    """From the newest applied input's arrival at the gateway to this frame's sending."""


class Frame(Message, frozen=True, kw_only=True):
    """One picture: of the session's game, or of the simulator beside it, which counts the same frames.
    `index` is its game-time frame number since the session's (re)start; it never decreases within an `epoch`
    (an epoch begins with every reset or new seed).

    true: decoded from a true step's latent at its own index (or rendered, in reference mode). filled: decoded
    from a latent `ahead` frames beyond the newest true one before it (0 for a true frame), filled in towards
    the next one if `between`, otherwise extrapolated. applied_seq: the newest Buttons.seq on which these
    pixels depend; buttons: the mask applied at this index. telemetry: the game's fields in order, in their
    units, counts as running totals."""

    epoch: int
    index: int
    kind: Literal["true", "filled"]
    ahead: int
    step: int
    """Number of true steps executed in this epoch."""
    stride: int
    lag: int
    applied_seq: int
    buttons: int
    telemetry: list[float]
    times: StageTimes
    dropped: int
    """Frames this engine skipped on purpose in this epoch (queues full, client slow)."""
    latent_hash: str = ""
    width: int
    height: int
    beside: bool = False
    """From the simulator beside the dream."""
    between: bool = False
    """Filled in towards the next true latent, or a draft of it."""
    encoding: Literal["rgb24"] = "rgb24"


ToEngine = Hello | Buttons | Command | Ping
ToClient = Loading | Welcome | Refused | Ended | Pong | BesideState | Beginning | TrueStep | Frame

_encoder = msgspec.msgpack.Encoder()
_to_engine = msgspec.msgpack.Decoder(ToEngine)
_to_client = msgspec.msgpack.Decoder(ToClient)


def pack(message: Message, pixels: np.ndarray | bytes | memoryview = b"") -> bytes:
    """One wire part. pixels: uint8 [H, W, 3], C-contiguous, only with a Frame."""
    header = _encoder.encode(message)
    body = pixels if isinstance(pixels, bytes) else memoryview(pixels).cast("B")  # type: ignore[arg-type]
    return b"".join((_HEADER.pack(_MAGIC, len(header)), header, body))


def unpack_to_engine(part: bytes | memoryview) -> ToEngine:
    """A client's message, validated. Raises ProtocolError."""
    header, body = _split(part)
    if len(body):
        raise ProtocolError(f"{len(body)} bytes behind a message that carries none")
    message = _decode(_to_engine, header)
    _check_to_engine(message)
    return message


class _AnyHello(msgspec.Struct, tag="Hello"):
    version: int


_any_hello = msgspec.msgpack.Decoder(_AnyHello)


def hello_version(part: bytes | memoryview) -> int | None:
    """The version in a Hello of any version, whatever else it holds; None if it is no Hello. Never raises."""
    try:
        return _decode(_any_hello, _split(part)[0]).version
    except ProtocolError:
        return None


def unpack_to_client(part: bytes | memoryview) -> tuple[ToClient, memoryview]:
    """An engine's message and its pixels (empty unless a Frame, then exactly H*W*3 bytes). Raises
    ProtocolError."""
    header, body = _split(part)
    message = _decode(_to_client, header)
    if isinstance(message, Frame):
        _check_frame(message, len(body))
    elif len(body):
        raise ProtocolError(f"{len(body)} bytes behind a message that carries none")
    return message, body


def _check_frame(frame: Frame, body_bytes: int) -> None:
    if not (0 < frame.width <= 8192 and 0 < frame.height <= 8192):
        raise ProtocolError(f"a frame of {frame.width}x{frame.height}")
    if body_bytes != frame.width * frame.height * 3:
        raise ProtocolError(f"a frame of {frame.width}x{frame.height} with {body_bytes} bytes of pixels")
    times = frame.times
    numbers = (*frame.telemetry, times.world_ms, times.extrapolate_ms, times.decode_ms, times.queue_ms)
    if not all(map(math.isfinite, numbers)):
        raise ProtocolError("telemetry or times that are not finite")
    counts = (frame.epoch, frame.index, frame.ahead, frame.step, frame.lag, frame.applied_seq, frame.dropped)
    if min(counts) < 0 or not 1 <= frame.stride <= 8:
        raise ProtocolError("a frame with a count out of range")


def _split(part: bytes | memoryview) -> tuple[memoryview, memoryview]:
    view = memoryview(part)
    if not _HEADER.size <= len(view) <= MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message of {len(view)} bytes")
    magic, length = _HEADER.unpack_from(view)
    if magic != _MAGIC:
        raise ProtocolError("not a Dreamcade message")
    if length > min(_MAX_HEADER_BYTES, len(view) - _HEADER.size):
        raise ProtocolError(f"a header of {length} bytes in a message of {len(view)}")
    return view[_HEADER.size : _HEADER.size + length], view[_HEADER.size + length :]


def _decode(decoder: msgspec.msgpack.Decoder, header: memoryview):
    # UnicodeDecodeError is a ValueError that msgspec lets through; deep nesting raises RecursionError.
    try:
        return decoder.decode(header)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"does not parse: {error}") from None


def _check_to_engine(message: ToEngine) -> None:
    if isinstance(message, Buttons) and not (
        0 <= message.held < 256 and 0 <= message.pressed < 256 and message.seq >= 0
    ):
        raise ProtocolError("buttons out of range")
    if isinstance(message, Hello) and not 0 <= message.stride <= 8:
        raise ProtocolError(f"stride {message.stride}: choose 1 to 8, or 0 for the engine's choice")
    if isinstance(message, Hello | Command) and not 0 <= message.seed <= MAX_SEED:
        raise ProtocolError(f"seed {message.seed} is out of range: choose 0 to {MAX_SEED}")
