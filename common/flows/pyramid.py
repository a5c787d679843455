"""Image pyramids: the coarsest image, and for each finer scale the detail that it adds.

The images `x₀ … x_S`, from coarse to fine, satisfy `p(x_S) = p(x₀) ∏ p(x_s | x_{s-1})`
(Predoc III, eq. 6.1).
"""

import abc
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from common.errors import InputError, check_counts
from common.typing import Image, ImageShape


class Level(NamedTuple):
    """Level of a pyramid: the data of one factor of the likelihood.

    Attributes:
        detail: Detail of this scale; at scale 0 the coarsest image itself.
        context: Coarser image, at the height and width of the detail. None: scale 0.
    """

    detail: Image
    context: Image | None


class LevelShape(NamedTuple):
    """Shape of the detail of a level, and number of channels of its context (0 at scale 0)."""

    detail: ImageShape
    context_channels: int


class Pyramid(abc.ABC):
    """Image pyramid: splits an image into levels, coarsest first, and merges them again.

    Attributes:
        exact: Whether the levels hold as many numbers as the image and the split preserves volume.
            Then the sum of the levels' log-densities is the log-density of the image. Otherwise
            the sum is only a bound, and only if every image of the pyramid has its own noise.
        n_scales: Number of images in the pyramid.
    """

    exact: bool
    n_scales: int

    @abc.abstractmethod
    def shapes(self, shape: ImageShape) -> list[LevelShape]:
        """Shapes of the levels of an image.

        Raises:
            InputError: An image of this shape doesn't fit the pyramid.
        """

    @abc.abstractmethod
    def images(self, levels: Tensor) -> list[Tensor]:
        """Images that are to be dequantized, coarsest first.

        An exact pyramid has one, the image itself; other pyramids have one for each scale.

        Args:
            levels: Grey levels of the images, bytes or averages of bytes.
        """

    @abc.abstractmethod
    def split(self, images: Sequence[Image]) -> list[Level]:
        """Levels of the dequantized `images`, coarsest first."""

    @abc.abstractmethod
    def context(self, coarse: Image, scale: int) -> Image:
        """Context of the flow at `scale`, from the image that is one scale coarser."""

    @abc.abstractmethod
    def merge(self, coarse: Image, detail: Image, scale: int) -> Image:
        """Image at `scale`, from the next coarser image and the detail (Predoc III, eq. 6.16)."""


class BlockPyramid(Pyramid):
    """Exact pyramid that applies a 4 × 4 matrix to each 2 × 2 block of pixels of a channel.

    Each scale halves height and width. Three rows of the matrix give the detail, the last row
    gives the coarse image. The determinant is ±1, so the split does not change the log-density.

    Args:
        n_scales: Number of images in the pyramid; 1 is the image alone.

    Raises:
        InputError: `n_scales` is below 1.
    """

    exact = True
    rows: tuple[tuple[float, float, float, float], ...]

    def __init__(self, n_scales: int = 3) -> None:
        check_counts(1, n_scales=n_scales)
        self.n_scales = n_scales

    @property
    def matrix(self) -> Tensor:
        return torch.tensor(self.rows, dtype=torch.float64)

    def shapes(self, shape: ImageShape) -> list[LevelShape]:
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
            # Join the row and the column within a block: [b c h 2 w 2] -> [b c h w 4].
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
    """Pyramid whose coarse pixels are the means of the blocks (Voleti et al. 2021, MRCNF).

    The determinant of its matrix is 1.
    """

    rows = (
        (1 / _C, 1 / _C, -1 / _C, -1 / _C),
        (1 / _C, -1 / _C, 1 / _C, -1 / _C),
        (1 / _C, -1 / _C, -1 / _C, 1 / _C),
        (1 / 4, 1 / 4, 1 / 4, 1 / 4),
    )


class HaarPyramid(BlockPyramid):
    """Pyramid of the orthonormal Haar wavelet; coarse pixels are twice the means of the blocks."""

    rows = (
        (1 / 2, 1 / 2, -1 / 2, -1 / 2),
        (1 / 2, -1 / 2, 1 / 2, -1 / 2),
        (1 / 2, -1 / 2, -1 / 2, 1 / 2),
        (1 / 2, 1 / 2, 1 / 2, 1 / 2),
    )


class LaplacianPyramid(Pyramid):
    """Laplacian pyramid of the report, `Lap(x_s) = x_s - U(x_{s-1})` (Predoc III, eq. 6.3).

    The details have the full size of their images. The levels hold more numbers than the image, so
    the sum of their log-densities is not the log-density of the image. Every image of the pyramid
    gets its own noise, one grey level wide. The sum is then a lower bound of `log P(x)`, because
    all coarser images are functions of the finest one.

    Args:
        sizes: Height (and width) of the images, coarsest first, in any ratio: `[3, 13, 64]`.

    Raises:
        InputError: No sizes, or sizes that don't grow.
    """

    exact = False

    def __init__(self, sizes: Sequence[int] = (8, 16, 32)) -> None:
        check_counts(1, sizes=sizes)
        if not sizes or any(a >= b for a, b in pairwise(sizes)):
            raise InputError(f"sizes must grow from the coarsest to the finest, got {list(sizes)}")
        self.sizes = list(sizes)
        self.n_scales = len(self.sizes)

    def shapes(self, shape: ImageShape) -> list[LevelShape]:
        c, h, w = shape
        if h != self.sizes[-1] or w != self.sizes[-1]:
            raise InputError(
                f"the pyramid's finest size is {self.sizes[-1]} but images are {h} × {w}: the "
                "last of its sizes must be the height and width of the (square) images"
            )
        return [LevelShape((c, n, n), c if s else 0) for s, n in enumerate(self.sizes)]

    def images(self, levels: Tensor) -> list[Tensor]:
        # Each one from the finest image, so that all are functions of the bytes alone.
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
        """Operator D: blur and subsampling, to height and width `size`.

        Averages with positive weights keep the grey levels in range.
        """
        return functional.interpolate(x, size, mode="bilinear", antialias=True)

    @staticmethod
    def up(x: Image, size: int) -> Image:
        """Operator U: oversampling and blur, to height and width `size`."""
        return functional.interpolate(x, size, mode="bilinear")
