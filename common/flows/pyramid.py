"""Image pyramids: a coarsest image and, scale by scale, the detail that the next finer one adds.

`x₀ … x_S` with `p(x_S) = p(x₀) ∏ p(x_s | x_{s-1})` (Predoc III, eq. 6.1).
"""

import abc
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from common.errors import InputError
from common.typing import Image

Shape = tuple[int, int, int]  # channels, height, width


class Level(NamedTuple):
    """One factor of the likelihood."""

    detail: Image
    context: Image | None  # the coarser image at the detail's height and width; none at scale 0


class LevelShape(NamedTuple):
    """Shape of a level's detail, and the channels of its context (0 at scale 0)."""

    detail: Shape
    context_channels: int


class Pyramid(abc.ABC):
    """How an image splits into levels, coarsest first, and is put together again.

    Attributes:
        exact: The levels hold as many numbers as the image and the split preserves volume, so the
            sum of their log-densities is the image's. Otherwise it is only a bound, and only with
            noise of its own for every image of the pyramid.
    """

    exact: bool
    n_scales: int

    @abc.abstractmethod
    def shapes(self, shape: Shape) -> list[LevelShape]:
        """The levels of an image of this shape, or an InputError that says why it doesn't fit."""

    @abc.abstractmethod
    def images(self, levels: Tensor) -> list[Tensor]:
        """The images to be dequantized, coarsest first: one if exact, else every scale's."""

    @abc.abstractmethod
    def split(self, images: Sequence[Image]) -> list[Level]:
        """The dequantized `images` as levels, coarsest first."""

    @abc.abstractmethod
    def context(self, coarse: Image, scale: int) -> Image:
        """What the flow at `scale` is told of the image one scale coarser."""

    @abc.abstractmethod
    def merge(self, coarse: Image, detail: Image, scale: int) -> Image:
        """The image at `scale`, from the one below it and its detail (Predoc III, eq. 6.16)."""


class BlockPyramid(Pyramid):
    """Halves height and width by a 4 × 4 matrix on the 2 × 2 blocks of each channel.

    The matrix has three rows of detail and one of the coarse image, and determinant ±1, so
    splitting leaves the log-density as it is.

    Args:
        n_scales: Images in the pyramid; 1 is the image alone.
    """

    exact = True
    rows: tuple[tuple[float, float, float, float], ...]

    def __init__(self, n_scales: int = 3) -> None:
        if n_scales < 1:
            raise InputError(f"a pyramid has at least 1 scale, got n_scales {n_scales}")
        self.n_scales = n_scales

    @property
    def matrix(self) -> Tensor:
        return torch.tensor(self.rows, dtype=torch.float64)

    def shapes(self, shape: Shape) -> list[LevelShape]:
        c, h, w = shape
        factor = 2 ** (self.n_scales - 1)
        if h % factor or w % factor:
            raise InputError(
                f"an image of {h} × {w} pixels can't be halved {self.n_scales - 1} times: lower "
                f"the pyramid's n_scales from {self.n_scales}, or use sizes divisible by {factor}"
            )
        levels = [LevelShape((c, h // factor, w // factor), 0)]
        for s in range(1, self.n_scales):
            size = 2 ** (self.n_scales - s)
            levels.append(LevelShape((3 * c, h // size, w // size), c))
        return levels

    def images(self, levels: Tensor) -> list[Tensor]:
        return [levels]

    def split(self, images: Sequence[Image]) -> list[Level]:
        (x,) = images
        levels = []
        for _ in range(1, self.n_scales):
            # Rows of a block and columns of a block: [b c h 2 w 2] -> [b c h w 4].
            b, c, h, w = x.shape
            blocks = x.reshape(b, c, h // 2, 2, w // 2, 2).transpose(3, 4).reshape(b, c, -1, 4)
            bands = torch.einsum("ij,bcnj->bicn", self.matrix.to(x), blocks)
            bands = bands.reshape(b, 4 * c, h // 2, w // 2)
            x = bands[:, 3 * c :]
            levels.append(Level(bands[:, : 3 * c], x))
        return [Level(x, None), *reversed(levels)]

    def context(self, coarse: Image, scale: int) -> Image:
        return coarse

    def merge(self, coarse: Image, detail: Image, scale: int) -> Image:
        b, c, h, w = coarse.shape
        bands = torch.cat([detail, coarse], dim=1).reshape(b, 4, c, h * w)
        blocks = torch.einsum("ij,bjcn->bcni", torch.linalg.inv(self.matrix).to(coarse), bands)
        x = blocks.reshape(b, c, h, w, 2, 2).transpose(3, 4)
        return x.reshape(b, c, 2 * h, 2 * w)


_C = 2 ** (2 / 3)


class UnimodularPyramid(BlockPyramid):
    """Coarse pixels are block means, the determinant is 1 (Voleti et al. 2021, MRCNF)."""

    rows = (
        (1 / _C, 1 / _C, -1 / _C, -1 / _C),
        (1 / _C, -1 / _C, 1 / _C, -1 / _C),
        (1 / _C, -1 / _C, -1 / _C, 1 / _C),
        (1 / 4, 1 / 4, 1 / 4, 1 / 4),
    )


class HaarPyramid(BlockPyramid):
    """The orthonormal Haar wavelet: coarse pixels are twice the block means."""

    rows = (
        (1 / 2, 1 / 2, -1 / 2, -1 / 2),
        (1 / 2, -1 / 2, 1 / 2, -1 / 2),
        (1 / 2, -1 / 2, -1 / 2, 1 / 2),
        (1 / 2, 1 / 2, 1 / 2, 1 / 2),
    )


class LaplacianPyramid(Pyramid):
    """The report's: `Lap(x_s) = x_s - U(x_{s-1})` at full size (Predoc III, eq. 6.3).

    Its levels hold more numbers than the image, so the sum of their log-densities is not the
    image's. Every image of the pyramid gets noise of its own, one grey level wide; then the sum
    bounds `log P(x)` from below, as all coarser images are functions of the finest.

    Args:
        sizes: Height and width of the images, coarsest first, of any ratio: `[3, 13, 64]`.
    """

    exact = False

    def __init__(self, sizes: Sequence[int] = (8, 16, 32)) -> None:
        if not sizes or any(a >= b for a, b in pairwise(sizes)):
            raise InputError(f"sizes must grow from the coarsest to the finest, got {list(sizes)}")
        self.sizes = list(sizes)
        self.n_scales = len(self.sizes)

    def shapes(self, shape: Shape) -> list[LevelShape]:
        c, h, w = shape
        if h != self.sizes[-1] or w != self.sizes[-1]:
            raise InputError(
                f"the pyramid's finest size is {self.sizes[-1]} but images are {h} × {w}: end "
                "its sizes with the (square) images' size"
            )
        return [LevelShape((c, n, n), c if s else 0) for s, n in enumerate(self.sizes)]

    def images(self, levels: Tensor) -> list[Tensor]:
        # Each from the finest, so that all are functions of the bytes alone.
        x = levels.float() if not levels.is_floating_point() else levels
        return [*(self.down(x, n) for n in self.sizes[:-1]), x]

    def split(self, images: Sequence[Image]) -> list[Level]:
        levels = [Level(images[0], None)]
        for s in range(1, self.n_scales):
            context = self.context(images[s - 1], s)
            levels.append(Level(images[s] - context, context))
        return levels

    def context(self, coarse: Image, scale: int) -> Image:
        return self.up(coarse, self.sizes[scale])

    def merge(self, coarse: Image, detail: Image, scale: int) -> Image:
        return detail + self.context(coarse, scale)

    @staticmethod
    def down(x: Image, size: int) -> Image:
        """D: blur and subsampling. Averages with positive weights keep grey levels in range."""
        return functional.interpolate(x, size, mode="bilinear", antialias=True)

    @staticmethod
    def up(x: Image, size: int) -> Image:
        """U: oversampling and blur."""
        return functional.interpolate(x, size, mode="bilinear")
