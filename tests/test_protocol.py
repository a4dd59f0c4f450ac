"""The wire: every message survives the way there, and nothing but a ProtocolError comes of rubbish."""

import math
import random

import msgspec
import numpy as np
import pytest

from engine.protocol import (
    MAX_MESSAGE_BYTES,
    MAX_SEED,
    Buttons,
    Command,
    Ended,
    Frame,
    Hello,
    Loading,
    Message,
    Ping,
    Pong,
    ProtocolError,
    Refused,
    StageTimes,
    Welcome,
    pack,
    unpack_to_client,
    unpack_to_engine,
)

W, H = 12, 8


def a_frame(**changes: object) -> Frame:
    frame = Frame(
        epoch=0,
        index=7,
        kind="filled",
        ahead=3,
        step=1,
        stride=4,
        lag=2,
        applied_seq=5,
        buttons=1,
        telemetry=[1.5, -2.0],
        times=StageTimes(world_ms=8.0),
        dropped=0,
        latent_hash="ab",
        width=W,
        height=H,
    )
    return msgspec.structs.replace(frame, **changes)


PIXELS = np.arange(W * H * 3, dtype=np.uint8).reshape(H, W, 3)

TO_ENGINE: list[Message] = [
    Hello(version=1, game="racing", seed=MAX_SEED, mode="reference", stride=8, record_hashes=True),
    Buttons(seq=2**40, held=255, pressed=3),
    Command(kind="new_seed", seed=9),
    Ping(nonce=4),
]
TO_CLIENT: list[Message] = [
    Loading(stage="compiling", fraction=0.5),
    Welcome(
        version=1,
        session="s",
        game="racing",
        mode="dream",
        seed=3,
        width=720,
        height=480,
        fps=60,
        stride=4,
        lag=2,
        device="cpu",
        backend="b",
        decoder="d",
        weights="0123456789ab",
    ),
    Refused(reason="full", fix="wait"),
    Ended(role="world", reason="killed", exit_code=1),
    Pong(nonce=4),
]


@pytest.mark.parametrize("message", TO_ENGINE, ids=lambda m: type(m).__name__)
def test_messages_to_the_engine_come_back_equal(message: Message) -> None:
    assert unpack_to_engine(pack(message)) == message


@pytest.mark.parametrize("message", TO_CLIENT, ids=lambda m: type(m).__name__)
def test_messages_to_the_client_come_back_equal(message: Message) -> None:
    back, pixels = unpack_to_client(pack(message))
    assert back == message and len(pixels) == 0


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS.tobytes(), PIXELS.data], ids=["array", "bytes", "view"])
def test_a_frame_carries_its_pixels(pixels: np.ndarray | bytes | memoryview) -> None:
    back, body = unpack_to_client(pack(a_frame(), pixels))
    assert back == a_frame()
    assert bytes(body) == PIXELS.tobytes()


@pytest.mark.parametrize(
    "message",
    [
        Hello(version=1, game="racing", seed=-1),
        Hello(version=1, game="racing", seed=MAX_SEED + 1),
        Hello(version=1, game="racing", stride=9),
        Command(kind="new_seed", seed=-5),
        Buttons(seq=-1, held=0),
        Buttons(seq=1, held=256),
        Buttons(seq=1, held=0, pressed=-1),
    ],
)
def test_out_of_range_is_refused_by_the_engine(message: Message) -> None:
    with pytest.raises(ProtocolError):
        unpack_to_engine(pack(message))


@pytest.mark.parametrize(
    "changes",
    [
        {"telemetry": [math.nan]},
        {"telemetry": [math.inf]},
        {"times": StageTimes(decode_ms=math.nan)},
        {"stride": 0},
        {"ahead": -1},
        {"index": -1},
        {"width": 0},
        {"width": 9000},
        {"height": H + 1},
        {"kind": "guessed"},
        {"encoding": "jpeg"},
    ],
    ids=str,
)
def test_a_bad_frame_is_refused_by_the_client(changes: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        unpack_to_client(pack(a_frame(**changes), PIXELS))


def test_pixels_must_be_exactly_those_of_the_picture() -> None:
    for body in (b"", PIXELS.tobytes()[:-1], PIXELS.tobytes() + b"x"):
        with pytest.raises(ProtocolError):
            unpack_to_client(pack(a_frame(), body))


def test_pixels_behind_another_message_are_refused() -> None:
    with pytest.raises(ProtocolError):
        unpack_to_client(pack(Pong(nonce=1), b"abc"))
    with pytest.raises(ProtocolError):
        unpack_to_engine(pack(Ping(), b"abc"))


def test_messages_of_the_other_direction_are_refused() -> None:
    for message in TO_CLIENT:
        with pytest.raises(ProtocolError):
            unpack_to_engine(pack(message))
    for message in TO_ENGINE:
        with pytest.raises(ProtocolError):
            unpack_to_client(pack(message))


def test_unknown_fields_are_refused() -> None:
    header = msgspec.msgpack.encode({"type": "Ping", "nonce": 1, "more": 2})
    with pytest.raises(ProtocolError):
        unpack_to_engine(b"DC" + len(header).to_bytes(4, "little") + header)


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"DC",
        b"DC\xff\xff\xff\xff",
        b"XX\x01\x00\x00\x00\xc0",
        b"DC\x00\x00\x00\x00",
        b"DC\x02\x00\x00\x00\xc0",
        bytes(MAX_MESSAGE_BYTES + 1),
        b"DC" + (60_000).to_bytes(4, "little") + b"\x91" * 60_000,  # a depth bomb
        b"DC" + (6).to_bytes(4, "little") + b"\xdd\xff\xff\xff\xff\x00",  # an array of four thousand million
    ],
    ids=lambda part: f"{len(part)} bytes",
)
def test_garbage_is_a_protocol_error(part: bytes) -> None:
    for unpack in (unpack_to_engine, unpack_to_client):
        with pytest.raises(ProtocolError):
            unpack(part)


def mutated(part: bytes, dice: random.Random) -> bytes:
    """`part` with one to four bytes changed, cut, doubled or put in."""
    data = bytearray(part)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) or 1)
        how = dice.randrange(5)
        if how == 0 and data:
            data[at] = dice.randrange(256)
        elif how == 1 and data:
            data[at] ^= 1 << dice.randrange(8)
        elif how == 2:
            del data[at : at + dice.randint(1, 9)]
        elif how == 3:
            data[at:at] = dice.randbytes(dice.randint(1, 9))
        else:
            data[at:at] = data[at : at + dice.randint(1, 30)]
    return bytes(data)


def test_mutated_messages_raise_nothing_but_protocol_errors() -> None:
    dice = random.Random(7)
    parts = [pack(message) for message in TO_ENGINE + TO_CLIENT] + [pack(a_frame(), PIXELS)]
    refused = 0
    for round_ in range(12_000):
        part = mutated(parts[round_ % len(parts)], dice)
        for unpack in (unpack_to_engine, unpack_to_client):
            try:
                unpack(part)
            except ProtocolError:
                refused += 1
    assert refused > 10_000
