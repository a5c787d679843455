"""Files of pictures and animations: PNG, GIF, MP4, and lossless MKV.

Pictures are bytes `uint8 [3 h w]`, animations `uint8 [t 3 h w]`.
"""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor

from video_ode.evaluation.rows import BACKGROUND, COLOURS

MAX_GIF_FPS = 50  # viewers slow down faster files


def save_gif(frames: Tensor, path: str | Path, fps: float = 8.0) -> Path:
    """Writes an animation as a GIF file that repeats forever, and returns its path."""
    path = _ready(path)
    path.write_bytes(gif(frames, fps))
    return path


def gif(frames: Tensor, fps: float = 8.0) -> bytes:
    """Content of a GIF file that shows an animation and repeats forever.

    All frames share one palette without dithering, so that nothing flickers; greys change by at
    most one level. The duration of each frame is a whole number of hundredths of a second, at
    least two; the mean duration is right.

    Args:
        frames: Animation `[t 3 h w]` of bytes.
        fps: Number of frames a second.
    """
    indices, palette = _indexed(frames)
    pictures = []
    for index in indices:
        picture = PILImage.fromarray(index)
        picture.putpalette(palette.tobytes())
        pictures.append(picture)
    ends = np.round(np.arange(len(frames) + 1) * 100 / min(fps, MAX_GIF_FPS)) * 10
    durations = np.diff(ends).astype(int).tolist()
    file = io.BytesIO()
    pictures[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=durations,
        loop=0,
        optimize=False,
    )
    return file.getvalue()


def save_mp4(frames: Tensor, path: str | Path, fps: float = 8.0) -> Path:
    """Writes an animation as an MP4 file and returns its path.

    The format is H.264 in 4:2:0, which every player can show. It needs an even width and height,
    so an odd one grows by one line of pixels.
    """
    path = _ready(path)
    frames = torch.nn.functional.pad(
        frames, (0, frames.shape[-1] % 2, 0, frames.shape[-2] % 2), value=BACKGROUND
    )
    with av.open(str(path), "w") as container:
        stream = h264_stream(container, frames.shape[-2], frames.shape[-1], _rate(fps))
        _encode(container, stream, frames)
    return path


def save_mkv(frames: Tensor, path: str | Path, fps: float = 8.0) -> Path:
    """Writes a video `[t c h w]` of bytes as an MKV file without loss (FFV1); returns its path."""
    path = _ready(path)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=_rate(fps))
        stream.height, stream.width = frames.shape[-2:]
        stream.pix_fmt = "bgr0"
        _encode(container, stream, frames.expand(-1, 3, -1, -1))
    return path


def h264_stream(container: Any, height: int, width: int, rate: Fraction, crf: int = 14) -> Any:
    """Adds a video stream in H.264 to a file that is written, and returns the stream.

    Args:
        container: The file.
        height: Height in pixels, even.
        width: Width in pixels, even.
        rate: Number of frames a second.
        crf: Quality: 0 is lossless, 51 is worst.
    """
    stream = container.add_stream("libx264", rate=rate)
    stream.height, stream.width = height, width
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": str(crf)}
    return stream


def save_png(picture: Tensor, path: str | Path) -> Path:
    """Writes a picture `[c h w]` of bytes, grey or in colour, as a PNG file; returns its path."""
    path = _ready(path)
    pixels = _channels_last(picture)
    PILImage.fromarray(pixels[..., 0] if len(picture) == 1 else pixels).save(path)
    return path


def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1000)


def _encode(container: Any, stream: Any, frames: Tensor) -> None:
    """Adds all frames `[t 3 h w]` of bytes to a stream of a file that is written."""
    for frame in _channels_last(frames):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    container.mux(stream.encode())


def _indexed(frames: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Animation as indices into a palette, `uint8 [t h w]`, and the palette, `uint8 [n 3]`."""
    pixels = _channels_last(frames)
    codes = pixels[..., 0].astype(np.int32) << 16 | pixels[..., 1].astype(np.int32) << 8
    codes |= pixels[..., 2]
    place = np.zeros(2**24, np.uint8)
    place[codes] = 1
    found = np.flatnonzero(place)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], -1).astype(np.uint8)
    palette = colours if len(colours) <= 256 else _palette(colours, pixels)
    place[found] = _nearest(colours, palette)
    return place[codes], palette


def _palette(colours: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Palette of 256 colours for more colours: nearly all greys if there are few other colours."""
    own = colours[(colours != colours[:, :1]).any(1)]
    if len(own) <= 16:
        greys = np.linspace(0, 255, 256 - len(own)).round().astype(np.uint8)
        return np.concatenate([own, np.repeat(greys[:, None], 3, 1)])
    borders = np.array(list(COLOURS.values()), np.uint8)
    some = pixels.reshape(-1, 3)
    some = some[:: max(1, len(some) // 500_000)]
    picture = PILImage.fromarray(some[None]).quantize(
        256 - len(borders), PILImage.Quantize.MEDIANCUT
    )
    chosen = np.array(picture.getpalette(), np.uint8).reshape(-1, 3)[: 256 - len(borders)]
    return np.concatenate([borders, chosen])


def _nearest(colours: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Index of the nearest colour of the palette `[n 3]`, for each colour `[m 3]`."""
    to = torch.from_numpy(palette).float()
    parts = torch.from_numpy(colours).float().split(2**16)
    return torch.cat([torch.cdist(part, to).argmin(1) for part in parts]).numpy()


def _channels_last(frames: Tensor) -> np.ndarray:
    return np.ascontiguousarray(frames.cpu().movedim(-3, -1).numpy())


def _ready(path: str | Path) -> Path:
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
