"""Metrics of the mutual information between single codes and single factors.

Codes are discretised in histogram bins, so all is exact for the discretised codes; it is in nats.
"""

from typing import Any

import torch
from torch import Tensor
from torch.special import xlogy

from common.errors import check_counts
from mimic.metrics.base import (
    DisentanglementMetric,
    check_classes,
    check_rows,
    draw_rows,
    top_gap,
)
from mimic.metrics.discretize import factor_classes, histogram_bins


def mutual_information_matrix(codes: Tensor, factors: Tensor, bins: int = 20) -> Tensor:
    """Mutual information of each binned code and each factor, `I(z_i; v_k)`.

    Args:
        codes: `[n d]`.
        factors: `[n k]`, integer classes or floating point.
        bins: Bins of a code and of a continuous factor.

    Returns:
        `[d k]` in nats, float64.

    Raises:
        InputError: Codes and factors that don't fit, or a factor with one value only.
    """
    check_rows(codes, factors)
    classes = factor_classes(factors, bins)
    check_classes(classes)
    return _mutual_information(histogram_bins(codes, bins), classes, bins)


def mig(codes: Tensor, factors: Tensor, bins: int = 20) -> Tensor:
    """Mutual information gap (Chen 2018).

    `mean_k (I(z_a; v_k) - I(z_b; v_k)) / H(v_k)`, `a` and `b` being the two codes that tell most
    of `v_k`: 1 where each factor is told by one code alone.

    Args:
        codes: `[n d]`, two or more.
        factors: `[n k]`.
        bins: Bins of a code and of a continuous factor.
    """
    check_rows(codes, factors, n_codes=2)
    information = mutual_information_matrix(codes, factors, bins)
    return (top_gap(information.T) / _entropies(factor_classes(factors, bins))).mean()


def mig_sup(codes: Tensor, factors: Tensor, bins: int = 20) -> Tensor:
    """MIG-sup (Li 2020), the gap of each code between the two factors that it tells most of.

    `mean_i (I(z_i; v_a) - I(z_i; v_b)) / H(z_i)`, 0 for a constant code. It sees what MIG doesn't:
    one code that holds two factors.

    Args:
        codes: `[n d]`.
        factors: `[n k]`, two or more.
        bins: Bins of a code and of a continuous factor.
    """
    check_rows(codes, factors, n_factors=2)
    entropies = _entropies(histogram_bins(codes, bins))
    gaps = top_gap(mutual_information_matrix(codes, factors, bins))
    return torch.where(entropies > 0, gaps / entropies, 0).mean()


def modularity(information: Tensor) -> Tensor:
    """Modularity (Ridgeway & Mozer 2018, section 3), from mutual information `[d k]`.

    `mean_i 1 - Σ_{k≠a} I(z_i; v_k)² / (I(z_i; v_a)² (K - 1))`, `v_a` being the factor that the
    code tells most of: 1 where no code tells of two factors. A code that tells of none counts 0.
    """
    squares = information.square()
    best = squares.amax(1)
    others = (squares.sum(1) - best) / (best * (squares.shape[1] - 1))
    return torch.where(best > 0, 1 - others, 0).mean()


class _InformationMetric(DisentanglementMetric):
    """Base of these metrics, with disentanglement_lib's settings.

    Args:
        bins: Bins of a code and of a continuous factor.
        n_train: Rows used, drawn at random where more were collected.
        seed: Seed of that draw.
        **kwargs: Those of `torchmetrics.Metric`.
    """

    def __init__(self, bins: int = 20, n_train: int = 10000, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(bins, seed, **kwargs)
        check_counts(2, n_train=n_train)
        self.n_train = n_train


class MIG(_InformationMetric):
    """Mutual information gap: does one code alone tell of each factor? See `mig`."""

    def compute(self) -> Tensor:
        rows = draw_rows(self.collected(), self.n_train, self.seed)
        return self.result(mig(*rows, self.bins))


class MIGSup(_InformationMetric):
    """MIG-sup: does each code tell of one factor alone? See `mig_sup`."""

    def compute(self) -> Tensor:
        rows = draw_rows(self.collected(), self.n_train, self.seed)
        return self.result(mig_sup(*rows, self.bins))


class Modularity(_InformationMetric):
    """Modularity: does each code tell of one factor at most? See `modularity`."""

    def compute(self) -> Tensor:
        rows = draw_rows(self.collected(), self.n_train, self.seed)
        check_rows(*rows, n_factors=2)
        return self.result(modularity(mutual_information_matrix(*rows, self.bins)))


def _mutual_information(codes: Tensor, classes: Tensor, bins: int) -> Tensor:
    """The same of codes `[n d]` in `[0, bins)` and factors `[n k]` from 0 up."""
    n, d = codes.shape
    cells = torch.arange(d) * bins + codes
    columns = []
    for factor in classes.T:
        size = int(factor.max()) + 1
        counts = torch.bincount(
            (cells * size + factor[:, None]).flatten(), minlength=d * bins * size
        )
        joint = counts.view(d, bins, size).double() / n
        p, q = joint.sum(2, keepdim=True), joint.sum(1, keepdim=True)
        columns.append((xlogy(joint, joint) - xlogy(joint, p) - xlogy(joint, q)).sum((1, 2)))
    information = torch.stack(columns, 1)
    # Modularity divides by it, so what is rounding must be nothing.
    return information.where(information > 1e-12, 0)


def _entropies(classes: Tensor) -> Tensor:
    """Entropy of each column of `[n d]`, in nats."""
    counts = [torch.bincount(column).double() for column in classes.T]
    return torch.stack([torch.special.entr(c / len(classes)).sum() for c in counts])
