"""What the disentanglement metrics share: which rows they collect, use and refuse."""

import abc
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from common.errors import InputError, check_counts


class Rows(NamedTuple):
    """Codes `[n d]` and the factors `[n k]` that belong to them."""

    codes: Tensor
    factors: Tensor


class DisentanglementMetric(Metric, abc.ABC):
    """Collects codes and their true factors; a subclass scores them all at once.

    Integer factors are classes. Floating-point factors count as classes where a column has at most
    `bins` distinct values; other columns are cut into `bins` bins of equal width between their
    least and greatest value. Everything is computed on the CPU in float64, with random numbers
    that `seed` alone fixes.

    Call `update`, not the metric itself, on each batch: the latter scores the batch as well.

    Args:
        bins: Bins of a code or a continuous factor.
        seed: Seed of all draws; the global random states are left alone.
        **kwargs: Those of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    codes: list[Tensor]
    factors: list[Tensor]

    def __init__(self, bins: int = 20, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_counts(2, bins=bins)
        self.bins, self.seed = bins, seed
        self.add_state("codes", [], dist_reduce_fx="cat")
        self.add_state("factors", [], dist_reduce_fx="cat")

    def update(self, codes: Tensor, factors: Tensor) -> None:
        """Add rows.

        Args:
            codes: Floating point, `[n d]`.
            factors: Integer (classes) or floating point, `[n k]`.

        Raises:
            InputError: Other shapes or types, or numbers that aren't finite.
        """
        check_batch(codes, factors)
        for old, new in ((self.codes, codes), (self.factors, factors)):
            if old and old[0].shape[1] != new.shape[1]:
                raise InputError(
                    f"got rows of {new.shape[1]} columns after rows of {old[0].shape[1]}; "
                    "call reset before another model or data set"
                )
        self.codes.append(codes.detach())
        self.factors.append(factors.detach())

    @abc.abstractmethod
    def compute(self) -> Tensor | dict[str, Tensor]:
        """The score of all rows.

        Raises:
            InputError: Rows that no score can be given for; the message says why.
        """

    def collected(self) -> Rows:
        """All rows so far, on the CPU, in float64 and int64."""
        if len(self.codes) == 0:
            raise InputError("got no rows; call update before compute")
        codes, factors = dim_zero_cat(self.codes).cpu(), dim_zero_cat(self.factors).cpu()
        return Rows(
            codes.double(), factors.double() if factors.is_floating_point() else factors.long()
        )

    def result(self, score: Tensor) -> Tensor:
        """The score as this metric reports it."""
        return score.to(torch.float32).to(self.device)


def check_batch(codes: Tensor, factors: Tensor) -> None:
    """Refuse what aren't codes `[n d]` and factors `[n k]`, both finite."""
    shapes = f"got codes {list(codes.shape)} and factors {list(factors.shape)}"
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise InputError(f"{shapes}; give [n d] and [n k] of the same n")
    if not codes.is_floating_point() or factors.is_complex() or factors.dtype == torch.bool:
        raise InputError(
            f"got codes of {codes.dtype} and factors of {factors.dtype}; give floating-point "
            "codes and integer or floating-point factors"
        )
    for name, values in (("codes", codes), ("factors", factors)):
        if not values.isfinite().all():
            raise InputError(f"got {name} that aren't all finite; look for NaN in the model")


def check_rows(codes: Tensor, factors: Tensor, n_codes: int = 1, n_factors: int = 1) -> None:
    """Refuse fewer than two rows, or too few codes or factors for a score."""
    check_batch(codes, factors)
    if len(codes) < 2:
        raise InputError(f"got {len(codes)} row(s); a score needs two or more")
    for name, values, least in (("code", codes, n_codes), ("factor", factors, n_factors)):
        if values.shape[1] < least:
            raise InputError(f"got {values.shape[1]} {name}(s); this score needs {least} or more")


def check_classes(classes: Tensor, where: str = "") -> None:
    """Refuse factors that don't vary, of which nothing can be said."""
    constant = (classes == classes[0]).all(0).nonzero().flatten().tolist()
    if constant:
        raise InputError(
            f"got one value only of factor(s) {constant} in {len(classes)} {where}rows; leave "
            "them out of the factors, or collect more rows"
        )


def draw_rows(rows: Rows, count: int, seed: int) -> Rows:
    """That many of the rows at random, or all where there are no more."""
    if len(rows.codes) <= count:
        return rows
    chosen = _shuffled(len(rows.codes), seed)[:count]
    return Rows(rows.codes[chosen], rows.factors[chosen])


def split_rows(rows: Rows, n_train: int, n_test: int, seed: int) -> tuple[Rows, Rows]:
    """Random rows for training and others for testing; of fewer rows, the same proportions."""
    check_rows(*rows)
    count = len(rows.codes)
    if count < n_train + n_test:
        n_train = min(max(round(count * n_train / (n_train + n_test)), 1), count - 1)
        n_test = count - n_train
    order = _shuffled(count, seed)
    train, test = order[:n_train], order[n_train : n_train + n_test]
    return (
        Rows(rows.codes[train], rows.factors[train]),
        Rows(rows.codes[test], rows.factors[test]),
    )


def _shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def top_gap(x: Tensor) -> Tensor:
    """The greatest number of each row of `[m n]` less the second, `[m]`."""
    first, second = x.topk(2, dim=1).values.T
    return first - second
