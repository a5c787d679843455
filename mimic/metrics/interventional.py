"""Metrics of what happens to the codes while one factor stands still.

Their definitions draw fresh images with one factor held fixed. Here only collected codes are at
hand, so rows that share the factor's value are drawn from them instead: collect all combinations
of the factors, or many at random. A value that only one row has is left out.
"""

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from common.errors import InputError, check_counts
from mimic.metrics.base import (
    DisentanglementMetric,
    Rows,
    check_classes,
    check_rows,
    draw_rows,
)
from mimic.metrics.discretize import factor_classes
from mimic.metrics.interventions import Interventions

CHUNK = 256  # draws whose codes are gathered at a time


def count_votes(codes: Tensor, variances: Tensor, batches: list[Tensor]) -> Tensor:
    """How often each code varied least while each factor stood still, `int64 [k d]`.

    Args:
        codes: `[n d]`.
        variances: Of the codes over all rows, `[d]`.
        batches: For each factor, row numbers `[_ b]`.
    """
    votes = []
    for rows in batches:
        parts = [(codes[part].var(1) / variances).argmin(1) for part in rows.split(CHUNK)]
        votes.append(torch.bincount(torch.cat(parts), minlength=len(variances)))
    return torch.stack(votes)


def distances(codes: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean distances of pairs of rows, and which factor stood still.

    Args:
        codes: `[n d]`.
        pairs: For each factor, row numbers twice `[_ b]`.

    Returns:
        `mean |z - z'|` in each code, `[m d]`, and the factor's number, `int64 [m]`.
    """
    found = [
        (codes[a] - codes[b]).abs().mean(1)
        for first, second in pairs
        for a, b in zip(first.split(CHUNK), second.split(CHUNK), strict=True)
    ]
    sizes = torch.tensor([len(first) for first, _ in pairs])
    return torch.cat(found), torch.arange(len(pairs)).repeat_interleave(sizes)


def irs(codes: Tensor, factors: Tensor, quantile: float = 0.99, bins: int = 20) -> Tensor:
    """Interventional robustness score (Suter 2019).

    Of each code and factor, 1 less the deviation from the mean while the factor stands still (its
    quantile over rows, the mean over values), in parts of the code's greatest deviation of all.
    The best factor of each code, averaged with the greatest deviations as weights. Constant codes
    don't count; 0 if there are no others.

    Args:
        codes: `[n d]`.
        factors: `[n k]`.
        quantile: Of the deviations; 1, the greatest, in the paper.
        bins: Bins of a continuous factor.
    """
    check_rows(codes, factors)
    classes = factor_classes(factors, bins)
    check_classes(classes)
    codes = codes.double()
    codes = codes[:, codes.amax(0) > codes.amin(0)]
    if codes.shape[1] == 0:
        return torch.zeros((), dtype=torch.float64)
    greatest = (codes - codes.mean(0)).abs().amax(0)
    still = torch.stack([_deviations(codes, factor, quantile) for factor in classes.T])
    scores = 1 - still.amin(0) / greatest
    return (scores * greatest).sum() / greatest.sum()


def _deviations(codes: Tensor, classes: Tensor, quantile: float) -> Tensor:
    """The quantile of each code's deviations from its mean within a class, averaged over these."""
    found = []
    for value in range(int(classes.max()) + 1):
        group = codes[classes == value]
        # torch.quantile refuses more than 2^24 numbers.
        far = np.quantile((group - group.mean(0)).abs().numpy(), quantile, axis=0)
        found.append(torch.from_numpy(far))
    return torch.stack(found).mean(0)


class _DrawingMetric(DisentanglementMetric):
    """Base of the metrics that guess which factor stands still.

    Args:
        bins: Bins of a continuous factor.
        n_train: Draws to learn from.
        n_test: Draws to judge by.
        batch_size: Rows, or pairs of rows, in a draw.
        seed: Seed of the draws.
        **kwargs: Those of `torchmetrics.Metric`.
    """

    def __init__(
        self,
        bins: int = 20,
        n_train: int = 10000,
        n_test: int = 5000,
        batch_size: int = 64,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(bins, seed, **kwargs)
        check_counts(1, n_train=n_train, n_test=n_test)
        check_counts(2, batch_size=batch_size)
        self.n_train, self.n_test, self.batch_size = n_train, n_test, batch_size

    def interventions(self, rows: Rows) -> Interventions:
        check_rows(*rows, n_factors=2)
        return Interventions(rows.factors, self.batch_size, self.bins, self.seed)


class FactorVAEScore(_DrawingMetric):
    """FactorVAE's score (Kim & Mnih 2018): is the steadiest code the same each time?

    While a factor stands still, the code of least variance, relative to its variance over up to
    10,000 rows, votes for it; the test draws that agree with the majority of the training draws.
    Chance is about `1 / k`.

    Args:
        bins: Bins of a continuous factor.
        n_train: Draws to learn from.
        n_test: Draws to judge by.
        batch_size: Rows in a draw.
        min_std: Codes of a lower standard deviation have no vote, and where none has one, the
            score is 0: lower it for codes that are small by nature.
        seed: Seed of the draws.
        **kwargs: Those of `torchmetrics.Metric`.
    """

    n_variance = 10000

    def __init__(
        self,
        bins: int = 20,
        n_train: int = 10000,
        n_test: int = 5000,
        batch_size: int = 64,
        min_std: float = 0.05,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(bins, n_train, n_test, batch_size, seed, **kwargs)
        if min_std < 0:
            raise InputError(f"got min_std {min_std}; give 0 or more")
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
    """β-VAE's score (Higgins 2017): do the codes tell which factor stands still?

    The test accuracy of a logistic regression on `mean |z - z'|` over pairs of rows that share the
    value of one factor. Chance is `1 / k`. It depends on the codes' scale by way of the
    regression's penalty, scikit-learn's own.
    """

    def compute(self) -> Tensor:
        rows = self.collected()
        interventions = self.interventions(rows)
        x, v = distances(rows.codes, interventions.pairs(self.n_train))
        x_test, v_test = distances(rows.codes, interventions.pairs(self.n_test))
        if (v == v[0]).all():
            raise InputError(
                f"got n_train {self.n_train}, draws that all hold the same factor; raise n_train"
            )
        model = LogisticRegression(max_iter=1000).fit(x.numpy(), v.numpy())
        return self.result(torch.tensor(model.score(x_test.numpy(), v_test.numpy())))


class IRS(DisentanglementMetric):
    """Interventional robustness score: does one factor alone move each code? See `irs`.

    Args:
        bins: Bins of a continuous factor.
        n_train: Rows used, drawn at random where more were collected.
        quantile: Of the deviations; 1, the greatest, in the paper.
        seed: Seed of the draw of rows.
        **kwargs: Those of `torchmetrics.Metric`.
    """

    def __init__(
        self,
        bins: int = 20,
        n_train: int = 10000,
        quantile: float = 0.99,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(bins, seed, **kwargs)
        check_counts(2, n_train=n_train)
        if not 0 < quantile <= 1:
            raise InputError(f"got quantile {quantile}; give a number above 0, at most 1")
        self.n_train, self.quantile = n_train, quantile

    def compute(self) -> Tensor:
        rows = draw_rows(self.collected(), self.n_train, self.seed)
        return self.result(irs(*rows, self.quantile, self.bins))
