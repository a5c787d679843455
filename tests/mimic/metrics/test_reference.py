"""Against other programs: scikit-learn, and the packages whose numbers `reference.py` printed."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from mimic import metrics
from mimic.metrics import information, interventional, predictive
from mimic.metrics.base import CodesAndFactors

reference = runpy.run_path(str(Path(__file__).with_name("reference.py")))


def labelled():
    return tuple(torch.from_numpy(x) for x in reference["labelled"]())


def split():
    n = reference["N_TRAIN"]
    codes, factors = labelled()
    return CodesAndFactors(codes[:n], factors[:n]), CodesAndFactors(codes[n:], factors[n:])


def test_mutual_information_is_scikit_learns():
    codes = torch.randn(500, 7, dtype=torch.float64)
    factors = torch.stack([torch.randint(size, (500,)) for size in (2, 3, 30)], 1)
    codes[:, 1] = factors[:, 2] % 7 + 0.1 * codes[:, 1]
    codes[:, 2] = 5
    found = information.mutual_information_matrix(codes, factors, bins=20)
    for i, z in enumerate(codes.T.numpy()):
        binned = np.digitize(z, np.histogram_bin_edges(z, 20)[:-1])
        for k, v in enumerate(factors.T.numpy()):
            assert float(found[i, k]) == pytest.approx(mutual_info_score(v, binned), abs=1e-12)


def test_continuous_factors_are_binned_as_codes_are():
    codes, factors = torch.randn(2, 500, 3, dtype=torch.float64)
    found = information.mutual_information_matrix(codes, factors, bins=12)
    for i, z in enumerate(codes.T.numpy()):
        for k, v in enumerate(factors.T.numpy()):
            cells = np.histogram2d(z, v, bins=12)[0]
            expected = mutual_info_score(None, None, contingency=cells)
            assert float(found[i, k]) == pytest.approx(expected, abs=1e-12)


def test_mutual_information_metrics_are_the_packages():
    codes, factors = labelled()
    assert float(information.mig(codes, factors)) == pytest.approx(0.519258, abs=1e-6)
    matrix = information.mutual_information_matrix(codes, factors)
    assert float(information.modularity(matrix)) == pytest.approx(0.899241, abs=1e-6)
    assert float(interventional.irs(codes, factors)) == pytest.approx(0.562646, abs=1e-6)


def test_mig_sup_is_its_formula():
    codes, factors = (x.numpy() for x in labelled())
    gaps = []
    for z in codes.T:
        binned = np.digitize(z, np.histogram_bin_edges(z, 20)[:-1])
        *_, second, first = sorted(mutual_info_score(v, binned) for v in factors.T)
        gaps.append((first - second) / mutual_info_score(binned, binned))
    found = information.mig_sup(*labelled())
    assert float(found) == pytest.approx(np.mean(gaps), abs=1e-9)


def test_predictive_metrics_are_the_packages():
    train, test = split()
    importance, accuracy = predictive.importance_matrix(train, test)
    # Which of equally good cuts is tried first is up to chance.
    assert float(predictive.disentanglement(importance)) == pytest.approx(0.746825, abs=5e-3)
    assert float(predictive.completeness(importance)) == pytest.approx(0.742429, abs=5e-3)
    assert float(accuracy) == pytest.approx(0.92, abs=0.01)
    matrix = predictive.predictability_matrix(train, test)
    assert float(predictive.sap(matrix)) == pytest.approx(0.07)
    assert float(predictive.explicitness(train, test)) == pytest.approx(0.996235, abs=1e-4)


def test_continuous_sap_is_the_packages():
    train, test = split()
    matrix = predictive.predictability_matrix(train, test, torch.tensor([True] * 3))
    assert float(predictive.sap(matrix)) == pytest.approx(0.430668, abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "batch_size", "score"),
    [
        (metrics.FactorVAEScore, reference["VOTE_BATCH"], 0.90525),
        (metrics.BetaVAEScore, reference["PAIR_BATCH"], 0.9295),
    ],
)
def test_votes_are_the_packages_but_for_chance(metric, batch_size, score):
    found = metric(n_train=4000, n_test=4000, batch_size=batch_size)
    found.update(*(torch.from_numpy(x) for x in reference["grid"]()))
    assert float(found.compute()) == pytest.approx(score, abs=0.02)
