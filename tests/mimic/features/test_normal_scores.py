"""Normal scores: increasing, normal on what they were fitted to, the same whatever the scale."""

import math

import pytest
import scipy.stats
import torch

from mimic import measure_total_correlation
from mimic.features.normal_scores import KNOTS, NormalScores
from mimic.studies.distributions import Equicorrelated


def test_scores_of_the_sample_are_van_der_waerdens():
    z = torch.randn(501, 3).exp()
    ranks = scipy.stats.rankdata(z.numpy(), axis=0)
    expected = scipy.stats.norm.ppf((ranks - 0.5) / 501)
    torch.testing.assert_close(NormalScores(z, 0.0)(z), torch.tensor(expected).float())


def test_order_is_kept_far_beyond_the_sample():
    scores = NormalScores(torch.randn(50, 1), 0.0)
    x = torch.linspace(-100, 100, 2001)[:, None]
    found = scores(x).flatten()
    assert (found.diff() > 0).all()
    assert found.abs().max() < 8


def test_ties_get_the_middle_of_their_scores():
    z = torch.tensor([0.0, 0, 0, 1, 1, 1, 1, 5, 5, 5])[:, None]
    found = NormalScores(z, 0.0)(z)
    levels = scipy.stats.norm.ppf((torch.arange(10) + 0.5) / 10)
    middles = [(levels[0] + levels[2]) / 2, (levels[3] + levels[6]) / 2]
    assert found[::4, 0].tolist() == pytest.approx([*middles, -middles[0]], abs=1e-6)


def test_maps_are_fitted_to_all_their_positions():
    z = torch.randn(400, 2, 6, 6) ** 3
    scored = NormalScores(z)(z)
    assert z[:, 0].numel() > KNOTS
    assert scored.shape == z.shape
    for channel in (0, 1):
        flat = scored[:, channel].flatten()
        assert scipy.stats.kstest(flat, "norm").statistic < 0.02


def test_maps_of_very_many_values_can_be_fitted():
    z = torch.arange(2**24 + 100).double()[:, None]  # more than float32 can count
    found = NormalScores(z, 0.0)(z[::100])
    assert scipy.stats.kstest(found.flatten(), "norm").statistic < 0.01


def test_only_heavy_tails_are_touched():
    z = torch.cat([torch.randn(2000, 1), torch.randn(2000, 1) ** 3, torch.rand(2000, 1)], 1)
    z = torch.cat([z, torch.full((2000, 1), 4.0)], 1)
    found = NormalScores(z)(z)
    assert torch.equal(found[:, [0, 2, 3]], z[:, [0, 2, 3]])
    assert scipy.stats.kstest(found[:, 1], "norm").statistic < 0.01


def test_channels_of_two_values_keep_their_gap():
    """A one of twenty classes is known by every other: `20 H(1/20) - log 20` nats."""
    hot = torch.nn.functional.one_hot(torch.arange(10_000) % 20).float()
    truth = -20 * (0.05 * math.log(0.05) + 0.95 * math.log(0.95)) - math.log(20)
    assert measure_total_correlation(hot, steps=400).value == pytest.approx(truth, rel=0.07)


def normal(z):
    return z


@pytest.mark.parametrize("of", [normal, torch.exp, lambda z: z**3], ids=["z", "exp z", "z³"])
def test_measured_total_correlation_does_not_depend_on_the_marginals(of):
    z = of(Equicorrelated(16, 4.0).draw(4000, torch.Generator().manual_seed(0)))
    found = measure_total_correlation(z, noise=0.0, steps=600)
    assert found.value == pytest.approx(4.0, rel=0.06)


def test_noise_does_not_drown_heavy_tails():
    z = Equicorrelated(16, 4.0).draw(4000, torch.Generator().manual_seed(0))
    exact, fifth = (measure_total_correlation(each, steps=600).value for each in (z, z**5))
    assert fifth == pytest.approx(exact, rel=0.04)
