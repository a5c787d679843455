"""Metrics of the changes of codes while one factor is held fixed.

Their definitions draw fresh images with one factor held fixed. Here only collected codes are
available, so rows that share the factor's value are drawn from them: collect all combinations of
the factors, or many at random. A value that only one row has is left out.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError, check_counts, extra
from mimic.features.inputs import Numbers
from mimic.metrics.base import (
    CodesAndFactors,
    DisentanglementMetric,
    check_classes,
    check_rows,
    draw_rows,
    factor_classes,
)

CHUNK = 256  # draws whose codes are gathered at a time


class Interventions:
    """Draws of rows that share the value of one factor, which is chosen at random for each draw.

    The factor's values come as often as in the data.

    Args:
        factors: Factors `[n k]`.
        batch_size: Number of rows, or pairs of rows, in a draw.
        bins: Number of bins of a continuous factor.
        seed: Seed of the draws.

    Raises:
        InputError: A factor does not vary, or no two rows share a value of it.
    """

    def __init__(
        self, factors: Tensor, batch_size: int = 64, bins: int = 20, seed: int = 0
    ) -> None:
        classes = factor_classes(factors, bins)
        check_classes(classes)
        self.groups = [_Groups(factor) for factor in classes.T]
        self.batch_size, self.draws = batch_size, torch.Generator().manual_seed(seed)

    def batches(self, count: int) -> list[Tensor]:
        """Row numbers `[_ batch_size]` for each factor, one value a draw, `count` draws in all."""
        return [g.batches(n, self.batch_size, self.draws) for g, n in self._sized(count)]

    def pairs(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """Twice `[_ batch_size]` for each factor: different rows that share one value a pair."""
        return [g.pairs(n, self.batch_size, self.draws) for g, n in self._sized(count)]

    def _sized(self, count: int) -> list[tuple["_Groups", int]]:
        chosen = torch.randint(len(self.groups), (count,), generator=self.draws)
        sizes = torch.bincount(chosen, minlength=len(self.groups)).tolist()
        return list(zip(self.groups, sizes, strict=True))


class _Groups:
    """Rows of each value of one factor, `int64 [n]`, without values that come once."""

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


def count_votes(codes: Tensor, variances: Tensor, batches: list[Tensor]) -> Tensor:
    """Number of draws in which each code varied least, for each fixed factor, `int64 [k d]`.

    Args:
        codes: Codes `[n d]`.
        variances: Variances of the codes over all rows, `[d]`.
        batches: Row numbers `[_ b]` for each factor.
    """
    votes = []
    for rows in batches:
        parts = [(codes[part].var(1) / variances).argmin(1) for part in rows.split(CHUNK)]
        votes.append(torch.bincount(torch.cat(parts), minlength=len(variances)))
    return torch.stack(votes)


def distances(codes: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean distances of pairs of rows, `mean |z - z'|` `[m d]`, and the fixed factor `int64 [m]`.

    Args:
        codes: Codes `[n d]`.
        pairs: Row numbers twice `[_ b]` for each factor.
    """
    found = [
        (codes[a] - codes[b]).abs().mean(1)
        for first, second in pairs
        for a, b in zip(first.split(CHUNK), second.split(CHUNK), strict=True)
    ]
    sizes = torch.tensor([len(first) for first, _ in pairs])
    return torch.cat(found), torch.arange(len(pairs)).repeat_interleave(sizes)


def irs(codes: Numbers, factors: Numbers, quantile: float = 0.99, bins: int = 20) -> Tensor:
    """Interventional robustness score (Suter 2019).

    For each code and factor: 1 less the deviation from the mean while the factor is fixed (its
    quantile over rows, the mean over values), relative to the code's greatest deviation of all.
    The score is the best factor of each code, averaged with the greatest deviations as weights.
    Constant codes do not count; without others the score is 0. The paper's `quantile` is 1, the
    greatest deviation.
    """
    codes, factors = check_rows(codes, factors)
    classes = factor_classes(factors, bins)
    check_classes(classes)
    codes = codes.double()
    codes = codes[:, codes.amax(0) > codes.amin(0)]
    if codes.shape[1] == 0:
        return torch.zeros((), dtype=torch.float64)
    greatest = (codes - codes.mean(0)).abs().amax(0)
    fixed = []
    for factor in classes.T:
        groups = [codes[factor == value] for value in range(int(factor.max()) + 1)]
        # torch.quantile refuses more than 2^24 numbers.
        far = [np.quantile((g - g.mean(0)).abs().numpy(), quantile, axis=0) for g in groups]
        fixed.append(torch.stack([torch.from_numpy(each) for each in far]).mean(0))
    scores = 1 - torch.stack(fixed).amin(0) / greatest
    return (scores * greatest).sum() / greatest.sum()


class _DrawingMetric(DisentanglementMetric):
    """Base of the metrics that guess the fixed factor.

    Args:
        n_test: Number of draws to evaluate on.
        batch_size: Number of rows, or pairs of rows, in a draw.
        **options: Options of `DisentanglementMetric`.
    """

    def __init__(self, n_test: int = 5000, batch_size: int = 64, **options: Any) -> None:
        super().__init__(**options)
        check_counts(1, n_test=n_test)
        check_counts(2, batch_size=batch_size)
        self.n_test, self.batch_size = n_test, batch_size

    def interventions(self, rows: CodesAndFactors) -> Interventions:
        check_rows(*rows, n_factors=2)
        return Interventions(rows.factors, self.batch_size, self.bins, self.seed)


class FactorVAEScore(_DrawingMetric):
    """FactorVAE's score (Kim & Mnih 2018): whether a factor always has the same steadiest code.

    While a factor is fixed, the code of least variance, relative to its variance over up to
    10,000 rows, votes for the factor; the score is the share of test draws that agree with the
    majority of the training draws. Chance is about `1 / k`.

    Args:
        min_std: Least standard deviation of a code that votes; without such a code, the score is
            0. Lower it for codes that are small by nature.
        **options: Number of test draws, size of a draw, and options of `DisentanglementMetric`.
    """

    n_variance = 10000

    def __init__(self, min_std: float = 0.05, **options: Any) -> None:
        super().__init__(**options)
        check_counts(0, min_std=min_std)
        self.min_std = min_std

    def compute(self) -> Tensor:
        rows = self.collected()
        interventions = self.interventions(rows)
        variances = draw_rows(rows, self.n_variance, self.seed).codes.var(0)
        active = (variances > 0) & (variances.sqrt() >= self.min_std)
        if not active.any():
            return self.result(torch.zeros(()))
        codes, variances = rows.codes[:, active], variances[active]
        train, test = (
            count_votes(codes, variances, interventions.batches(count))
            for count in (self.n_train, self.n_test)
        )
        agreeing = test.gather(0, train.argmax(0, keepdim=True)).sum()
        return self.result(agreeing / test.sum())


class BetaVAEScore(_DrawingMetric):
    """β-VAE's score (Higgins 2017): whether the codes show which factor is fixed.

    The test accuracy of a logistic regression on `mean |z - z'|` over pairs of rows that share the
    value of one factor. Chance is `1 / k`. It depends on the codes' scale because of the
    regression's penalty, which is scikit-learn's default.

    Raises:
        InputError: scikit-learn is missing.
    """

    def __init__(self, **options: Any) -> None:
        with extra("disentanglement"):  # told before a training whose end needs it
            import sklearn  # noqa: F401
        super().__init__(**options)

    def compute(self) -> Tensor:
        rows = self.collected()
        interventions = self.interventions(rows)
        x, v = distances(rows.codes, interventions.pairs(self.n_train))
        x_test, v_test = distances(rows.codes, interventions.pairs(self.n_test))
        if (v == v[0]).all():
            raise InputError(
                f"got n_train {self.n_train}, draws that all hold the same factor; raise n_train"
            )
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(max_iter=1000).fit(x.numpy(), v.numpy())
        return self.result(torch.tensor(model.score(x_test.numpy(), v_test.numpy())))


class IRS(DisentanglementMetric):
    """Interventional robustness score: whether one factor alone moves each code. See `irs`.

    Args:
        quantile: Quantile of the deviations; the paper's is 1, the greatest deviation.
        **options: Options of `DisentanglementMetric`.
    """

    def __init__(self, quantile: float = 0.99, **options: Any) -> None:
        super().__init__(**options)
        if not 0 < quantile <= 1:
            raise InputError(f"got quantile {quantile}; give a number above 0, at most 1")
        self.quantile = quantile

    def compute(self) -> Tensor:
        return self.result(irs(*self.drawn(), self.quantile, self.bins))
