"""Image files of any size and kind: their search under a folder, and their reader."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common.data.formats.footage import FrameFormat
from common.data.formats.video_paths import IMAGE_SUFFIXES, folders_under, warn_of_unread
from common.errors import InputError, reason

SUFFIXES = (*IMAGE_SUFFIXES, ".jfif", ".gif", ".pbm", ".pnm", ".avif", ".jp2")
UNREAD_SUFFIXES = (
    *(".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".svg", ".psd", ".jxl", ".exr"),
    *(".tga", ".ico", ".eps", ".hdr"),
)
# No others, whatever a file is called: for some, such as EPS, Pillow starts programs.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF", "JPEG2000")

Window = tuple[float, float, float]  # zoom, and place from left and from top (`FrameFormat.cut`)
WHOLE: Window = (1.0, 0.5, 0.5)
LEAST_ZOOM = 0.5


def images_under(root: Path) -> dict[str, Path]:
    """Paths of all images under a folder, at any depth, hidden ones left out.

    Files of other kinds of images are named in a warning.

    Returns:
        The paths by their names, sorted by name. A name is the path relative to `root`.

    Raises:
        InputError: `root` is no folder, or holds no image.
    """
    root = root.expanduser()
    found: list[Path] = []
    unread: list[str] = []
    for here, files in folders_under(root, "images"):
        found += [here / name for name in files if name.lower().endswith(SUFFIXES)]
        unread += [name for name in files if name.lower().endswith(UNREAD_SUFFIXES)]
    warn_of_unread(root, unread, SUFFIXES)
    if not found:
        raise InputError(f"found no image in {root}; put files there ({' '.join(SUFFIXES)})")
    return dict(sorted((path.relative_to(root).as_posix(), path) for path in found))


def read_image(
    path: Path, frame_format: FrameFormat, windows: Sequence[Window] = (WHOLE,)
) -> np.ndarray:
    """Windows of an image file, turned upright as its EXIF data say, `uint8 [n c h w]`.

    Of an animation or a file of several pages the first picture is read.

    Args:
        path: The file.
        frame_format: Size and colours of the result.
        windows: Zoom, of at least `LEAST_ZOOM`, and place of each window; see `FrameFormat.cut`.

    Raises:
        InputError: The file can't be read; the message doesn't name it.
    """
    if not path.is_file():  # a broken link, or a pipe, from which reading would never end
        raise InputError("no file")
    try:
        with Image.open(path, formats=_formats()) as file:
            _shrink_early(file, frame_format)
            image = frame_format.coloured(ImageOps.exif_transpose(file))
        return np.stack([frame_format.cut(image, 1.0, z, (x, y)) for z, x, y in windows])
    except UnidentifiedImageError as error:
        raise InputError("no image of a kind that can be read") from error
    except Exception as error:  # a damaged file may raise any exception
        raise InputError(reason(error)) from error


def _shrink_early(file: Image.Image, frame_format: FrameFormat) -> None:
    """Lets a large JPEG be decoded at 1/2, 1/4 or 1/8 of its size, which is much faster.

    The smallest window still has twice as many pixels along each side as are wanted.
    """
    longest = max(frame_format.height, frame_format.width)
    factor = int(LEAST_ZOOM * min(file.size) / (2 * longest))
    if factor > 1:
        file.draft(None, (file.width // factor, file.height // factor))


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
