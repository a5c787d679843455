"""Brownian motion that is the same on every grid of times."""

import math

import torch
from torch import Tensor

from common.errors import check_positive

DEPTH = 16  # halvings of a cell; times are rounded to its 65,536th part


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
        first, last = (round((t - self.start) / self.cell * 2**DEPTH) for t in (start, stop))
        noise = torch.zeros_like(like)
        for i in range(first >> DEPTH, last >> DEPTH):
            noise = noise + self._whole(i, like)
        return noise + self._inside(last, like) - self._inside(first, like)

    def _whole(self, cell: int, like: Tensor) -> Tensor:
        """Increment over a cell."""
        return math.sqrt(self.cell) * self._normal(cell, 0, like)

    def _inside(self, time: int, like: Tensor) -> Tensor:
        """Increment from the start of the cell to a time in it, by halving the interval."""
        cell, place = divmod(time, 2**DEPTH)
        left, right, before = 0, 2**DEPTH, torch.zeros_like(like)
        after = self._whole(cell, like) if place else before
        while left < place:
            middle = (left + right) // 2
            spread = math.sqrt((right - left) / 2**DEPTH * self.cell) / 2
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
