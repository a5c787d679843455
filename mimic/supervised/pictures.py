"""Pictures of a network's filters."""

import math

import torch
from torch import Tensor

from common.errors import InputError, check_counts

WHITE = 255


def filter_grid(weight: Tensor, columns: int | None = None, zoom: int = 12) -> Tensor:
    """Filters of a first convolution side by side: grey for one channel, RGB for three.

    Each filter is scaled by its own largest absolute weight: mid-grey is zero, white (or full
    colour) is that weight and black its negative; a dead filter is all grey.

    Args:
        weight: Weights `[o c h w]`.
        columns: Number of filters in a row. None: a picture that is not much wider than high.
        zoom: Number of pixels of a weight along each side.

    Returns:
        The picture, bytes `[c h w]`, on a white ground.

    Raises:
        InputError: Filters of neither one channel nor three.
    """
    if weight.ndim != 4 or weight.shape[1] not in (1, 3):
        raise InputError(
            f"got filters of shape {list(weight.shape)}; a picture needs [o c h w] with 1 or 3 "
            "channels, as the first convolution on images has"
        )
    n, c, h, w = weight.shape
    if columns is None:
        side = math.ceil(math.sqrt(n))
        columns = next((k for k in range(side, 2 * side + 1) if n % k == 0), side)
    columns = min(columns, n)
    check_counts(1, columns=columns, zoom=zoom)
    rows, margin = math.ceil(n / columns), max(2, zoom // 3)
    height, width = h * zoom + margin, w * zoom + margin
    size = (c, rows * height + margin, columns * width + margin)
    picture = torch.full(size, WHITE, dtype=torch.uint8)
    weight = weight.detach().cpu().float()
    largest = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo().tiny)
    for i, tile in enumerate((127.5 + 127.5 * weight / largest).round().to(torch.uint8)):
        top, left = i // columns * height + margin, i % columns * width + margin
        big = tile.repeat_interleave(zoom, -2).repeat_interleave(zoom, -1)
        picture[:, top : top + h * zoom, left : left + w * zoom] = big
    return picture
