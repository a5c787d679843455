"""Video streams of files of any codec, frame by frame in their original size.

Opening a file decodes all of its frames once, because a header may promise frames that a broken
file does not have, and only a decoder knows the true number of frames. Later reads start at the
last key frame before the first wanted frame.
"""

import contextlib
import itertools
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from common.errors import InputError
from common.progress import Progress

MOST_BYTES = 2**27  # frames that are held in order to read backward


class Colours(NamedTuple):
    """Numbers with which a video file describes its colours (ISO/IEC 23091-2); 2: unspecified.

    Attributes:
        matrix: Matrix between RGB and luma with chroma; 0: the pixels are RGB.
        primaries: Colour primaries.
        transfer: Transfer function.
    """

    matrix: int
    primaries: int
    transfer: int


class VideoStream:
    """Video stream of a file of any format that FFmpeg knows.

    The frames are turned and mirrored as the header says, but not stretched.

    Args:
        path: The file.
        bar: Show a progress bar where opening the file takes more than a second.

    Attributes:
        path: The file.
        size: Width and height of the frames in pixels.
        aspect: Width of a pixel divided by its height.
        colours: Description of the colours.
        stamps: Times of the frames, `float64 [t]`, in units of `gap`; the first is 0. None: the
            frames are evenly spaced.
        gap: Usual time between two frames, in s.
        rate: Usual number of frames a second.
        start: Time of the first frame in the file, in s.

    Raises:
        InputError: The file has no video, a frame can't be decoded, or the video ends long before
            the end that its header promises.
    """

    size: tuple[int, int]
    aspect: float
    colours: Colours

    def __init__(self, path: Path, bar: bool = False) -> None:
        self.path = path
        self._count = 0
        self._keys: list[tuple[int, int]] = []  # number and time stamp of each key frame
        with opened(path) as (container, stream):
            every = Progress(
                container.demux(stream), f"Reading {path.name}", stream.frames or None, bar
            )
            end, stamps = self._scan(iter(every), stream)
            tick = float(stream.time_base)
            usual = stream.average_rate or stream.guessed_rate or Fraction(25)
            promised = _duration(container, stream)
        if not self._count:
            raise InputError(f"{path} holds no frame; leave it out")
        if end is not None and promised is not None and end < 0.9 * promised:
            raise InputError(
                f"{path} ends after {end:.2f} s of the {promised:.2f} s that its header promises; "
                "it was cut short, so copy it again or leave it out"
            )
        self.start = (stamps[0] or 0) * tick
        self.stamps, gap = _timing(stamps, tick)
        known = gap is not None and (self.stamps is not None or abs(gap * usual - 1) > 0.01)
        self.rate = usual
        if known and gap:
            self.rate = max(Fraction(1 / gap).limit_denominator(1001), Fraction(1, 1001))
        self.gap = gap or float(1 / usual)

    def __len__(self) -> int:
        return self._count

    @property
    def seconds(self) -> np.ndarray:
        """Times of the frames since the first one, in s, `float64 [t]`."""
        stamps = np.arange(float(len(self))) if self.stamps is None else self.stamps
        return stamps * self.gap

    def images(self, frames: range) -> Iterator[Image.Image]:
        """Frames with these ascending numbers.

        Raises:
            InputError: The file has changed since it was opened.
        """
        left = len(frames)
        for number, frame in self._from(frames.start):
            if number in frames:
                yield _upright(frame)[0]
                left -= 1
            if not left:
                return
        raise InputError(
            f"{self.path} had {self._count} frames when it was opened and now lacks some of the "
            f"frames {frames.start} to {frames[-1]}; don't change the data during a run"
        )

    def backward(self) -> Iterator[Image.Image]:
        """All frames, the last one first; up to 128 MiB of them are held at a time.

        If more frames lie between two key frames, the earlier ones are decoded several times.
        """
        most = max(1, MOST_BYTES // (3 * self.size[0] * self.size[1]))
        for stop in range(len(self), 0, -most):
            held = list(self.images(range(max(0, stop - most), stop)))
            while held:
                yield held.pop()

    def _scan(self, packets: Iterator[Any], stream: Any) -> tuple[float | None, list[int | None]]:
        """Counts the frames and notes the key frames.

        Returns:
            End of the last frame in s, and the time stamps of all frames.
        """
        end, stamps = None, []
        for packet in packets:
            for frame in packet.decode():
                if packet.is_corrupt or frame.is_corrupt:
                    raise InputError(
                        f"{self.path} is damaged at frame {self._count}; copy it again or "
                        "leave it out"
                    )
                if not self._count:
                    self._look(frame, float(stream.sample_aspect_ratio or 1))
                if frame.key_frame and frame.pts is not None:
                    self._keys.append((self._count, frame.pts))
                if frame.pts is not None:
                    after = frame.pts + (frame.duration or 0) - (stream.start_time or 0)
                    end = float(after * stream.time_base)
                stamps.append(frame.pts)
                self._count += 1
        return end, stamps

    def _look(self, first: Any, aspect: float) -> None:
        """Notes how the frames look, by the first one."""
        image, turned = _upright(first)
        self.size, self.aspect = image.size, 1 / aspect if turned else aspect
        rgb = first.format.is_rgb
        described = (first.colorspace, first.color_primaries, first.color_trc)
        matrix, primaries, transfer = map(int, described)
        self.colours = Colours(0 if rgb else matrix, primaries, transfer)

    def _from(self, first: int) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers, starting at frame `first` or at an earlier one."""
        keys = [key for key in self._keys if key[0] <= first]
        if keys and keys[-1][0] > 0:
            number, stamp = keys[-1]
            with opened(self.path) as (container, stream):
                container.seek(stamp, stream=stream)
                frames = container.decode(stream)
                head = next(frames, None)
                # A file may seek to another key frame. AVI files have guessed time stamps, which
                # are different after a seek.
                if head is not None and head.pts == stamp:
                    yield from enumerate(itertools.chain([head], frames), number)
                    return
        with opened(self.path) as (container, stream):
            yield from enumerate(container.decode(stream))


def decoded_images(path: Path) -> Iterator[Image.Image]:
    """All frames of a video file in their original size and colours."""
    with opened(path) as (container, stream):
        for frame in container.decode(stream):
            yield _upright(frame)[0]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Container and video stream of an open video file.

    Raises:
        InputError: The file has no video, or can't be decoded.
    """
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            stream = container.streams.best("video")
            if stream is None:
                raise InputError(f"{path} holds no video; leave it out")
            yield container, stream
    except av.FFmpegError as error:
        why = "an incomplete file, without its index" if _lacks_index(path) else error.strerror
        raise InputError(
            f"{path} can't be decoded ({why}); copy it again or leave it out"
        ) from error


def _lacks_index(path: Path) -> bool:
    """True for an MP4 or MOV file that ends before its index, the box `moov`."""
    with path.open("rb") as file:
        begun, size = False, path.stat().st_size
        while len(head := file.read(16)) >= 8:
            length, kind = struct.unpack(">I4s", head[:8])
            begun = begun or kind == b"ftyp"
            if kind == b"moov" or not begun:
                return False
            length = struct.unpack(">Q", head[8:])[0] if length == 1 and head[8:] else length
            if not 8 <= length <= size:
                break
            file.seek(length - len(head), 1)
        return begun


def _duration(container: Any, stream: Any) -> float | None:
    """Duration in seconds that the header promises; None: the header has no duration."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    alone = len(container.streams) == 1  # else the sound may be longer than the video
    return container.duration / av.time_base if alone and container.duration else None


def _timing(stamps: list[int | None], tick: float) -> tuple[np.ndarray | None, float | None]:
    """Times of frames in units of their usual distance, and this distance in s.

    Args:
        stamps: Time stamp of each frame.
        tick: Unit of the time stamps, in s.

    Returns:
        Times, None: the frames are evenly spaced, up to rounding and 5 % of a frame. Both None:
        some frames have no time stamps or wrong ones, or there is one frame.
    """
    if len(stamps) < 2 or None in stamps:
        return None, None
    times = np.array(stamps, np.float64) * tick
    gaps = np.diff(times)
    if gaps.min() <= 0:
        return None, None
    even = np.linspace(times[0], times[-1], len(times))
    slack = max(1.01 * tick, 0.05 * gaps.mean())
    if abs(times - even).max() <= slack:
        return None, float(gaps.mean())
    usual = float(np.median(gaps))
    return (times - times[0]) / usual, usual


def _upright(frame: Any) -> tuple[Image.Image, bool]:
    """Decoded frame as an image, turned and mirrored as the header says; whether it lay on a side.

    The display matrix moves pixel (x, y) to (a x + c y, b x + d y), with y pointing down; here
    only its signs count, and which of a and b is larger.
    """
    # Takes a quarter of the time of frame.to_image().
    clear = any(component.is_alpha for component in frame.format.components)
    pixels = frame.to_ndarray(format="rgba" if clear else "rgb24")
    found = frame.side_data.get("DISPLAYMATRIX")
    a, b, _, c, d, *_ = struct.unpack("<9i", bytes(found)[:36]) if found else (1, 0, 0, 0, 1)
    turned = abs(b) > abs(a)
    if turned:
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    pixels = pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return Image.fromarray(np.ascontiguousarray(pixels)), turned
