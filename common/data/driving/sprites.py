"""Pictures of cars, people and trees, drawn at any size and position between the pixels."""

import functools
from typing import NamedTuple

import numpy as np

from common.data.draws import uniform
from common.data.streets.lighting import Lighting
from common.data.streets.street import CAR, PERSON, TREE
from common.data.streets.things import sprite

FINEST = 64  # pixels for a height of the camera, at the finest level
LEVELS = 4
VARIANTS = 32  # colours and forms of each kind
SIZES = {CAR: (1.5, 1.3), PERSON: (1.4, 0.5), TREE: (3.2, 2.4)}  # height and width
ROUGH = 0.12  # greatest relative difference of the brightness of a part of the surface


class Patch(NamedTuple):
    """Part of a picture that a thing covers.

    Attributes:
        rows: Rows of the picture.
        columns: Columns of the picture.
        colour: Brightness from 0 to 1, black where the thing is not, `float32 [3 h w]`.
        cover: Share of each pixel that the thing covers, `float32 [h w]`.
        area: Pixels that the thing would cover in a picture without edges.
    """

    rows: slice
    columns: slice
    colour: np.ndarray
    cover: np.ndarray
    area: float


class Sprite:
    """Picture of one thing, with smaller copies for greater distances.

    Args:
        kind: Class: car, person or tree.
        variant: Number of its colour and form, from 0 to `VARIANTS` - 1.
        right: Whether the thing is on the right side.
        lighting: Light.

    Attributes:
        box: Left, upper, right and lower edge of what the picture shows: distances to the right
            of its foot and above it, in heights of the camera.
    """

    def __init__(self, kind: int, variant: int, right: bool, lighting: Lighting) -> None:
        self._size = SIZES[kind]
        draws = uniform(np.array([variant]), 4, seed=5)[0]
        colour = 0.05 + 0.9 * draws[:3]
        light = sprite(kind, colour, float(draws[3]), right, self._size, FINEST)
        height, width = light.shape[:2]
        speckle = uniform(np.arange(height), width, seed=11)[..., None]
        rough = (1 + ROUGH * (2 * speckle - 1)).astype(np.float32)
        lit = light[..., :3] * rough * np.array(lighting.light, np.float32)
        picture = np.concatenate([lit + lighting.lamps * light[..., 3:6], 1 - light[..., 6:]], -1)
        self._levels = [np.ascontiguousarray(picture.transpose(2, 0, 1))]
        for _ in range(LEVELS - 1):
            big = self._levels[-1]
            h, w = (n // 2 * 2 for n in big.shape[1:])
            big = big[:, big.shape[1] - h :, :w]  # the foot stays where it is
            half = big[:, ::2] + big[:, 1::2]
            self._levels.append((half[..., ::2] + half[..., 1::2]) / 4)
        rows, columns = (np.flatnonzero((picture[..., 3] > 0.5).any(axis)) for axis in (1, 0))
        left, end = columns[[0, -1]] + (0, 1)
        top, foot = rows[[0, -1]] + (0, 1)
        self.box = (
            left / FINEST - self._size[1] / 2,
            self._size[0] - top / FINEST,
            end / FINEST - self._size[1] / 2,
            self._size[0] - foot / FINEST,
        )
        self._area = float(picture[..., 3].sum()) / FINEST**2

    def at(self, foot: tuple[float, float], scale: float, size: tuple[int, int]) -> Patch | None:
        """Patch of a picture that the thing covers.

        Args:
            foot: Column and row of the foot in the picture, in pixels.
            scale: Pixels for a height of the camera.
            size: Height and width of the picture.

        Returns:
            The patch. None: the thing is outside the picture.
        """
        (high, wide), (x, y) = self._size, foot
        rows, columns = (
            _covered(y - high * scale, y, size[0]),
            _covered(x - wide / 2 * scale, x + wide / 2 * scale, size[1]),
        )
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return None
        level = min(max(int(np.log2(FINEST / scale)), 0), LEVELS - 1)
        picture, pixels = self._levels[level], FINEST / 2**level
        down = (np.arange(rows.start, rows.stop) + 0.5 - y) / scale * pixels
        across = (np.arange(columns.start, columns.stop) + 0.5 - x) / scale * pixels
        near_rows, vertical = _weights(down + picture.shape[1] - 0.5, picture.shape[1])
        near_columns, horizontal = _weights(across + wide / 2 * pixels - 0.5, picture.shape[2])
        seen = vertical @ picture[:, near_rows, near_columns] @ horizontal.T
        return Patch(rows, columns, seen[:3], seen[3], self._area * scale**2)


@functools.cache
def sprite_of(kind: int, variant: int, right: bool, lighting: Lighting) -> Sprite:
    """The `Sprite` with these arguments; it is made once."""
    return Sprite(kind, variant, right, lighting)


def _covered(low: float, high: float, count: int) -> slice:
    return slice(max(int(np.floor(low)), 0), min(int(np.ceil(high)), count))


def _weights(at: np.ndarray, n: int) -> tuple[slice, np.ndarray]:
    """Linear interpolation at `k` ascending positions between `n` pixels: pixels and weights.

    There is nothing outside the pixels.

    Returns:
        The `m` pixels that count, and their weights `[k m]`.
    """
    first, last = max(int(at[0]), 0), min(int(at[-1]) + 2, n)
    pixels = slice(min(first, last), last)
    known = np.arange(pixels.start, last, dtype=np.float32)
    return pixels, np.maximum(1 - np.abs(at.astype(np.float32)[:, None] - known), 0)
