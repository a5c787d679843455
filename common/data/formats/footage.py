"""Readers of videos, the format that all frames get, and the reader of numbered frames."""

import abc
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from common.data.formats.video_paths import frame_files
from common.errors import InputError

# Pillow raises all of them for broken files, the last for pictures of more than 179 megapixels.
IMAGE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class VideoScale(NamedTuple):
    """Scale of a video of fields; `FieldScale` is that of a batch, and says more.

    Attributes:
        low: Value that pictures show as black.
        high: Value that pictures show as white.
        error: Factor from errors of the values to errors in the field's own unit, `[t c h w]`,
            with length 1 along axes where it does not change.
    """

    low: float
    high: float
    error: np.ndarray


class Footage(abc.ABC):
    """Abstract reader of one video; it returns any part of the frames.

    Pictures are `uint8`, fields are `float32`.

    Attributes:
        name: Name of the video in error messages.
        stamps: Times of the frames, `float64 [t]`, in units of the usual distance between two
            frames; the first is 0. None: the frames are evenly spaced.
    """

    name: str
    stamps: np.ndarray | None = None

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of frames."""

    @abc.abstractmethod
    def read(self, frames: range) -> np.ndarray:
        """Frames with these ascending numbers, `uint8` or `float32 [t c h w]`.

        Raises:
            InputError: The frames can't be read.
        """

    def times(self, frames: range) -> np.ndarray:
        """Times of these frames since the first of them, `float64 [t]`, in frames."""
        stamps = np.arange(float(len(self))) if self.stamps is None else self.stamps
        return stamps[frames.start : frames.stop : frames.step] - stamps[frames.start]

    def scale(self, frames: range) -> VideoScale | None:
        """Scale of the fields with these numbers. None: pictures, or fields from 0 to 1."""
        return None


class MemoryVideo(Footage):
    """Video held in memory, `uint8` or `float32 [t c h w]`, with the scale of all its frames."""

    def __init__(
        self,
        name: str,
        pixels: np.ndarray,
        stamps: np.ndarray | None = None,
        fields: VideoScale | None = None,
    ) -> None:
        self.name, self.pixels, self.stamps, self.fields = name, pixels, stamps, fields

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, frames: range) -> np.ndarray:
        return self.pixels[frames.start : frames.stop : frames.step]

    def scale(self, frames: range) -> VideoScale | None:
        if self.fields is None or len(self.fields.error) == 1:
            return self.fields
        error = self.fields.error[frames.start : frames.stop : frames.step]
        return self.fields._replace(error=error)


class FrameFormat(NamedTuple):
    """Size and colours that all frames of a data set are converted to.

    Transparent pixels show a black background.

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

    def convert(self, image: Image.Image, aspect: float = 1.0) -> np.ndarray:
        """Image in this format, `uint8 [c h w]`, scaled with antialiasing (Lanczos filter).

        Args:
            image: The image.
            aspect: Width of a pixel of the image, divided by its height.
        """
        if image.mode == "F":
            raise InputError("it holds floats of unknown range; convert it to 8 or 16 bits")
        if image.mode.startswith("I"):  # Pillow would clip the 16 bits instead of scaling them
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(black, image.convert("RGBA"))
        image = image.convert("L" if self.channels == 1 else "RGB")
        window = self._window(image.width, image.height, aspect)
        pixels = np.asarray(scaled(image, self.width, self.height, window))
        if self.channels == 1:
            return pixels[None]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _window(self, width: int, height: int, aspect: float) -> tuple[float, float, float, float]:
        """Left, top, right and bottom border of the part of an image that is kept."""
        if self.crop == "none":
            return 0.0, 0.0, float(width), float(height)
        scale = min(width * aspect / self.width, height / self.height)
        left = (width - scale * self.width / aspect) / 2
        top = (height - scale * self.height) / 2
        return left, top, width - left, height - top


class FrameFolder(Footage):
    """Numbered images of a folder, in the order of their numbers: `img2` comes before `img10`.

    They are turned as their EXIF orientation says.

    Args:
        path: The folder, or the pattern of some of its images (see `frame_files`).
        frame_format: Format of the frames that `read` returns.

    Raises:
        InputError: An image can't be read.
    """

    def __init__(self, path: Path, frame_format: FrameFormat) -> None:
        self.name, self.frame_format = str(path), frame_format
        self.files = frame_files(path)
        for file in self.files:
            self._image(file)

    @property
    def original_size(self) -> tuple[int, int]:
        """Width and height of the first image, before it gets its format."""
        with Image.open(self.files[0]) as image:
            return image.size

    def __len__(self) -> int:
        return len(self.files)

    def read(self, frames: range) -> np.ndarray:
        return np.stack([self._image(self.files[k]) for k in frames])

    def _image(self, file: Path) -> np.ndarray:
        try:
            with Image.open(file) as image:
                # A photo of a phone (MPO) may hold further pictures that are not to be shown.
                if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                    raise InputError("it holds several pictures; convert it to mp4 or gif")
                return self.frame_format.convert(ImageOps.exif_transpose(image))
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
