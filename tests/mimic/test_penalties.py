"""The rivals are the published quantities, and zero where they should be."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform

from mimic import MiMIcRegularizer
from mimic.penalties import (
    BASELINES,
    correlation,
    covariance,
    distance_correlation,
    hsic,
    orthogonality,
    variance_covariance,
)


@pytest.fixture
def z(double):
    return torch.randn(40, 4) @ torch.randn(4, 4) + 2


def pairs(c):
    return [(i, j) for i in range(c) for j in range(c) if i != j]


def test_covariance_against_numpy(z):
    c = np.cov(z.numpy().T)
    expected = 0.5 * sum(c[i, j] ** 2 for i, j in pairs(4))
    assert covariance(z).item() == pytest.approx(expected)


def test_vcreg_against_numpy(z):
    c = np.cov(z.numpy().T)
    spread = np.mean([max(0, 1 - math.sqrt(c[i, i] + 1e-4)) for i in range(4)])
    expected = 25 * spread + sum(c[i, j] ** 2 for i, j in pairs(4)) / 4
    assert variance_covariance(z).item() == pytest.approx(expected)
    assert variance_covariance(0.1 * z) > 25 * 0.3


def test_correlation_against_numpy(z):
    r = np.corrcoef(z.numpy().T)
    assert correlation(z).item() == pytest.approx(sum(r[i, j] ** 2 for i, j in pairs(4)))
    assert correlation(z * torch.tensor([1.0, 10, 0.1, 3])).item() == pytest.approx(
        correlation(z).item()
    )


def test_hsic_by_traces(z):
    n = len(z)
    h = np.eye(n) - 1 / n
    scaled = ((z - z.mean(0)) / z.std(0)).numpy()
    kernels = [np.exp(-0.5 * (x[:, None] - x[None]) ** 2) for x in scaled.T]
    expected = np.mean([np.trace(kernels[i] @ h @ kernels[j] @ h) for i, j in pairs(4)])
    assert hsic(z).item() == pytest.approx(expected / (n - 1) ** 2)


def test_distance_correlation_by_scipy(z):
    centred = []
    for x in z.numpy().T:
        d = squareform(pdist(x[:, None]))
        centred.append(d - d.mean(0) - d.mean(1)[:, None] + d.mean())
    square = lambda i, j: (centred[i] * centred[j]).mean()
    expected = np.mean(
        [square(i, j) / math.sqrt(square(i, i) * square(j, j)) for i, j in pairs(4)]
    )
    assert distance_correlation(z).item() == pytest.approx(expected)


def test_copies_have_distance_correlation_one():
    x = torch.randn(50, 1)
    assert distance_correlation(torch.cat([x, -3 * x], 1)).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 2, 3, 3)])
def test_orthogonal_weights_cost_nothing(shape, double):
    w = torch.randn(shape).flatten(1)
    u, _, v = torch.linalg.svd(w, full_matrices=False)
    assert orthogonality((u @ v).reshape(shape)).item() == pytest.approx(0, abs=1e-20)
    assert orthogonality(2 * (u @ v)).item() == pytest.approx(9 * min(w.shape))


@pytest.mark.parametrize("name", BASELINES)
def test_gradients_are_finite_with_dead_channels(name):
    z = torch.randn(20, 4)
    z[:, 1] = 3.0
    z.requires_grad_()
    BASELINES[name](z).backward()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("name", BASELINES)
def test_dependence_costs_more_than_independence(name):
    x = 2 * torch.randn(500, 1)
    dependent = x + 0.6 * torch.randn(500, 3)
    independent = 2 * torch.randn(500, 3)
    assert BASELINES[name](dependent) > 3 * BASELINES[name](independent)


@pytest.mark.parametrize("name", ["covariance", "vcreg", "barlow"])
def test_within_classes_class_means_are_no_dependence(name):
    """Channels that depend on one another through the class alone."""
    labels = torch.arange(4).repeat(200)
    z = labels[:, None] + torch.randn(800, 3)
    plain = MiMIcRegularizer(penalty=name)(z)
    within = MiMIcRegularizer(penalty=name, n_classes=4)(z, labels)
    assert within < 0.1 * plain
