"""Lossless codecs on the same images: the bits per dimension that a density has to beat."""

import io
import math

from PIL import Image
from torch import Tensor

from common.errors import InputError
from common.typing import Pixels

WEBP_LIMIT = 16383  # the longest side that the format can write


def codec_bits_per_dim(images: Pixels, method: int = 6) -> dict[str, float]:
    """Bits per sub-pixel of lossless codecs, headers and all.

    `png` and `webp` write one file an image. `webp_montage` writes all images as one near-square
    sheet (several where WebP's largest side asks for it): it pays for the header once and may
    learn from one image for the next, as a trained density does.

    Args:
        images: One or more images of 1 channel (grey; WebP stores it as RGB) or 3 channels.
        method: Effort of WebP, 0 to 6. 5 takes a fifth of the time or less, for half a per cent
            more bits on digits; 6 takes seconds for 500 digits, minutes for 1,000 photographs.

    Raises:
        InputError: No image, another number of channels, a side longer than WebP can write, or
            no such method.
    """
    count, channels, height, width = images.shape
    if count < 1 or channels not in (1, 3):
        raise InputError(
            f"got images of shape {tuple(images.shape)}; give one or more, of 1 or 3 channels"
        )
    if not 1 <= min(height, width) <= max(height, width) <= WEBP_LIMIT:
        raise InputError(f"got images of {height}x{width}; WebP writes sides of 1 to {WEBP_LIMIT}")
    if method not in range(7):
        raise InputError(f"got method {method}; WebP's go from 0 (fast) to 6 (small)")
    sizes = {
        "png": sum(_png_size(image) for image in images),
        "webp": sum(_webp_size(image, method) for image in images),
        "webp_montage": sum(_webp_size(sheet, method) for sheet in _montages(images)),
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
    """The images as near-square sheets `[c h w]`, row by row, what is left over in black."""
    height, width = images.shape[-2:]
    most = (WEBP_LIMIT // height) * (WEBP_LIMIT // width)
    return [_montage(part) for part in images.split(most)]


def _montage(images: Pixels) -> Tensor:
    count, channels, height, width = images.shape
    # As many columns as make the sheet square, within what both sides may hold.
    columns = math.ceil(math.sqrt(count * height / width))
    columns = max(math.ceil(count / (WEBP_LIMIT // height)), columns)
    columns = min(columns, count, WEBP_LIMIT // width)
    rows = math.ceil(count / columns)
    sheet = images.new_zeros(rows * columns, channels, height, width)
    sheet[:count] = images
    grid = sheet.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4)
    return grid.reshape(channels, rows * height, columns * width)
