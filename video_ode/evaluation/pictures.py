"""Pictures of videos: strips, animations, and their files.

All of them are bytes: videos `uint8 [t c h w]`, pictures `uint8 [3 h w]`, and animations
`uint8 [t 3 h w]`. The frames have a coloured border: green at the times of the conditioning
frames, red for later predictions, grey for true frames. Rows with labels show them, with the
times of their frames and the meaning of the colours.
"""

import io
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor

from video_ode.evaluation.rows import (
    BACKGROUND,
    COLOURS,
    Kind,
    Row,
    numbered,
    with_legend,
    with_names,
    with_times,
    with_titles,
)

SIDE = 128  # approximate height or width of an enlarged frame, in pixels
LINE = 16  # height of a frame of one line of pixels, in pixels
TOLERANCE = 1e-3  # times that differ by less are the same
MAX_GIF_FPS = 50  # viewers slow down faster files


class Scene(NamedTuple):
    """Rows that show one predicted or generated video.

    Attributes:
        context: Observed conditioning frames, each shown until the next one, then blank. None: a
            generated video.
        truth: True video, each frame shown until the next one. None: a generated video.
        known: True frames at exactly the times of the samples, blank at other times. None: a
            generated video.
        samples: Samples of the model.
        times: Times of the frames of all rows; empty if they aren't to be shown.
    """

    context: Row | None
    truth: Row | None
    known: Row | None
    samples: list[Row]
    times: Sequence[float] = ()

    @property
    def panels(self) -> list[Row]:
        """Rows of an animation."""
        return [row for row in (self.context, self.truth, *self.samples) if row is not None]

    @property
    def rows(self) -> list[Row]:
        """Rows of a strip."""
        return [row for row in (self.known, *self.samples) if row is not None]


def scene(
    frames: Tensor, times: Tensor, seen: Tensor, target_times: Tensor, samples: Tensor
) -> Scene:
    """Scene of a predicted video.

    Args:
        frames: True video, `[t c h w]`; the first `t'` frames are the conditioning frames.
        times: Times of its frames, ascending, `[t]`.
        seen: Mask of the conditioning frames that were observed, `[t']`.
        target_times: Times of the samples, `[k]`, in any order.
        samples: Samples `[s k c h w]`, the most interesting one first.
    """
    start, stop = float(times[0]), float(times[-1])
    border = float(times[len(seen) - 1]) if len(seen) else -math.inf
    at = [float(t) for t in target_times]
    # Times are computed, so they are inexact: 0.1 * 30 is slightly different from 3.
    held = (torch.searchsorted(times, target_times.to(times) + TOLERANCE, right=True) - 1).clamp(0)
    places = held.tolist()
    within = [start - TOLERANCE <= t <= stop + TOLERANCE for t in at]
    exact = [abs(float(times[i]) - t) <= TOLERANCE for i, t in zip(places, at, strict=True)]
    given = [start - TOLERANCE <= t <= border + TOLERANCE for t in at]
    shown = [g and bool(seen[i]) for g, i in zip(given, places, strict=True)]
    video = frames[held]
    return Scene(
        Row(video, ["given" if x else "none" for x in shown], "given"),
        Row(video, ["true" if x else "none" for x in within], "truth"),
        Row(video, [_kind(*x) for x in zip(exact, shown, strict=True)], "truth"),
        [
            Row(sample, ["given" if x else "predicted" for x in given], numbered("sample", i))
            for i, sample in enumerate(samples)
        ],
        at,
    )


def generated_scene(
    videos: Sequence[Tensor], times: Sequence[float] = (), name: str = "generated"
) -> Scene:
    """Scene of generated videos `[t c h w]`, for which there is neither context nor truth.

    Args:
        videos: The videos.
        times: Times of their frames; empty if they aren't to be shown.
        name: Label of the videos, before their numbers.
    """
    rows = [Row(v, ["predicted"] * len(v), numbered(name, i)) for i, v in enumerate(videos)]
    return Scene(None, None, None, rows, times)


def _kind(known: bool, given: bool) -> Kind:
    return ("given" if given else "true") if known else "none"


def strip(
    rows: Sequence[Row], columns: int = 20, zoom: int | None = None, times: Sequence[float] = ()
) -> Tensor:
    """Strip: a picture of videos below each other, with time from left to right.

    Args:
        rows: Videos of equal length and size.
        columns: Largest number of frames in a row. Of longer videos, every second frame is shown,
            or every third, and so on.
        zoom: Factor of enlargement. None: enlarge to about 128 pixels.
        times: Times of the frames, written above them; empty if they aren't to be shown.
    """
    step = math.ceil(len(rows[0].kinds) / columns)
    panels = [_panels(row, zoom)[::step] for row in rows]
    lines = [torch.cat(list(line), -1) for line in panels]
    if any(row.label for row in rows):
        lines = with_names(lines, [row.label for row in rows])
    picture = torch.cat(lines, -2)
    if len(times):
        picture = with_times(picture, panels[0].shape[-1], times[::step])
    return _with_margin(with_legend(picture, rows))


def animation(
    videos: Sequence[Sequence[Row]],
    zoom: int | None = None,
    times: Sequence[Sequence[float]] = (),
) -> Tensor:
    """Animation of videos below each other, each with panels side by side that play together.

    Args:
        videos: Panels of each video, all of equal length and size.
        zoom: Factor of enlargement. None: enlarge to about 128 pixels.
        times: Times of the frames of each video, written above its last panel; empty if they
            aren't to be shown.
    """
    lines = []
    for i, rows in enumerate(videos):
        panels = [_panels(row, zoom) for row in rows]
        panels = with_titles(panels, rows, times[i] if len(times) else ())
        lines.append(torch.cat(panels, -1))
    return _with_margin(with_legend(torch.cat(lines, -2), [row for v in videos for row in v]))


def enlarged(video: Tensor, zoom: int) -> Tensor:
    """Enlarged video or picture `[... h w]`: every pixel becomes a square of `zoom` by `zoom`."""
    return video.repeat_interleave(zoom, -2).repeat_interleave(zoom, -1)


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


def _panels(row: Row, zoom: int | None) -> Tensor:
    """Frames with their borders, `[t 3 h' w']`."""
    frames = row.frames
    if frames.shape[-2] == 1 and frames.shape[-1] > LINE:  # a field at scattered points
        frames = frames.expand(-1, -1, LINE, -1)
    t, _, h, w = frames.shape
    zoom = max(1, round(SIDE / max(h, w))) if zoom is None else zoom
    border = gap = max(2, zoom)
    big = enlarged(frames.cpu(), zoom).expand(-1, 3, -1, -1)
    edge, rest = border + gap, 2 * (border + gap)
    panels = torch.full((t, 3, h * zoom + rest, w * zoom + rest), BACKGROUND, dtype=torch.uint8)
    for panel, frame, kind in zip(panels, big, row.kinds, strict=True):
        colour = torch.tensor(COLOURS[kind], dtype=torch.uint8)[:, None, None]
        panel[:, gap:-gap, gap:-gap] = colour
        panel[:, edge:-edge, edge:-edge] = BACKGROUND if kind == "none" else frame
    return panels


def _with_margin(picture: Tensor, margin: int = 4) -> Tensor:
    return torch.nn.functional.pad(picture, (margin,) * 4, value=BACKGROUND)


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
