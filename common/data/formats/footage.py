"""Videos as they lie on a disk: files of any codec and folders of numbered frames.

Opening one decodes all of it once: headers promise frames that a broken file doesn't have, and
only a decoder knows how many there are. Afterwards a clip is decoded from the key frame before it.
"""

import abc
import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from PIL import Image

from common.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class Footage(abc.ABC):
    """One video, read in parts.

    Attributes:
        name: What it is called in messages.
    """

    name: str

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of frames."""

    @abc.abstractmethod
    def read(self, frames: range) -> np.ndarray:
        """The frames of these ascending numbers, `uint8 [t c h w]`.

        Raises:
            InputError: They can't be read (any more).
        """


class Held(Footage):
    """A video in memory, `uint8 [t c h w]`."""

    def __init__(self, name: str, pixels: np.ndarray) -> None:
        self.name, self.pixels = name, pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, frames: range) -> np.ndarray:
        return self.pixels[frames.start : frames.stop : frames.step]


class Look(NamedTuple):
    """How a frame of any size is brought to the size wanted.

    Attributes:
        height: In pixels.
        width: In pixels.
        channels: 3, or 1 for grey by the weights of Rec. 601.
        crop: `centre` cuts to the aspect ratio wanted, around the centre; `none` distorts.
    """

    height: int
    width: int
    channels: int = 3
    crop: Literal["centre", "none"] = "centre"

    def __call__(self, image: Image.Image) -> np.ndarray:
        """`uint8 [c h w]`, scaled with antialiasing (Lanczos)."""
        if image.mode.startswith("I;16"):  # Pillow would clip the 16 bits, not scale them
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert("L" if self.channels == 1 else "RGB")
        window = self._window(image.width, image.height)
        image = scaled(image, self.width, self.height, window)
        pixels = np.asarray(image)
        return (
            pixels[None] if self.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
        )

    def _window(self, width: int, height: int) -> tuple[float, float, float, float]:
        if self.crop == "none":
            return 0.0, 0.0, float(width), float(height)
        scale = min(width / self.width, height / self.height)
        left, top = (width - scale * self.width) / 2, (height - scale * self.height) / 2
        return left, top, width - left, height - top


class VideoFile(Footage):
    """A video file of any format that FFmpeg knows, upright as its header says.

    Raises:
        InputError: No video in it, a frame that doesn't decode, or an end long before the one that
            its header promises.
    """

    def __init__(self, path: Path, look: Look) -> None:
        self.name, self.path, self.look = str(path), path, look
        self._count = 0
        self._keys: list[tuple[int, int]] = []  # numbers of key frames with their time stamps
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
                found.append(self.look(_upright(frame)))
            if len(found) == len(frames):
                return np.stack(found)
        raise InputError(
            f"{self.name} had {self._count} frames when it was opened and now lacks some of "
            f"frames {frames.start} to {frames[-1]}; don't change data while they are read"
        )

    def _scan(self, container: Any, stream: Any) -> float | None:
        """Counts the frames and notes the key frames; returns when the last one ends, in s."""
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
        """Numbered frames, beginning at `first` or before."""
        keys = [key for key in self._keys if key[0] <= first]
        if keys and keys[-1][0] > 0:
            number, stamp = keys[-1]
            with _opened(self.path) as (container, stream):
                container.seek(stamp, stream=stream)
                frames = container.decode(stream)
                head = next(frames, None)
                # Files may seek to another key frame; AVI guesses its stamps, others after a seek.
                if head is not None and head.pts == stamp:
                    yield from enumerate(itertools.chain([head], frames), number)
                    return
        with _opened(self.path) as (container, stream):
            yield from enumerate(container.decode(stream))


class FrameFolder(Footage):
    """A folder of numbered images, in the order of their numbers: `img2` before `img10`.

    Raises:
        InputError: An image that can't be read.
    """

    def __init__(self, path: Path, look: Look) -> None:
        self.name, self.look = str(path), look
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
                return self.look(image)
        except (OSError, SyntaxError, ValueError) as error:  # all that Pillow raises
            raise InputError(
                f"{file} isn't a whole image ({error}); copy it again or leave its folder out"
            ) from error


def scaled(
    image: Image.Image,
    width: int,
    height: int,
    window: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """A window of an image, scaled with antialiasing."""
    # The gap saves most of the time on large frames, and changes hardly a bit.
    return image.resize((width, height), Image.Resampling.LANCZOS, window, reducing_gap=3.0)


def opened(path: Path, look: Look) -> Footage:
    """The video in that file or folder of frames."""
    return FrameFolder(path, look) if path.is_dir() else VideoFile(path, look)


def pictures(path: Path) -> Iterator[Image.Image]:
    """All frames of a video file, as they are."""
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            yield _upright(frame)


def videos_under(root: Path) -> dict[str, Path]:
    """Every video file and folder of numbered frames, by path relative to `root`, sorted.

    Images in a folder that has video files, images without a number, and hidden files don't count.

    Raises:
        InputError: `root` is no folder.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise InputError(
            f"got data.root {root}, which is no folder; give the folder of the videos"
        )
    found: list[Path] = []
    for folder, folders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        folders[:] = [name for name in folders if not _loops(here / name)]
        videos = [f for f in files if f.lower().endswith(VIDEO_SUFFIXES) and f[0] != "."]
        found += [here / f for f in videos]
        if not videos and any(map(_is_frame, files)):
            found.append(here)
    return dict(sorted((path.relative_to(root).as_posix(), path) for path in found))


def frame_files(folder: Path) -> list[Path]:
    """The numbered images in a folder, in the order of their numbers."""
    files = [file for file in folder.iterdir() if _is_frame(file.name)]
    return sorted(files, key=lambda file: (natural(file.name), file.name))


def natural(name: str) -> list[tuple[int, str]]:
    """Key that sorts numbers in names by value."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _is_frame(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in IMAGE_SUFFIXES and name[0] != "." and bool(re.search("[0-9]", stem))


def _loops(folder: Path) -> bool:
    """Whether it is hidden, or a link to a folder that it lies in."""
    return folder.name[0] == "." or (folder.is_symlink() and folder.resolve() in folder.parents)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
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
    """Seconds that the header promises, where it does."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    alone = len(container.streams) == 1  # the sound may be longer
    return container.duration / av.time_base if alone and container.duration else None


def _upright(frame: Any) -> Image.Image:
    # A quarter of the time of frame.to_image().
    image = Image.fromarray(frame.to_ndarray(format="rgb24"))
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
