"""Codes and factors as classes."""

import torch
from torch import Tensor


def histogram_bins(x: Tensor, bins: int) -> Tensor:
    """The bin of each value, `bins` of equal width from the least value of its column up.

    A bin holds its lower edge; the last holds the greatest value too.

    Args:
        x: `[n d]`.
        bins: How many.

    Returns:
        `int64 [n d]` in `[0, bins)`.
    """
    x = x.double().T.contiguous()
    low, high = torch.aminmax(x, dim=1, keepdim=True)
    edges = low + torch.arange(bins, dtype=x.dtype) * ((high - low) / bins)
    return torch.searchsorted(edges, x, right=True).T - 1


def is_continuous(factors: Tensor, bins: int) -> Tensor:
    """Whether each column is floating point with more than `bins` distinct values, `bool [k]`."""
    distinct = torch.tensor([len(column.unique()) for column in factors.T])
    return (distinct > bins) & factors.is_floating_point()


def factor_classes(factors: Tensor, bins: int) -> Tensor:
    """Each column's values numbered from 0 in ascending order, continuous ones by bin.

    Args:
        factors: `[n k]`; see `is_continuous`.
        bins: Bins of a continuous factor, of which empty ones get no number.

    Returns:
        `int64 [n k]`.
    """
    columns = []
    for column, continuous in zip(factors.T, is_continuous(factors, bins).tolist(), strict=True):
        values = histogram_bins(column[:, None], bins)[:, 0] if continuous else column
        columns.append(values.unique(return_inverse=True)[1])
    return torch.stack(columns, 1)
