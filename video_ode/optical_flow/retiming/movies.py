"""Writer of a video file that looks and sounds like another one."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from common.data.formats.video_streams import Colours, VideoStream
from common.errors import InputError
from video_ode.evaluation.files.media import h264_stream
from video_ode.optical_flow.retiming.sound import Sound

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
CRF = 17  # differences to the original can hardly be seen
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # matrix: the same one in the numbers of swscale
BT_601, UNSPECIFIED, LIMITED_RANGE = 5, 2, 1


def write_movie(
    path: Path,
    form: str,
    frames: Iterable[np.ndarray],
    rate: Fraction,
    like: VideoStream,
    speed: float | None,
) -> str:
    """Writes a video in H.264 with the colours, pixel shape and sound of another video.

    An odd width or height grows by one line of pixels, because 4:2:0 needs even ones.

    Args:
        path: File to write.
        form: Format of the file, one of `FORMATS`.
        frames: Pictures `uint8 [h w 3]`.
        rate: Number of frames a second.
        like: The other video.
        speed: Speed at which the other video is played. None: backward, without sound.

    Returns:
        Sentence that says what became of the sound.

    Raises:
        InputError: The sound can't be read, or a frame has another size.
    """
    width, height = (n + n % 2 for n in like.size)
    with av.open(str(path), "w", format=form) as container:
        stream = h264_stream(container, height, width, rate, CRF)
        stream.codec_context.sample_aspect_ratio = Fraction(like.aspect).limit_denominator(1000)
        matrix = _describe(stream.codec_context, like.colours)
        sound = None if speed is None else Sound(like.path, container, like.start, speed)
        packets = iter(()) if sound is None else sound.packets()
        waiting = next(packets, None)
        for k, pixels in enumerate(frames):
            while waiting is not None and waiting[0] <= k / rate:
                container.mux(waiting[1])
                waiting = next(packets, None)
            picture = _picture(pixels, height, width, matrix)
            picture.pts, picture.time_base = k, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        while waiting is not None:
            container.mux(waiting[1])
            waiting = next(packets, None)
    return "a video that plays backward has no sound" if sound is None else sound.note


def _describe(encoder: Any, colours: Colours) -> int:
    """Writes the description of the colours into the header; returns the matrix to encode with."""
    # Frames of an unspecified matrix are decoded with that of BT.601, so they come back the same.
    of_rgb = BT_601 if colours.matrix == 0 else UNSPECIFIED
    encoder.colorspace = colours.matrix if colours.matrix in MATRICES else of_rgb
    encoder.color_primaries, encoder.color_trc = colours.primaries, colours.transfer
    encoder.color_range = LIMITED_RANGE
    return MATRICES.get(colours.matrix, BT_601)


def _picture(pixels: np.ndarray, height: int, width: int, matrix: int) -> Any:
    h, w, _ = pixels.shape
    if not (0 <= height - h <= 1 and 0 <= width - w <= 1):
        raise InputError(
            f"got frames of {w} × {h} and others of {width} × {height}; give one size"
        )
    even = np.pad(pixels, ((0, height - h), (0, width - w), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(even, format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace=matrix)
