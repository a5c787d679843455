"""Reader of video files of any codec.

Opening a file decodes all of its frames once, because a header may promise frames that a broken
file does not have, and only a decoder knows the true number of frames. Later reads start at the
last key frame before the clip.
"""

import contextlib
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from common.data.formats.footage import Footage, FrameFolder, FrameFormat
from common.data.formats.video_paths import is_pattern
from common.errors import InputError


class VideoFile(Footage):
    """Video file of any format that FFmpeg knows, as its header says that it is shown.

    The frames are turned, mirrored and stretched as players do it, and have the times of their
    time stamps.

    Args:
        path: The file.
        frame_format: Format of the frames that `read` returns.

    Raises:
        InputError: The file has no video, a frame can't be decoded, or the video ends long before
            the end that its header promises.
    """

    def __init__(self, path: Path, frame_format: FrameFormat) -> None:
        self.name, self.path, self.frame_format = str(path), path, frame_format
        self._count = 0
        self._keys: list[tuple[int, int]] = []  # number and time stamp of each key frame
        with _opened(path) as (container, stream):
            end, stamps = self._scan(container, stream)
            self._aspect = float(stream.sample_aspect_ratio or 1)
            self.stamps = _uneven(stamps, float(stream.time_base))
            promised = _duration(container, stream)
        if not self._count:
            raise InputError(f"{path} holds no frame; leave it out")
        if end is not None and promised is not None and end < 0.9 * promised:
            raise InputError(
                f"{path} ends after {end:.2f} s of the {promised:.2f} s that its header promises; "
                "it was cut short, so copy it again or leave it out"
            )

    def __len__(self) -> int:
        return self._count

    def read(self, frames: range) -> np.ndarray:
        found: list[np.ndarray] = []
        for number, frame in self._from(frames.start):
            if number in frames:
                image, turned = _upright(frame)
                aspect = 1 / self._aspect if turned else self._aspect
                found.append(self.frame_format.convert(image, aspect))
            if len(found) == len(frames):
                return np.stack(found)
        raise InputError(
            f"{self.name} had {self._count} frames when it was opened and now lacks some of the "
            f"frames {frames.start} to {frames[-1]}; don't change the data during a run"
        )

    def _scan(self, container: Any, stream: Any) -> tuple[float | None, list[int | None]]:
        """Counts the frames and notes the key frames.

        Returns:
            End of the last frame in s, and the time stamps of all frames.
        """
        end, stamps = None, []
        for packet in container.demux(stream):
            for frame in packet.decode():
                if packet.is_corrupt or frame.is_corrupt:
                    raise InputError(
                        f"{self.path} is damaged at frame {self._count}; copy it again or "
                        "leave it out"
                    )
                if frame.key_frame and frame.pts is not None:
                    self._keys.append((self._count, frame.pts))
                if frame.pts is not None:
                    after = frame.pts + (frame.duration or 0) - (stream.start_time or 0)
                    end = float(after * stream.time_base)
                stamps.append(frame.pts)
                self._count += 1
        return end, stamps

    def _from(self, first: int) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers, starting at frame `first` or at an earlier one."""
        keys = [key for key in self._keys if key[0] <= first]
        if keys and keys[-1][0] > 0:
            number, stamp = keys[-1]
            with _opened(self.path) as (container, stream):
                container.seek(stamp, stream=stream)
                frames = container.decode(stream)
                head = next(frames, None)
                # A file may seek to another key frame. AVI files have guessed time stamps, which
                # are different after a seek.
                if head is not None and head.pts == stamp:
                    yield from enumerate(itertools.chain([head], frames), number)
                    return
        with _opened(self.path) as (container, stream):
            yield from enumerate(container.decode(stream))


def open_video(path: Path, frame_format: FrameFormat) -> Footage:
    """Reader of a video file, or of numbered frames (a path of `videos_under`).

    Raises:
        InputError: The video can't be read.
    """
    frames = path.is_dir() or is_pattern(path)
    return FrameFolder(path, frame_format) if frames else VideoFile(path, frame_format)


def decoded_images(path: Path) -> Iterator[Image.Image]:
    """All frames of a video file in their original size and colours."""
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            yield _upright(frame)[0]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Container and video stream of an open video file."""
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


def _uneven(stamps: list[int | None], tick: float) -> np.ndarray | None:
    """Times of frames, in units of their usual distance.

    Args:
        stamps: Time stamp of each frame.
        tick: Unit of the time stamps, in s.

    Returns:
        None: the frames are evenly spaced, up to rounding and 5 % of a frame, or some have no time
        stamps or wrong ones.
    """
    if len(stamps) < 3 or None in stamps:
        return None
    times = np.array(stamps, np.float64) * tick
    gaps = np.diff(times)
    even = np.linspace(times[0], times[-1], len(times))
    slack = max(1.01 * tick, 0.05 * gaps.mean())
    if gaps.min() <= 0 or abs(times - even).max() <= slack:
        return None
    return (times - times[0]) / np.median(gaps)


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
