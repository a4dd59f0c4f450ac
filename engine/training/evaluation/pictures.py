"""PNG strips and MP4 films of a play, the reference above and the dream below. PyAV writes both: nothing else
is needed."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

STRIP_SECONDS = (0, 1, 5, 20, 60)
FILM_SECONDS = 20
GAP_PX = 6


def save_png(path: Path, picture: np.ndarray) -> None:
    """picture uint8 [H, W, 3]."""
    codec = av.CodecContext.create("png", "w")
    codec.height, codec.width = picture.shape[:2]
    codec.pix_fmt, codec.time_base = "rgb24", Fraction(1, 1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
    path.write_bytes(b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)]))


def halved(picture: np.ndarray) -> np.ndarray:
    """uint8 [480, 720, 3] -> [240, 360, 3], each pixel the mean of four."""
    return picture.reshape(240, 2, 360, 2, 3).mean((1, 3)).round().astype(np.uint8)


def strip(above: list[np.ndarray], below: list[np.ndarray]) -> np.ndarray:
    """Pictures [240, 360, 3] side by side, two rows, white between them."""
    rows = []
    for pictures in (above, below):
        wide = [np.pad(p, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255) for p in pictures]
        rows.append(np.concatenate(wide, axis=1))
    return np.concatenate(rows)[:-GAP_PX, :-GAP_PX]


def save_film(path: Path, above: list[np.ndarray], below: list[np.ndarray], rate: Fraction) -> None:
    """H.264 at `rate` pictures a second of real time; the reference above, the dream below, at half size."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 360, 480, "yuv420p"
        for pair in zip(above, below):
            both = np.concatenate(pair)
            for packet in stream.encode(av.VideoFrame.from_ndarray(both, "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
