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

    Transparent pixels show the background. Colour profiles are not applied.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        channels: 3: colour; 1: grey, with the weights of Rec. 601.
        crop: `centre`: cut the frame to the aspect ratio of `height` and `width`, around its
            centre; `none`: keep the whole frame and change its aspect ratio.
        background: Colour behind transparent pixels.
    """

    height: int
    width: int
    channels: int = 3
    crop: Literal["centre", "none"] = "centre"
    background: Literal["black", "white"] = "black"

    @classmethod
    def checked(
        cls,
        size: int | tuple[int, int],
        channels: int,
        crop: Literal["centre", "none"] = "centre",
        background: Literal["black", "white"] = "black",
    ) -> "FrameFormat":
        """Format from the options of a user.

        Args:
            size: Height and width in pixels, or one number for both.
            channels: 3: colour; 1: grey.
            crop: As the attribute.
            background: As the attribute.

        Raises:
            InputError: The size is below 1, or another number of channels.
        """
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1:
            raise InputError(f"got size {size}; give 1 or more pixels")
        if channels not in (1, 3):
            raise InputError(f"got channels {channels}; give 3 (colour) or 1 (grey)")
        return cls(height, width, channels, crop, background)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.channels, self.height, self.width

    def convert(self, image: Image.Image, aspect: float = 1.0) -> np.ndarray:
        """Image in this format, `uint8 [c h w]`, scaled with antialiasing (Lanczos filter).

        Args:
            image: The image.
            aspect: Width of a pixel of the image, divided by its height.
        """
        return self.cut(self.coloured(image), aspect)

    def coloured(self, image: Image.Image) -> Image.Image:
        """Image in the colours of this format, with 8 bits a channel, before it is scaled.

        Raises:
            InputError: It holds floats, or integers that don't fit into 16 bits.
        """
        if image.mode == "F":
            raise InputError("it holds floats of unknown range; convert it to 8 or 16 bits")
        if image.mode.startswith("I"):  # Pillow would clip the 16 bits instead of scaling them
            deep = np.asarray(image)
            if deep.size and not 0 <= deep.min() <= deep.max() < 2**16:
                raise InputError("it holds integers of 32 bits; convert it to 8 or 16 bits")
            image = Image.fromarray((deep >> 8).astype(np.uint8))
        if image.has_transparency_data:
            behind = Image.new("RGBA", image.size, self.background)
            image = Image.alpha_composite(behind, image.convert("RGBA"))
        return image.convert("L" if self.channels == 1 else "RGB")

    def cut(
        self,
        image: Image.Image,
        aspect: float = 1.0,
        zoom: float = 1.0,
        place: tuple[float, float] = (0.5, 0.5),
    ) -> np.ndarray:
        """Window of an image in this size, `uint8 [c h w]`; the default is the whole `crop`.

        Args:
            image: Result of `coloured`.
            aspect: Width of a pixel of the image, divided by its height.
            zoom: Height of the window, as a share of that of the largest window.
            place: Place of the window from left (0) to right (1), and from top to bottom.
        """
        width, height = self._largest(image.width, image.height, aspect)
        width, height = zoom * width, zoom * height
        left, top = place[0] * (image.width - width), place[1] * (image.height - height)
        # Rounding may take the border out of the image, which Pillow refuses.
        right, bottom = min(left + width, image.width), min(top + height, image.height)
        window = (max(left, 0.0), max(top, 0.0), right, bottom)
        pixels = np.asarray(scaled(image, self.width, self.height, window))
        if self.channels == 1:
            return pixels[None]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _largest(self, width: int, height: int, aspect: float) -> tuple[float, float]:
        """Width and height of the part of an image that is kept."""
        if self.crop == "none":
            return float(width), float(height)
        scale = min(width * aspect / self.width, height / self.height)
        return scale * self.width / aspect, scale * self.height


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
