"""Metrics of the prediction of factors from codes.

Functions take rows to fit on (`train`) and rows to evaluate on (`test`), whose factors are integer
classes. They raise `InputError` for rows without a score.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError, check_counts, extra
from mimic.metrics.base import (
    CodesAndFactors,
    DisentanglementMetric,
    check_classes,
    check_rows,
    factor_classes,
    is_continuous,
    split_rows,
    top_gap,
)


def importance_matrix(
    train: CodesAndFactors, test: CodesAndFactors, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Importance of each code for the prediction of each factor by gradient-boosted trees.

    scikit-learn's `GradientBoostingClassifier` with its defaults; other boosters give other
    scores. `seed` fixes the order in which equally good cuts are tried.

    Returns:
        Importances `[d k]`, each column summing to one, and the mean test accuracy.
    """
    with extra("disentanglement"):
        from sklearn.ensemble import GradientBoostingClassifier
    _check(train, test)
    columns, accuracies = [], []
    for v, v_test in zip(train.factors.T.numpy(), test.factors.T.numpy(), strict=True):
        model = GradientBoostingClassifier(random_state=seed).fit(train.codes.numpy(), v)
        columns.append(torch.from_numpy(model.feature_importances_))
        accuracies.append(model.score(test.codes.numpy(), v_test))
    return torch.stack(columns, 1), torch.tensor(accuracies, dtype=torch.float64).mean()


def disentanglement(importance: Tensor) -> Tensor:
    """Disentanglement: how far each code matters to one factor only (Eastwood & Williams 2018).

    `Σ_i ρ_i (1 - H_K(R_i / Σ_k R_ik))` of importances `[d k]`, `k` ≥ 2, with `ρ_i` the code's
    share in all importances (section 2).
    """
    # The reference's guard against codes that matter to nothing.
    shares = importance + 1e-11
    shares = shares / shares.sum(1, keepdim=True)
    entropies = torch.special.entr(shares).sum(1) / np.log(importance.shape[1])
    mass = importance.sum(1)
    weights = mass / mass.sum() if mass.sum() > 0 else torch.full_like(mass, 1 / len(mass))
    return (weights * (1 - entropies)).sum()


def completeness(importance: Tensor) -> Tensor:
    """Completeness: how far one code only matters to each factor, of importances `[d k]`, `d` ≥ 2.

    `Σ_k ρ_k (1 - H_D(R_k / Σ_i R_ik))`, as `disentanglement` with codes and factors exchanged.
    """
    return disentanglement(importance.T)


def predictability_matrix(
    train: CodesAndFactors, test: CodesAndFactors, continuous: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Linear prediction of each factor by each code alone (Kumar 2018, section 3).

    For classes: the test accuracy of a `LinearSVC` with `C = 0.01` and balanced classes. For a
    continuous factor: the squared correlation in training, 0 for a constant code.

    Args:
        train: Rows to fit on; the factors may be floating point.
        test: Rows to evaluate on.
        continuous: Whether each factor is continuous, `bool [k]`. None: no factor is.
        seed: Seed of the classifier.

    Returns:
        `[d k]` in `[0, 1]`.
    """
    _check(train, test)
    flags = [False] * train.factors.shape[1] if continuous is None else continuous.tolist()
    columns = []
    for j, flag in enumerate(flags):
        v, v_test = train.factors[:, j], test.factors[:, j]
        if flag:
            codes, v = train.codes - train.codes.mean(0), v.double() - v.double().mean()
            scale = codes.square().sum(0) * v.square().sum()
            columns.append(torch.where(codes.var(0) > 1e-12, (v @ codes).square() / scale, 0))
        else:
            columns.append(_accuracies(train.codes, v.long(), test.codes, v_test.long(), seed))
    return torch.stack(columns, 1)


def sap(predictability: Tensor) -> Tensor:
    """Separated attribute predictability (Kumar 2018), from `[d k]`, `d` ≥ 2.

    The mean over factors of the best code's number less that of the second best code.
    """
    return top_gap(predictability.T).mean()


def explicitness(train: CodesAndFactors, test: CodesAndFactors) -> Tensor:
    """Explicitness: prediction of each factor by all codes (Ridgeway & Mozer 2018, section 3).

    The test ROC area of a logistic regression on standardised codes, one class against the rest,
    averaged over classes, then factors: 1/2 is chance. Classes that occur only in training or only
    in testing do not count.
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
    """Base of the metrics that fit models.

    Args:
        n_test: Number of rows to evaluate on. If fewer rows than `n_train + n_test` were
            collected, they are split in the same proportions.
        **options: Options of `DisentanglementMetric`.

    Raises:
        InputError: scikit-learn is missing.
    """

    def __init__(self, n_test: int = 5000, **options: Any) -> None:
        with extra("disentanglement"):  # told before a training whose end needs it
            import sklearn  # noqa: F401
        super().__init__(**options)
        check_counts(1, n_test=n_test)
        self.n_test = n_test

    def split(self, codes: Tensor, factors: Tensor) -> tuple[CodesAndFactors, CodesAndFactors]:
        """Rows to fit on and rows to evaluate on."""
        rows = CodesAndFactors(codes, factors)
        return split_rows(rows, self.n_train, self.n_test, self.seed)


class DCI(_PredictiveMetric):
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018).

    Informativeness is the test accuracy. Trees are slow: a factor takes time in proportion to the
    number of its values, of the codes and of `n_train`; lower `n_train` first.
    """

    def compute(self) -> dict[str, Tensor]:
        """The three scores by name, as a MetricCollection accepts them."""
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
    """Separated attribute predictability: whether one code alone predicts each factor. See `sap`.

    Continuous factors are not cut into bins here, but evaluated by correlation.
    """

    def compute(self) -> Tensor:
        codes, factors = self.collected()
        check_rows(codes, factors, n_codes=2)
        continuous = is_continuous(factors, self.bins)
        targets = torch.where(continuous, factors, factor_classes(factors, self.bins))
        matrix = predictability_matrix(*self.split(codes, targets), continuous, self.seed)
        return self.result(sap(matrix))


class Explicitness(_PredictiveMetric):
    """Explicitness: whether all codes together show the factors. See `explicitness`."""

    def compute(self) -> Tensor:
        codes, factors = self.collected()
        return self.result(explicitness(*self.split(codes, factor_classes(factors, self.bins))))


def _check(train: CodesAndFactors, test: CodesAndFactors) -> None:
    check_rows(*train)
    check_classes(train.factors, "training ")


def _accuracies(codes: Tensor, v: Tensor, test: Tensor, v_test: Tensor, seed: int) -> Tensor:
    """Test accuracy `[d]` of each code for one factor."""
    with extra("disentanglement"):
        from sklearn.svm import LinearSVC
    found = []
    for x, x_test in zip(codes.T.numpy(), test.T.numpy(), strict=True):
        model = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
        model.fit(x[:, None], v.numpy())
        found.append(model.score(x_test[:, None], v_test.numpy()))
    return torch.tensor(found, dtype=torch.float64)


def _area(x: np.ndarray, v: np.ndarray, x_test: np.ndarray, v_test: np.ndarray) -> float:
    with extra("disentanglement"):
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score
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
