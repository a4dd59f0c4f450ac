"""A part's file as it is stored: safetensors inside a plain gzip file (`gunzip` gives the former). No torch.

int8 weights carry some 6.5 bits each, so their histogram saves a tenth, and matches save nothing: Huffman
codes alone are smaller than deflate's best level, and quicker (37.0 against 37.1 MiB for both games)."""

import zlib
from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "weights"
"""A directory for each game."""
ENDING = ".safetensors.gz"
_GZIP = 16 + zlib.MAX_WBITS


def file_name(part: str) -> str:
    """Of the part's file in its game's directory."""
    return f"{part}{ENDING}"


def compress(data: bytes) -> bytes:
    """A gzip file without name and time: the same bytes every time with the same zlib."""
    stream = zlib.compressobj(9, zlib.DEFLATED, _GZIP, memLevel=9, strategy=zlib.Z_HUFFMAN_ONLY)
    return stream.compress(data) + stream.flush()


def expand(data: bytes, most: int) -> bytes:
    """What `compress` was given. Raises ValueError where that is more than `most` bytes, without making
    more, and where `data` is not one whole gzip file."""
    stream = zlib.decompressobj(_GZIP)
    try:
        made = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise ValueError(f"not a gzip file: {error}") from None
    if len(made) > most:
        raise ValueError(f"it expands to more than the {most} bytes expected")
    if not stream.eof or stream.unused_data:
        raise ValueError("a gzip file with its end missing or something behind it")
    return made
