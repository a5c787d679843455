"""Brownian motion that is the same on every grid of times."""

import math

import torch
from torch import Tensor

from common.errors import check_positive

PARTS = 2**16  # of a cell, a power of 2; times are rounded to them


class BrownianPath:
    """Sample path of Brownian motion (a virtual Brownian tree; Li et al. 2020, section 4).

    Its values don't depend on the times that are asked for: solves with different steps or at
    other times see the same path. Time is cut into equal cells. The first use of a cell draws a
    seed from PyTorch's generator, so `torch.manual_seed` alone reproduces the path. The increment
    over the cell, and the Brownian bridges inside of it, are computed from the seed again each
    time: no noise is kept in memory.

    Args:
        cell: Length of a cell. An increment between ends of cells is exact and cheapest, and one
            between halves, quarters, … of cells is exact too; other times are rounded.
        start: Time at which the first cell begins.

    Raises:
        InputError: `cell` is not above 0.
    """

    def __init__(self, cell: float, start: float = 0.0) -> None:
        check_positive(cell=cell)
        self.cell, self.start = cell, start
        self._seeds: dict[int, int] = {}

    def increment(self, start: float, stop: float, like: Tensor) -> Tensor:
        """Increment `W(stop) - W(start)`, of the shape, type and device of `like`."""
        ends = [round((t - self.start) / self.cell * PARTS) for t in (start, stop)]
        (first, before), (last, after) = (divmod(end, PARTS) for end in ends)
        noise = torch.zeros_like(like)
        for cell in range(first, last):
            noise += self._whole(cell, like)
        if after:
            noise += self._inside(last, after, like)
        if before:
            noise -= self._inside(first, before, like)
        return noise

    def _whole(self, cell: int, like: Tensor) -> Tensor:
        """Increment over a cell."""
        return math.sqrt(self.cell) * self._normal(cell, 0, like)

    def _inside(self, cell: int, place: int, like: Tensor) -> Tensor:
        """Increment from the start of a cell to a place in it, by halving the interval."""
        left, right = 0, PARTS
        before, after = torch.zeros_like(like), self._whole(cell, like)
        while left < place:
            middle = (left + right) // 2
            spread = math.sqrt((right - left) / PARTS * self.cell) / 2
            between = (before + after) / 2 + spread * self._normal(cell, middle, like)
            if middle <= place:
                left, before = middle, between
            else:
                right, after = middle, between
        return before

    def _normal(self, cell: int, place: int, like: Tensor) -> Tensor:
        """Standard normal numbers that belong to a place in a cell."""
        if cell not in self._seeds:
            self._seeds[cell] = int(torch.randint(2**62, ()))
        generator = torch.Generator(like.device).manual_seed(self._seeds[cell] + place)
        return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
