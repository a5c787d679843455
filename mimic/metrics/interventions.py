"""Draws of collected rows in which one factor stands still."""

import torch
from torch import Tensor

from common.errors import InputError
from mimic.metrics.base import check_classes
from mimic.metrics.discretize import factor_classes


class Interventions:
    """Draws of rows in which one factor stands still, chosen at random for each draw.

    Its values come as often as in the data.

    Args:
        factors: `[n k]`.
        batch_size: Rows, or pairs of rows, in a draw.
        bins: Bins of a continuous factor.
        seed: Seed of the draws.

    Raises:
        InputError: A factor doesn't vary, or no two rows share a value of it.
    """

    def __init__(
        self, factors: Tensor, batch_size: int = 64, bins: int = 20, seed: int = 0
    ) -> None:
        classes = factor_classes(factors, bins)
        check_classes(classes)
        self.groups = [_Groups(factor) for factor in classes.T]
        self.batch_size, self.draws = batch_size, torch.Generator().manual_seed(seed)

    def batches(self, count: int) -> list[Tensor]:
        """For each factor, row numbers `[_ batch_size]` of one value a draw, `count` in all."""
        return [
            groups.batches(size, self.batch_size, self.draws)
            for groups, size in zip(self.groups, self._sizes(count), strict=True)
        ]

    def pairs(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """For each factor, twice `[_ batch_size]`, different rows of one value a pair."""
        return [
            groups.pairs(size, self.batch_size, self.draws)
            for groups, size in zip(self.groups, self._sizes(count), strict=True)
        ]

    def _sizes(self, count: int) -> list[int]:
        chosen = torch.randint(len(self.groups), (count,), generator=self.draws)
        return torch.bincount(chosen, minlength=len(self.groups)).tolist()


class _Groups:
    """The rows of each value of one factor, `int64 [n]`, but for values that come once."""

    def __init__(self, classes: Tensor) -> None:
        counts = torch.bincount(classes)[classes]
        rows = classes.argsort(stable=True)
        self.rows = rows[counts[rows] > 1]
        if len(self.rows) == 0:
            raise InputError(
                f"got {len(classes)} rows in which no value of a factor comes twice; collect more "
                "rows, or give a continuous factor as floating point"
            )
        _, group, sizes = classes[self.rows].unique_consecutive(
            return_inverse=True, return_counts=True
        )
        self.sizes, self.starts = sizes[group], (sizes.cumsum(0) - sizes)[group]

    def batches(self, count: int, batch_size: int, draws: torch.Generator) -> Tensor:
        first = torch.randint(len(self.rows), (count, 1), generator=draws)
        u = torch.rand(count, batch_size, generator=draws, dtype=torch.float64)
        return self.rows[self.starts[first] + (u * self.sizes[first]).long()]

    def pairs(self, count: int, batch_size: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        first = torch.randint(len(self.rows), (count, batch_size), generator=draws)
        u = torch.rand(count, batch_size, generator=draws, dtype=torch.float64)
        starts, sizes = self.starts[first], self.sizes[first]
        step = 1 + (u * (sizes - 1)).long()
        return self.rows[first], self.rows[starts + (first - starts + step) % sizes]
