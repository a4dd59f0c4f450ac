"""A recording on disk: what the files are, how they are written whole, how they are read back and checked.

DIR/video.mp4     fragmented, readable as far as it was written; pts in 1/60 s of game time
DIR/frames.jsonl  one FrameRecord a line, appended live
DIR/steps.jsonl   what the dream was made from, appended live: the protocol's Beginning of each epoch, its
                  TrueSteps with every frame's buttons and each latent's hash. `engine.verify` dreams it again
DIR/meta.json     a Meta; written at the start, replaced as a whole at the end
"""

import hashlib
import itertools
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from client.errors import UserError
from engine.protocol import Beginning, TrueStep, Welcome
from games import GAMES
from games.spec import GameSpec

SCHEMA = 2
_PACKAGES = ("dreamcade", "pygame-ce", "numpy", "pyzmq", "msgspec", "av")
VIDEO, FRAMES, STEPS, META = "video.mp4", "frames.jsonl", "steps.jsonl", "meta.json"


class FrameRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shown frame. pts: its place in the video, frames of 1/60 s; grows over epochs. Times:
    milliseconds since the recording began, on the client's monotonic clock; input_ms: of the input that
    applied_seq stands for."""

    pts: int
    epoch: int
    index: int
    kind: Literal["true", "filled"]
    ahead: int
    step: int
    stride: int
    lag: int
    buttons: int
    applied_seq: int
    input_ms: float | None
    received_ms: float
    presented_ms: float
    latent_hash: str
    telemetry: list[float]
    dropped_from_video: bool


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    frames: int = 0
    video_frames: int = 0
    dropped_from_video: int = 0
    lost_lines: int = 0
    steps: int = 0


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What the recording is of. `completed` is true only if everything reached the disk; then the SHA-256
    of the other files are given."""

    schema: int
    completed: bool
    game: str
    seed: int
    mode: str
    fps: int
    width: int
    height: int
    welcome: dict[str, str | int | dict[str, str]]
    versions: dict[str, str]
    buttons: dict[str, int]
    telemetry: list[str]
    counts: Counts = Counts()
    video_sha256: str = ""
    frames_sha256: str = ""
    steps_sha256: str = ""


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A recording that was read and checked. note: what is missing from it, empty if nothing."""

    directory: Path
    meta: Meta
    frames: list[FrameRecord]
    note: str

    @property
    def video(self) -> Path:
        return self.directory / VIDEO


def meta_of(spec: GameSpec, mode: str, seed: int, welcome: Welcome) -> Meta:
    """A recording's description at its start, not completed yet."""
    return Meta(
        schema=SCHEMA,
        completed=False,
        game=spec.name,
        seed=seed,
        mode=mode,
        fps=welcome.fps,
        width=welcome.width,
        height=welcome.height,
        welcome=msgspec.structs.asdict(welcome),
        versions=_versions(),
        buttons={button.name or "": int(button) for button in spec.buttons},
        telemetry=[field.name for field in spec.telemetry],
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def write_meta(directory: Path, meta: Meta) -> None:
    """Replace meta.json as a whole: a crash leaves the old one or the new one, never half of it."""
    temporary = directory / (META + ".new")
    with temporary.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(meta), indent=1) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(directory / META)
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(directory: Path) -> Recording:
    """Read a recording. Raises UserError when it is none, cannot be read, is of another version, or was
    altered."""
    try:
        return _load(directory)
    except OSError as error:
        raise _unreadable(directory, error) from None


def load_beginnings(directory: Path) -> list[Beginning]:
    """How each epoch of a dream began, in order; none of the simulator's. Raises UserError."""
    path = directory / STEPS
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # behind the last newline: nothing, or a cut
    except OSError as error:
        raise _unreadable(directory, error) from None
    decoder = msgspec.json.Decoder(Beginning | TrueStep)
    try:
        entries = [decoder.decode(line) for line in lines]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    return [entry for entry in entries if isinstance(entry, Beginning)]


def _unreadable(directory: Path, error: OSError) -> UserError:
    return UserError(f"cannot read {error.filename or directory}: {error.strerror or error}")


def _load(directory: Path) -> Recording:
    meta = _load_meta(directory)
    for name in (FRAMES, VIDEO, STEPS):
        if not (directory / name).is_file():
            raise UserError(f"{directory / name} is missing: the recording cannot be replayed")
    if meta.completed:
        sums = ((FRAMES, meta.frames_sha256), (VIDEO, meta.video_sha256), (STEPS, meta.steps_sha256))
        for name, expected in sums:
            if sha256(directory / name) != expected:
                raise UserError(f"{directory / name} was altered after it was recorded")
    frames, cut = _load_frames(directory / FRAMES)
    note = "" if meta.completed else "the recording was cut short; showing what reached the disk"
    if cut and meta.completed:
        raise UserError(f"{directory / FRAMES} ends in the middle of a line")
    return Recording(directory=directory, meta=meta, frames=frames, note=note)


def _load_meta(directory: Path) -> Meta:
    path = directory / META
    if not path.is_file():
        raise UserError(f"{directory} is not a recording (no {META} in it)")
    meta = _decoded(path.read_bytes(), Meta, str(path))
    if meta.schema != SCHEMA:
        raise UserError(
            f"{path} has schema {meta.schema}, this client reads {SCHEMA}: use the version that recorded it"
        )
    if meta.game not in GAMES:
        raise UserError(f"{path} is of a game this client does not have: {meta.game!r}")
    if meta.telemetry != [field.name for field in GAMES[meta.game].telemetry]:
        raise UserError(
            f"{path} has other telemetry than this client's {meta.game}: use the version that recorded it"
        )
    return meta


def _load_frames(path: Path) -> tuple[list[FrameRecord], bool]:
    """All whole lines, and whether the last one is cut."""
    data = path.read_bytes()
    whole, newline, rest = data.rpartition(b"\n")
    frames = [
        _decoded(line, FrameRecord, f"{path}, line {number}")
        for number, line in enumerate(whole.split(b"\n"), 1)
        if newline
    ]
    pts = [frame.pts for frame in frames]
    if any(later <= earlier for earlier, later in itertools.pairwise(pts)):
        raise UserError(f"{path} was altered: its frames are out of order")
    return frames, bool(rest)


_T = TypeVar("_T")


def _decoded(data: bytes, kind: type[_T], where: str) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is damaged: {error}") from None
