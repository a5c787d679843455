"""Readings by a density are closed forms, also where tails depend and channels are discrete."""

import itertools
import math
import warnings

import pytest
import torch
from sklearn.covariance import LedoitWolf

from mimic import measure_total_correlation, mutual_information
from mimic.density import Reading, read_density, shrunk_covariance
from mimic.features.normal_scores import NormalScores
from mimic.features.rows import Rows, standardize
from mimic.features.ties import atoms, copies
from mimic.measure import _checked
from mimic.studies.distributions import (
    Equicorrelated,
    GaussianVectors,
    Independent,
    RareBits,
    Repeated,
    Sparse,
    StudentT,
)


def drawn(distribution, n):
    return distribution.draw(n, torch.Generator().manual_seed(0))


def reading(z, steps=300, **options):
    rows = standardize(Rows(z))[0]
    rows = rows._replace(z=NormalScores(rows.z)(rows.z))
    return read_density(rows, range(z.shape[1]), steps=steps, **options)


@pytest.mark.parametrize(
    ("of", "n"),
    [
        (StudentT(3), 5000),
        (StudentT(2, rho=0.0), 8000),
        (RareBits(), 3000),
        (Sparse(), 4000),
        (Equicorrelated(16, 15.0), 2000),
    ],
    ids=lambda of: getattr(of, "name", of),
)
def test_what_critics_get_wrong(of, n):
    found = reading(drawn(of, n))
    assert found.value == pytest.approx(of.truth, rel=0.15)
    assert abs(found.value - of.truth) < 0.05 * of.truth + 4 * found.error


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.5, 0.0])
@pytest.mark.parametrize("nu", [5, 3, 2])
def test_tails_that_depend(nu, rho):
    """Within 15 % of the closed form, or a warning says that the two readings differ."""
    of = StudentT(nu, rho=rho)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = measure_total_correlation(drawn(of, 10_000), noise=0.0)
    assert said or found.value == pytest.approx(of.truth, rel=0.15)
    assert found.value == pytest.approx(of.truth, rel=0.25)


def test_bits_share_what_they_share():
    """An exclusive or without noise: log 2, though any two bits are independent."""
    bits = torch.randint(2, (1000, 2), generator=torch.Generator().manual_seed(0))
    z = torch.cat([bits, bits.sum(1, keepdim=True) % 2], 1).float()
    assert reading(z).value == pytest.approx(math.log(2), rel=0.03)


def test_independent_channels_share_nothing():
    for of in (Independent(8), RareBits(8)):
        z = torch.stack([drawn(of, 600)[torch.randperm(600), i] for i in range(8)], 1)
        assert abs(reading(z).value) < 0.02


def test_groups_share_what_their_channels_do_not_share_inside():
    z = drawn(GaussianVectors(1.0, c=2, d=3), 2000)
    groups = [g for g in range(2) for _ in range(3)]
    assert read_density(Rows(z.flatten(1)), groups, steps=50).value == pytest.approx(1, rel=0.1)


def test_copies_are_left_out():
    of = Repeated(Equicorrelated(4, 2.0))
    z = drawn(of, 2000)
    with pytest.warns(UserWarning, match="1600 of 2000 samples are copies"):
        found = measure_total_correlation(z, steps=100, noise=0.0)
    assert found == measure_total_correlation(z[:400], steps=100, noise=0.0)


def test_samples_of_discrete_channels_are_no_copies():
    z = drawn(Independent(3), 1000)
    for discrete in (z.round(), z > 0, torch.cat([z[:, :1].sign(), z[:, 1:].relu().sign()], 1)):
        assert not copies(discrete.float()).any()
    sparse = drawn(Sparse(4), 400)
    twice = copies(torch.cat([sparse, sparse]))
    assert torch.equal(twice, torch.cat([torch.zeros(400).bool(), (sparse > 0).any(1)]))


def test_atoms_are_values_that_many_share():
    z = torch.cat([torch.zeros(50), torch.ones(12), torch.full((9,), 2.0), torch.arange(3, 82)])
    assert atoms(z[:, None]).flatten().tolist() == [0] * 50 + [1] * 12 + [-1] * 88


def test_values_that_many_share_get_no_noise():
    """Copies of a bit share its entropy, whatever the noise."""
    bit = torch.randint(2, (800, 1), generator=torch.Generator().manual_seed(0)).float()
    found = measure_total_correlation(bit.expand(-1, 2), steps=100, noise=0.5)
    assert found.value == pytest.approx(math.log(2), rel=0.03)
    assert found.critic == pytest.approx(math.log(2), rel=0.1)


@pytest.mark.parametrize(
    ("density", "critic", "error", "match"),
    [
        (2.2, 1.2, 0.1, "readings of the total correlation differ: 2.20 ± 0.05"),
        (0.3, -0.5, 0.4, "the critic reads -0.50 nats"),
        (-0.2, 0.0, 0.4, "the density reads -0.20 nats"),
    ],
)
def test_readings_that_cannot_be_right_are_said(density, critic, error, match):
    with pytest.warns(UserWarning, match=match):
        _checked(Reading(critic, error), Reading(density, 0.05))


def test_readings_that_agree_are_not_doubted():
    pairs = itertools.product((1.0, 0.95), (1.0, 1.05))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for density, critic in pairs:
            assert _checked(Reading(critic, 0.1), Reading(density, 0.02)).value == density
        assert _checked(Reading(0.0, 0.02), Reading(-0.01, 0.02)).value == 0


@pytest.mark.filterwarnings("ignore:two readings")
@pytest.mark.parametrize(
    ("critic", "error", "ceiling", "counts"),
    [(1.5, 0.1, 6.0, "critic"), (1.5, 0.3, 6.0, "density"), (18.0, 0.3, 9.0, "density")],
)
def test_the_greater_reading_counts_where_a_critic_can_be_trusted(critic, error, ceiling, counts):
    readings = {"critic": Reading(critic, error), "density": Reading(1.0, 0.02)}
    found = _checked(*readings.values(), ceiling)
    assert (found.value, found.error) == readings[counts]


def test_a_critic_alone_that_falls_below_zero_is_doubted():
    alone = Reading(-1.0, 0.1)
    with pytest.warns(UserWarning, match="the critic reads -1.00 nats"):
        assert _checked(alone, None).value == -1


def test_mutual_information_has_both_readings():
    z = drawn(GaussianVectors(1.0, c=2, d=2), 2000)
    found = mutual_information(z[:, 0], z[:, 1], steps=150, noise=0.0)
    assert found.value == pytest.approx(1, rel=0.1)
    assert found.critic == pytest.approx(1, rel=0.25)


@pytest.mark.parametrize(("n", "c"), [(50, 7), (30, 60), (1000, 3), (20, 1)])
def test_covariances_are_shrunk_as_by_scikit_learn(n, c):
    x = torch.randn(n, c) @ torch.randn(c, c)
    expected = LedoitWolf(assume_centered=True).fit(x.double().numpy()).covariance_
    torch.testing.assert_close(shrunk_covariance(x), torch.from_numpy(expected).float())
