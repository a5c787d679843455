"""Bits per dimension of lossless image codecs: the baselines of a density of images."""

import io
import math

from PIL import Image
from torch import Tensor

from common.errors import InputError
from common.progress import Progress
from common.typing import Pixels

WEBP_LIMIT = 16383  # longest side of the format, in pixels


def codec_bits_per_dim(images: Pixels, method: int = 6) -> dict[str, float]:
    """Bits per sub-pixel of lossless codecs, file headers included.

    `png` and `webp` write one file for each image. `webp_montage` writes all images as one sheet
    that is nearly square (or several sheets, because WebP limits the sides). A sheet has only one
    header, and the codec can use one image to compress the next, as a trained density does.

    Args:
        images: One or more images of 1 channel (grey; WebP stores it as RGB) or 3 channels.
        method: Effort of WebP, 0 to 6. Method 6 takes seconds for 500 digits and minutes for 1,000
            photographs. Method 5 takes a fifth of that time or less, for half a per cent more bits
            on digits.

    Returns:
        Bits per sub-pixel by the name of the codec: `png`, `webp`, `webp_montage`.

    Raises:
        InputError: No image, another number of channels, a side longer than WebP can write, or
            an unknown method.
    """
    count, channels, height, width = images.shape
    if count < 1 or channels not in (1, 3):
        raise InputError(
            f"got images of shape {tuple(images.shape)}; give one or more, of 1 or 3 channels"
        )
    if not 1 <= min(height, width) <= max(height, width) <= WEBP_LIMIT:
        raise InputError(f"got images of {height}x{width}; WebP writes sides of 1 to {WEBP_LIMIT}")
    if method not in range(7):
        raise InputError(f"got method {method}; give 0 (fast) to 6 (small files)")
    sizes = {
        "png": sum(_png_size(image) for image in Progress(images, "PNG files")),
        "webp": sum(_webp_size(image, method) for image in Progress(images, "WebP files")),
        "webp_montage": sum(
            _webp_size(sheet, method) for sheet in Progress(_montages(images), "WebP sheets")
        ),
    }
    return {codec: 8 * size / images.numel() for codec, size in sizes.items()}


def _png_size(image: Tensor) -> int:
    _picture(image).save(file := io.BytesIO(), "PNG", optimize=True)
    return file.tell()


def _webp_size(image: Tensor, method: int) -> int:
    picture = _picture(image).convert("RGB")
    picture.save(file := io.BytesIO(), "WEBP", lossless=True, quality=100, method=method)
    return file.tell()


def _picture(image: Tensor) -> Image.Image:
    pixels = image.cpu().movedim(0, -1).contiguous().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _montages(images: Pixels) -> list[Tensor]:
    """Nearly square sheets `[c h w]` of the images, row by row; empty places are black."""
    height, width = images.shape[-2:]
    most = (WEBP_LIMIT // height) * (WEBP_LIMIT // width)
    return [_montage(part) for part in images.split(most)]


def _montage(images: Pixels) -> Tensor:
    count, channels, height, width = images.shape
    # The number of columns that makes the sheet square, within the limits of both sides.
    columns = math.ceil(math.sqrt(count * height / width))
    columns = max(math.ceil(count / (WEBP_LIMIT // height)), columns)
    columns = min(columns, count, WEBP_LIMIT // width)
    rows = math.ceil(count / columns)
    sheet = images.new_zeros(rows * columns, channels, height, width)
    sheet[:count] = images
    grid = sheet.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4)
    return grid.reshape(channels, rows * height, columns * width)
