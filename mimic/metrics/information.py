"""Metrics of the mutual information between single codes and single factors.

Codes are discretised in histogram bins; all numbers are exact for the discretised codes, and
information is in nats. Functions raise `InputError` for codes and factors without a score.
"""

import torch
from torch import Tensor
from torch.special import xlogy

from mimic.features.inputs import Numbers
from mimic.metrics.base import (
    DisentanglementMetric,
    check_classes,
    check_rows,
    factor_classes,
    histogram_bins,
    top_gap,
)


def mutual_information_matrix(codes: Numbers, factors: Numbers, bins: int = 20) -> Tensor:
    """Mutual information `I(z_i; v_k)` of each binned code and each factor, `[d k]` in nats."""
    codes, factors = check_rows(codes, factors)
    classes = factor_classes(factors, bins)
    check_classes(classes)
    binned, (n, d) = histogram_bins(codes, bins), codes.shape
    cells = torch.arange(d) * bins + binned
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
    # Modularity divides by it, so rounding errors must be zero.
    return information.where(information > 1e-12, 0)


def mig(codes: Numbers, factors: Numbers, bins: int = 20) -> Tensor:
    """Mutual information gap of two or more codes (Chen 2018).

    `mean_k (I(z_a; v_k) - I(z_b; v_k)) / H(v_k)`, with `a` and `b` the two codes of most
    information about `v_k`: 1 if one code alone has information about each factor.
    """
    codes, factors = check_rows(codes, factors, n_codes=2)
    information = mutual_information_matrix(codes, factors, bins)
    return (top_gap(information.T) / _entropies(factor_classes(factors, bins))).mean()


def mig_sup(codes: Numbers, factors: Numbers, bins: int = 20) -> Tensor:
    """MIG-sup of two or more factors (Li 2020): the gap of each code between its best two factors.

    `mean_i (I(z_i; v_a) - I(z_i; v_b)) / H(z_i)`, 0 for a constant code. Unlike MIG it shows a
    code that holds two factors.
    """
    codes, factors = check_rows(codes, factors, n_factors=2)
    entropies = _entropies(histogram_bins(codes, bins))
    gaps = top_gap(mutual_information_matrix(codes, factors, bins))
    return torch.where(entropies > 0, gaps / entropies, 0).mean()


def modularity(information: Tensor) -> Tensor:
    """Modularity (Ridgeway & Mozer 2018, section 3), from mutual information `[d k]`.

    `mean_i 1 - Σ_{k≠a} I(z_i; v_k)² / (I(z_i; v_a)² (K - 1))`, with `v_a` the factor of most
    information: 1 if no code has information about two factors. A code without information counts
    as 0.
    """
    squares = information.square()
    best = squares.amax(1)
    others = (squares.sum(1) - best) / (best * (squares.shape[1] - 1))
    return torch.where(best > 0, 1 - others, 0).mean()


class MIG(DisentanglementMetric):
    """Mutual information gap: whether one code alone shows each factor. See `mig`."""

    def compute(self) -> Tensor:
        return self.result(mig(*self.drawn(), self.bins))


class MIGSup(DisentanglementMetric):
    """MIG-sup: whether each code shows one factor alone. See `mig_sup`."""

    def compute(self) -> Tensor:
        return self.result(mig_sup(*self.drawn(), self.bins))


class Modularity(DisentanglementMetric):
    """Modularity: whether each code shows at most one factor. See `modularity`."""

    def compute(self) -> Tensor:
        rows = self.drawn()
        check_rows(*rows, n_factors=2)
        return self.result(modularity(mutual_information_matrix(*rows, self.bins)))


def _entropies(classes: Tensor) -> Tensor:
    """Entropy of each column of `[n d]`, in nats."""
    counts = [torch.bincount(column).double() for column in classes.T]
    return torch.stack([torch.special.entr(c / len(classes)).sum() for c in counts])
