"""Readers of videos on disk: video files of any codec, and folders of numbered frames.

Opening a file decodes all of its frames once, because a header may promise frames that a broken
file does not have, and only a decoder knows the true number of frames. Later reads start at the
last key frame before the clip.
"""

import abc
import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from PIL import Image

from common.data.formats.video_paths import frame_files
from common.errors import InputError

# Pillow raises all of them for broken files, the last for pictures of more than 179 megapixels.
IMAGE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class Footage(abc.ABC):
    """Abstract reader of one video; it returns any part of the frames.

    Attributes:
        name: Name of the video in error messages.
    """

    name: str

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of frames."""

    @abc.abstractmethod
    def read(self, frames: range) -> np.ndarray:
        """Frames with these ascending numbers, `uint8 [t c h w]`.

        Raises:
            InputError: The frames can't be read.
        """


class MemoryVideo(Footage):
    """Video held in memory, `uint8 [t c h w]`."""

    def __init__(self, name: str, pixels: np.ndarray) -> None:
        self.name, self.pixels = name, pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, frames: range) -> np.ndarray:
        return self.pixels[frames.start : frames.stop : frames.step]


class FrameFormat(NamedTuple):
    """Size and colours that all frames of a data set are converted to.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        channels: 3: colour; 1: grey, with the weights of Rec. 601.
        crop: `centre`: cut the frame to the aspect ratio of `height` and `width`, around its
            centre; `none`: keep the whole frame and change its aspect ratio.
    """

    height: int
    width: int
    channels: int = 3
    crop: Literal["centre", "none"] = "centre"

    def convert(self, image: Image.Image) -> np.ndarray:
        """Image in this format, `uint8 [c h w]`, scaled with antialiasing (Lanczos filter)."""
        if image.mode.startswith("I;16"):  # Pillow would clip the 16 bits instead of scaling them
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert("L" if self.channels == 1 else "RGB")
        window = self._window(image.width, image.height)
        pixels = np.asarray(scaled(image, self.width, self.height, window))
        if self.channels == 1:
            return pixels[None]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _window(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom border of the part of an image that is kept."""
        if self.crop == "none":
            return 0.0, 0.0, float(width), float(height)
        scale = min(width / self.width, height / self.height)
        left, top = (width - scale * self.width) / 2, (height - scale * self.height) / 2
        return left, top, width - left, height - top


class VideoFile(Footage):
    """Video file of any format that FFmpeg knows, rotated as its header says.

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
            end = self._scan(container, stream)
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
                found.append(self.frame_format.convert(_upright(frame)))
            if len(found) == len(frames):
                return np.stack(found)
        raise InputError(
            f"{self.name} had {self._count} frames when it was opened and now lacks some of the "
            f"frames {frames.start} to {frames[-1]}; don't change the data during a run"
        )

    def _scan(self, container: Any, stream: Any) -> float | None:
        """Counts the frames and notes the key frames; returns the end of the last frame in s."""
        end = None
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
                self._count += 1
        return end

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


class FrameFolder(Footage):
    """Folder of numbered images, in the order of their numbers: `img2` comes before `img10`.

    Args:
        path: The folder.
        frame_format: Format of the frames that `read` returns.

    Raises:
        InputError: An image can't be read.
    """

    def __init__(self, path: Path, frame_format: FrameFormat) -> None:
        self.name, self.frame_format = str(path), frame_format
        self.files = frame_files(path)
        for file in self.files:
            self._image(file)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, frames: range) -> np.ndarray:
        return np.stack([self._image(self.files[k]) for k in frames])

    def _image(self, file: Path) -> np.ndarray:
        try:
            with Image.open(file) as image:
                return self.frame_format.convert(image)
        except IMAGE_ERRORS as error:
            raise InputError(
                f"{file} isn't a whole image ({error}); copy it again or leave its folder out"
            ) from error


def scaled(
    image: Image.Image,
    width: int,
    height: int,
    window: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """Image scaled with antialiasing (Lanczos filter).

    Args:
        image: The image.
        width: New width in pixels.
        height: New height in pixels.
        window: Left, top, right and bottom border of the part to scale. None: the whole image.
    """
    # The reducing gap saves most of the time on large frames and changes the pixels very little.
    return image.resize((width, height), Image.Resampling.LANCZOS, window, reducing_gap=3.0)


def open_video(path: Path, frame_format: FrameFormat) -> Footage:
    """Reader of a video file or of a folder of frames.

    Raises:
        InputError: The video can't be read.
    """
    return FrameFolder(path, frame_format) if path.is_dir() else VideoFile(path, frame_format)


def decoded_images(path: Path) -> Iterator[Image.Image]:
    """All frames of a video file in their original size and colours."""
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            yield _upright(frame)


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
        raise InputError(
            f"{path} can't be decoded ({error.strerror}); copy it again or leave it out"
        ) from error


def _duration(container: Any, stream: Any) -> float | None:
    """Duration in seconds that the header promises; None: the header has no duration."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    alone = len(container.streams) == 1  # else the sound may be longer than the video
    return container.duration / av.time_base if alone and container.duration else None


def _upright(frame: Any) -> Image.Image:
    """Decoded frame as an image, rotated as the header says."""
    # Takes a quarter of the time of frame.to_image().
    image = Image.fromarray(frame.to_ndarray(format="rgb24"))
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
