"""Metrics of how well factors can be predicted from codes.

They take two sets of rows, to fit on and to judge by, whose factors are integer classes.
"""

from typing import Any

import numpy as np
import torch
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC
from torch import Tensor

from common.errors import InputError, check_counts
from mimic.metrics.base import (
    DisentanglementMetric,
    Rows,
    check_classes,
    check_rows,
    split_rows,
    top_gap,
)
from mimic.metrics.discretize import factor_classes, is_continuous


def importance_matrix(train: Rows, test: Rows, seed: int = 0) -> tuple[Tensor, Tensor]:
    """How much gradient-boosted trees rely on each code to predict each factor.

    scikit-learn's `GradientBoostingClassifier` as it comes; other boosters give other scores.

    Args:
        train: Rows to fit on.
        test: Rows to judge by.
        seed: Of the order in which equally good cuts are tried.

    Returns:
        Importances `[d k]`, each column summing to one, and the mean test accuracy.
    """
    _check(train, test)
    columns, accuracies = [], []
    for v, v_test in zip(train.factors.T.numpy(), test.factors.T.numpy(), strict=True):
        model = GradientBoostingClassifier(random_state=seed).fit(train.codes.numpy(), v)
        columns.append(torch.from_numpy(model.feature_importances_))
        accuracies.append(model.score(test.codes.numpy(), v_test))
    return torch.stack(columns, 1), torch.tensor(accuracies, dtype=torch.float64).mean()


def disentanglement(importance: Tensor) -> Tensor:
    """How far each code matters to one factor only, from importances `[d k]`, `k` ≥ 2.

    `Σ_i ρ_i (1 - H_K(R_i / Σ_k R_ik))`, `ρ_i` being the code's share in all importances
    (Eastwood & Williams 2018, section 2).
    """
    # The reference's guard against codes that matter to nothing.
    shares = importance + 1e-11
    shares = shares / shares.sum(1, keepdim=True)
    entropies = torch.special.entr(shares).sum(1) / np.log(importance.shape[1])
    mass = importance.sum(1)
    weights = mass / mass.sum() if mass.sum() > 0 else torch.full_like(mass, 1 / len(mass))
    return (weights * (1 - entropies)).sum()


def completeness(importance: Tensor) -> Tensor:
    """How far one code only matters to each factor, from importances `[d k]`, `d` ≥ 2.

    `Σ_k ρ_k (1 - H_D(R_k / Σ_i R_ik))`, the same as `disentanglement` the other way round.
    """
    return disentanglement(importance.T)


def predictability_matrix(
    train: Rows, test: Rows, continuous: Tensor | None = None, seed: int = 0
) -> Tensor:
    """How well each code alone predicts each factor linearly (Kumar 2018, section 3).

    Of a class: the test accuracy of a `LinearSVC` with `C = 0.01` and balanced classes. Of a
    continuous factor: the squared correlation in training, 0 with a constant code.

    Args:
        train: Rows to fit on; the factors may be floating point.
        test: Rows to judge by.
        continuous: Which factors are continuous, `bool [k]`; none by default.
        seed: Of the classifier.

    Returns:
        `[d k]` in `[0, 1]`.
    """
    _check(train, test)
    flags = [False] * train.factors.shape[1] if continuous is None else continuous.tolist()
    columns = []
    for j, flag in enumerate(flags):
        v, v_test = train.factors[:, j], test.factors[:, j]
        columns.append(
            _squared_correlations(train.codes, v.double())
            if flag
            else _accuracies(Rows(train.codes, v.long()), Rows(test.codes, v_test.long()), seed)
        )
    return torch.stack(columns, 1)


def sap(predictability: Tensor) -> Tensor:
    """Separated attribute predictability (Kumar 2018), from `[d k]`, `d` ≥ 2.

    The mean over factors of the best code's number less the second best's.
    """
    return top_gap(predictability.T).mean()


def explicitness(train: Rows, test: Rows) -> Tensor:
    """How well all codes together predict each factor (Ridgeway & Mozer 2018, section 3).

    The test ROC area of a logistic regression on standardised codes, one class against the rest,
    averaged over classes, then factors: 1/2 is chance. Classes that show up in training only or in
    testing only don't count.

    Args:
        train: Rows to fit on.
        test: Rows to judge by.
    """
    _check(train, test)
    check_classes(test.factors, "test ")
    mean, scale = train.codes.mean(0), train.codes.std(0, correction=0)
    scale = scale.where(scale > 0, 1)
    x, x_test = (((rows.codes - mean) / scale).numpy() for rows in (train, test))
    areas = [
        _area(x, v, x_test, v_test)
        for v, v_test in zip(train.factors.T.numpy(), test.factors.T.numpy(), strict=True)
    ]
    return torch.tensor(areas, dtype=torch.float64).mean()


class _PredictiveMetric(DisentanglementMetric):
    """Base of these metrics, with disentanglement_lib's settings.

    Args:
        bins: Bins of a continuous factor.
        n_train: Rows to fit on.
        n_test: Rows to judge by. Of fewer rows than both, the same proportions are used.
        seed: Seed of the split and of the models.
        **kwargs: Those of `torchmetrics.Metric`.
    """

    def __init__(
        self,
        bins: int = 20,
        n_train: int = 10000,
        n_test: int = 5000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(bins, seed, **kwargs)
        check_counts(1, n_train=n_train, n_test=n_test)
        self.n_train, self.n_test = n_train, n_test

    def split(self, codes: Tensor, factors: Tensor) -> tuple[Rows, Rows]:
        """Rows to fit on and to judge by."""
        return split_rows(Rows(codes, factors), self.n_train, self.n_test, self.seed)


class DCI(_PredictiveMetric):
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018).

    Informativeness is the test accuracy. Trees are slow: a factor takes time in proportion to its
    values, the codes and `n_train`; lower that one first.
    """

    def compute(self) -> dict[str, Tensor]:
        """The three by name, as a MetricCollection takes them in."""
        codes, factors = self.collected()
        check_rows(codes, factors, n_codes=2, n_factors=2)
        importance, accuracy = importance_matrix(
            *self.split(codes, factor_classes(factors, self.bins)), self.seed
        )
        return {
            "dci_disentanglement": self.result(disentanglement(importance)),
            "dci_completeness": self.result(completeness(importance)),
            "dci_informativeness": self.result(accuracy),
        }


class SAP(_PredictiveMetric):
    """Separated attribute predictability: does one code alone predict each factor? See `sap`.

    Continuous factors aren't cut into bins here, but judged by correlation.
    """

    def compute(self) -> Tensor:
        codes, factors = self.collected()
        check_rows(codes, factors, n_codes=2)
        continuous = is_continuous(factors, self.bins)
        targets = torch.where(continuous, factors, factor_classes(factors, self.bins))
        matrix = predictability_matrix(*self.split(codes, targets), continuous, self.seed)
        return self.result(sap(matrix))


class Explicitness(_PredictiveMetric):
    """Explicitness: can factors be read off all codes together? See `explicitness`."""

    def compute(self) -> Tensor:
        codes, factors = self.collected()
        return self.result(explicitness(*self.split(codes, factor_classes(factors, self.bins))))


def _check(train: Rows, test: Rows) -> None:
    check_rows(*train)
    check_classes(train.factors, "training ")


def _squared_correlations(codes: Tensor, v: Tensor) -> Tensor:
    codes, v = codes - codes.mean(0), v - v.mean()
    scale = codes.square().sum(0) * v.square().sum()
    return torch.where(codes.var(0) > 1e-12, (v @ codes).square() / scale, 0)


def _accuracies(train: Rows, test: Rows, seed: int) -> Tensor:
    """The test accuracy `[d]` of each code for one factor."""
    found = []
    for x, x_test in zip(train.codes.T.numpy(), test.codes.T.numpy(), strict=True):
        model = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
        model.fit(x[:, None], train.factors.numpy())
        found.append(model.score(x_test[:, None], test.factors.numpy()))
    return torch.tensor(found, dtype=torch.float64)


def _area(x: np.ndarray, v: np.ndarray, x_test: np.ndarray, v_test: np.ndarray) -> float:
    model = LogisticRegression(max_iter=1000).fit(x, v)
    scores = model.predict_proba(x_test)
    areas = [
        float(roc_auc_score(v_test == value, score))
        for value, score in zip(model.classes_, scores.T, strict=True)
        if (v_test == value).any()
    ]
    if not areas:
        raise InputError(
            f"got {len(v_test)} test rows, none of a class that training rows have; "
            "collect more rows"
        )
    return float(np.mean(areas))
