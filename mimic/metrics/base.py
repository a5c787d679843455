"""Common parts of the disentanglement metrics: collected rows, checks, random splits, classes.

Everywhere, codes are floating point `[n d]` and factors `[n k]`: integers (classes) or floating
point. A floating-point factor counts as classes if it has at most `bins` distinct values; any
other one is continuous and cut into `bins` bins of equal width from its least to its greatest
value.
"""

import abc
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from common.errors import InputError, check_counts
from mimic.features.inputs import Numbers, as_tensor


class CodesAndFactors(NamedTuple):
    """Codes `[n d]` and the factors `[n k]` that belong to them."""

    codes: Tensor
    factors: Tensor

    def rows(self, chosen: Tensor) -> "CodesAndFactors":
        """The rows of these indices."""
        return CodesAndFactors(self.codes[chosen], self.factors[chosen])


class DisentanglementMetric(Metric, abc.ABC):
    """Base of the metrics: collects codes and factors, and scores all of them at once.

    Everything is computed on the CPU in float64, with random numbers that depend only on `seed`.
    Call `update`, not the metric itself, on each batch: the latter scores the batch as well. The
    default settings are those of disentanglement_lib.

    Args:
        bins: Number of bins of a code or a continuous factor.
        n_train: Number of rows, or of draws of rows, to use or to fit on.
        seed: Seed of all draws; the global random states are left alone.
        **kwargs: Options of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    codes: list[Tensor]
    factors: list[Tensor]

    def __init__(self, bins: int = 20, n_train: int = 10000, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_counts(2, bins=bins, n_train=n_train)
        self.bins, self.n_train, self.seed = bins, n_train, seed
        self.add_state("codes", [], dist_reduce_fx="cat")
        self.add_state("factors", [], dist_reduce_fx="cat")

    def update(self, codes: Numbers, factors: Numbers) -> None:
        """Adds rows of tensors or numpy arrays.

        Raises:
            InputError: Other shapes or types, or numbers that are not finite.
        """
        codes, factors = check_batch(codes, factors)
        for old, new in ((self.codes, codes), (self.factors, factors)):
            if old and old[0].shape[1] != new.shape[1]:
                raise InputError(
                    f"got rows of {new.shape[1]} columns after rows of {old[0].shape[1]}; "
                    "call reset before another model or data set"
                )
        self.codes.append(codes)
        self.factors.append(factors)

    @abc.abstractmethod
    def compute(self) -> Tensor | dict[str, Tensor]:
        """Score of all rows.

        Raises:
            InputError: There is no score of such rows; the message says why.
        """

    def collected(self) -> CodesAndFactors:
        """All rows so far, on the CPU, in float64 and int64."""
        if len(self.codes) == 0:
            raise InputError("got no rows; call update before compute")
        codes, factors = dim_zero_cat(self.codes).cpu(), dim_zero_cat(self.factors).cpu()
        return CodesAndFactors(
            codes.double(), factors.double() if factors.is_floating_point() else factors.long()
        )

    def drawn(self) -> CodesAndFactors:
        """`n_train` of the rows at random, or all rows if there are no more."""
        return draw_rows(self.collected(), self.n_train, self.seed)

    def result(self, score: Tensor) -> Tensor:
        """Score as this metric reports it."""
        return score.to(torch.float32).to(self.device)


def check_batch(codes: Numbers, factors: Numbers) -> CodesAndFactors:
    """Codes and factors as tensors, of tensors or numpy arrays.

    Raises:
        InputError: They are not finite codes and factors of the same n.
    """
    codes, factors = as_tensor(codes, "codes").detach(), as_tensor(factors, "factors").detach()
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
    return CodesAndFactors(codes, factors)


def check_rows(
    codes: Numbers, factors: Numbers, n_codes: int = 1, n_factors: int = 1
) -> CodesAndFactors:
    """Codes and factors as tensors.

    Raises:
        InputError: One row, or too few codes or factors for a score.
    """
    codes, factors = check_batch(codes, factors)
    if len(codes) < 2:
        raise InputError(f"got {len(codes)} row(s); a score needs two or more")
    for name, values, least in (("code", codes, n_codes), ("factor", factors, n_factors)):
        if values.shape[1] < least:
            raise InputError(f"got {values.shape[1]} {name}(s); this score needs {least} or more")
    return CodesAndFactors(codes, factors)


def check_classes(classes: Tensor, where: str = "") -> None:
    """Raises an `InputError` if a factor does not vary, as then it has no score."""
    constant = (classes == classes[0]).all(0).nonzero().flatten().tolist()
    if constant:
        raise InputError(
            f"got one value only of factor(s) {constant} in {len(classes)} {where}rows; leave "
            "them out of the factors, or collect more rows"
        )


def draw_rows(rows: CodesAndFactors, count: int, seed: int) -> CodesAndFactors:
    """`count` of the rows at random, or all rows if there are no more."""
    n = len(rows.codes)
    return rows if n <= count else rows.rows(_shuffled(n, seed)[:count])


def split_rows(
    rows: CodesAndFactors, n_train: int, n_test: int, seed: int
) -> tuple[CodesAndFactors, CodesAndFactors]:
    """Random rows for training and other rows for testing; fewer rows in the same proportions."""
    check_rows(*rows)
    count = len(rows.codes)
    if count < n_train + n_test:
        n_train = min(max(round(count * n_train / (n_train + n_test)), 1), count - 1)
        n_test = count - n_train
    order = _shuffled(count, seed)
    return rows.rows(order[:n_train]), rows.rows(order[n_train : n_train + n_test])


def _shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def top_gap(x: Tensor) -> Tensor:
    """Greatest number of each row of `[m n]` less the second greatest, `[m]`."""
    first, second = x.topk(2, dim=1).values.T
    return first - second


def histogram_bins(x: Tensor, bins: int) -> Tensor:
    """Bin of each value of `[n d]`: `bins` of equal width from the least value of its column up.

    A bin includes its lower edge; the last bin also includes the greatest value.

    Returns:
        `int64 [n d]` in `[0, bins)`.
    """
    x = x.double().T.contiguous()
    low, high = torch.aminmax(x, dim=1, keepdim=True)
    edges = low + torch.arange(bins, dtype=x.dtype) * ((high - low) / bins)
    return torch.searchsorted(edges, x, right=True).T - 1


def is_continuous(factors: Tensor, bins: int) -> Tensor:
    """True for each factor of floating point with more than `bins` distinct values, `bool [k]`."""
    distinct = torch.tensor([len(column.unique()) for column in factors.T])
    return (distinct > bins) & factors.is_floating_point()


def factor_classes(factors: Tensor, bins: int) -> Tensor:
    """Values of each factor numbered from 0 in ascending order, `int64 [n k]`.

    Continuous factors are numbered by bin; empty bins get no number.
    """
    columns = []
    for column, continuous in zip(factors.T, is_continuous(factors, bins).tolist(), strict=True):
        values = histogram_bins(column[:, None], bins)[:, 0] if continuous else column
        columns.append(values.unique(return_inverse=True)[1])
    return torch.stack(columns, 1)
