"""PNG strips, JPEG sheets and MP4 films of plays, all by PyAV; a sheet by Pillow on machines without it."""

from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np

STRIP_SECONDS = (0, 1, 5, 20, 60)
FILM_SECONDS = 20
SHEET_SECONDS = (10, 60, 180, 600)
SHEET_ROWS = 16
GAP_PX = 6


def save_png(path: Path, picture: np.ndarray) -> None:
    """picture uint8 [H, W, 3]."""
    path.write_bytes(encoded(picture, "png", "rgb24"))


def save_jpeg(path: Path, picture: np.ndarray) -> None:
    """picture uint8 [H, W, 3]; the finest quantiser but one, colours at full resolution."""
    if find_spec("av") is None:
        from PIL import Image

        Image.fromarray(picture).save(path, quality=95, subsampling=0)
        return
    path.write_bytes(encoded(picture, "mjpeg", "yuvj444p", qmin="2", qmax="2"))


def encoded(picture: np.ndarray, codec_name: str, pixels: str, **options: str) -> bytes:
    """uint8 [H, W, 3] -> a file of one picture."""
    import av

    codec = av.CodecContext.create(codec_name, "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.height, codec.width = picture.shape[:2]
    codec.pix_fmt, codec.time_base, codec.options = pixels, Fraction(1, 1), options
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(format=pixels)
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def halved(picture: np.ndarray) -> np.ndarray:
    """uint8 [480, 720, 3] -> [240, 360, 3], each pixel the mean of four."""
    return picture.reshape(240, 2, 360, 2, 3).mean((1, 3)).round().astype(np.uint8)


def grid(rows: list[list[np.ndarray]]) -> np.ndarray:
    """Rows of pictures [240, 360, 3], all of one length, white between them."""
    bands = []
    for pictures in rows:
        wide = [np.pad(p, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255) for p in pictures]
        bands.append(np.concatenate(wide, axis=1))
    return np.concatenate(bands)[:-GAP_PX, :-GAP_PX]


def sheet_steps(stride: int, steps: int) -> list[int]:
    """The steps a sheet shows of a play of `steps` steps."""
    return [n for n in (round(s * 60 / stride) for s in SHEET_SECONDS) if n <= steps]


def save_film(path: Path, above: list[np.ndarray], below: list[np.ndarray], rate: Fraction) -> None:
    """H.264 at `rate` pictures a second of real time; the reference above, the dream below, at half size."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 360, 480, "yuv420p"
        for pair in zip(above, below):
            both = np.concatenate(pair)
            for packet in stream.encode(av.VideoFrame.from_ndarray(both, "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
