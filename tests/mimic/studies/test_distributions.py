"""What distributions are said to share is what their densities say."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from scipy.linalg import block_diag

from common.errors import InputError
from mimic.studies.distributions import (
    Apart,
    Cubed,
    Equicorrelated,
    ExclusiveOr,
    GaussianVectors,
    Independent,
    Pairs,
    RareBits,
    Repeated,
    RotatedUniforms,
    Sparse,
    StudentT,
)

SHARES = [(2, 0.1), (4, 2.0), (16, 6.0), (64, 8.0), (64, 100.0)]


def draw(distribution, n=100_000):
    return distribution.draw(n, torch.Generator().manual_seed(0)).double().numpy()


def correlation(of):
    if isinstance(of, Equicorrelated):
        return np.full((of.c, of.c), of.rho) + (1 - of.rho) * np.eye(of.c)
    return block_diag(*[[[1, of.rho], [of.rho, 1]]] * (of.c // 2))


@pytest.mark.parametrize("family", [Equicorrelated, Pairs])
@pytest.mark.parametrize(("c", "tc"), SHARES)
def test_correlations_share_the_truth(family, c, tc):
    found = -0.5 * np.linalg.slogdet(correlation(family(c, tc))).logabsdet
    assert found == pytest.approx(tc, rel=1e-6)
    assert family(c, tc).truth == tc


@pytest.mark.parametrize("family", [Equicorrelated, Pairs])
@pytest.mark.parametrize(("c", "tc"), [(4, 2.0), (16, 6.0)])
def test_samples_have_these_correlations(family, c, tc):
    z = draw(family(c, tc))
    assert np.cov(z.T) == pytest.approx(correlation(family(c, tc)), abs=0.02)
    assert stats.kstest(z[:, 1], "norm").pvalue > 0.001


@pytest.mark.parametrize(("nu", "rho"), [(5, 0.5), (2, 0.0)])
def test_student_channels_share_what_entropies_say(nu, rho):
    of = StudentT(nu, c=3, rho=rho)
    shape = np.full((3, 3), rho) + (1 - rho) * np.eye(3)
    joint = stats.multivariate_t(shape=shape, df=nu).entropy()
    assert 3 * stats.t(nu).entropy() - joint == pytest.approx(of.truth, rel=1e-6)
    z = draw(of)
    assert stats.kstest(z[:, 1], stats.t(nu).cdf).pvalue > 0.001
    assert stats.kendalltau(z[:, 0], z[:, 1])[0] == pytest.approx(
        2 / math.pi * math.asin(rho), abs=0.01
    )


def test_rare_bits_share_what_their_table_says():
    """Probabilities of all patterns of three channels, summed one by one."""
    p = np.zeros((2, 2, 2))
    for pattern in np.ndindex(2, 2, 2):
        for share, q in ((0.05, 0.7), (0.95, 0.02)):
            p[pattern] += share * np.prod([q if bit else 1 - q for bit in pattern])
    marginals = sum(stats.entropy(p.sum(tuple({0, 1, 2} - {i}))) for i in range(3))
    assert RareBits(3).truth == pytest.approx(marginals - stats.entropy(p.ravel()))
    z = draw(RareBits(3))
    assert z.all(1).mean() == pytest.approx(p[1, 1, 1], rel=0.05)
    assert (draw(Sparse(3)) > 0).mean() == pytest.approx(z.mean(), rel=0.05)


def test_repeated_samples_come_five_times():
    z = draw(Repeated(Independent(2)), 1000)
    assert np.unique(z, axis=0, return_counts=True)[1].tolist() == [5] * 200


def test_cubes_are_those_of_the_channels():
    of = Equicorrelated(4, 2.0)
    z = draw(Cubed(of))
    assert np.cbrt(math.sqrt(15) * z) == pytest.approx(draw(of), abs=1e-4)
    assert z.std(0) == pytest.approx(1, abs=0.05)
    assert Cubed(of).truth == of.truth


def test_vectors_share_what_their_covariance_says():
    of = GaussianVectors(6.0)
    z = draw(of, 50_000)
    assert z.shape == (50_000, 4, 20)
    covariance = np.kron(correlation(of.each), np.eye(20))
    assert np.cov(z.reshape(50_000, 80).T) == pytest.approx(covariance, abs=0.03)
    blocks = stats.multivariate_normal(cov=np.eye(20)).entropy() * 4
    joint = stats.multivariate_normal(cov=covariance).entropy()
    assert blocks - joint == pytest.approx(of.truth, rel=1e-6)


def test_bits_are_an_exclusive_or():
    of = ExclusiveOr()
    z = draw(of)
    patterns, counts = np.unique(z > 0, axis=0, return_counts=True)
    assert patterns.tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert stats.chisquare(counts).pvalue > 0.001
    marginals = 3 * stats.entropy([0.5, 0.5])
    assert of.truth == pytest.approx(marginals - stats.entropy([0.25] * 4))
    assert stats.kstest((z - np.sign(z)).ravel(), "norm", (0, of.deviation)).pvalue > 0.001


def test_noise_takes_nothing_from_the_bits():
    """`KL(p ‖ p₁ p₂ p₃)` of the mixture of four Gaussians, by quadrature over each."""
    of = ExclusiveOr()
    nodes, weights = np.polynomial.hermite_e.hermegauss(10)
    eps = of.deviation * np.stack(np.meshgrid(nodes, nodes, nodes), -1)
    weights = np.einsum("i,j,k->ijk", weights, weights, weights) / math.sqrt(2 * math.pi) ** 3
    centres = np.array([[-1, -1, -1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    normal = stats.norm(scale=of.deviation)
    found = 0.0
    for centre in centres:
        z = centre + eps
        joint = sum(normal.pdf(z - other).prod(-1) for other in centres) / 4
        apart = ((normal.pdf(z - 1) + normal.pdf(z + 1)) / 2).prod(-1)
        found += (weights * np.log(joint / apart)).sum() / 4
    assert found == pytest.approx(of.truth, abs=1e-3)


def test_rotated_uniforms_share_what_integrals_say():
    of = RotatedUniforms()
    triangle = stats.triang(0.5, loc=-math.sqrt(6), scale=2 * math.sqrt(6))
    entropy = 2 * quad(lambda x: -triangle.pdf(x) * triangle.logpdf(x), 0, math.sqrt(6))[0]
    assert 2 * entropy - math.log(12) == pytest.approx(of.truth, abs=1e-6)
    z = draw(of)
    assert stats.kstest(z[:, 0], triangle.cdf).pvalue > 0.001
    uniform = stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))
    assert stats.kstest((z[:, 0] + z[:, 1]) / math.sqrt(2), uniform.cdf).pvalue > 0.001
    assert abs(np.corrcoef(z.T)[0, 1]) < 0.02


def test_apart_keeps_marginals_and_nothing_else():
    of = Equicorrelated(3, 2.0)
    z = draw(Apart(of))
    assert np.cov(z.T) == pytest.approx(np.eye(3), abs=0.02)
    assert stats.kstest(z[:, 2], "norm").pvalue > 0.001
    bits = draw(Apart(ExclusiveOr()))
    assert abs(np.sign(bits).prod(1).mean()) < 0.02
    assert Apart(of).truth == Independent(3).truth == 0


def test_the_generator_decides():
    for of in (Independent(3), Pairs(4, 1.0), ExclusiveOr(), RotatedUniforms()):
        torch.manual_seed(1)
        once = of.draw(5, torch.Generator().manual_seed(3))
        torch.manual_seed(2)
        assert torch.equal(once, of.draw(5, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("make", [lambda: Equicorrelated(1, 1.0), lambda: Equicorrelated(3, 0.0),
                                  lambda: Pairs(3, 1.0), lambda: Pairs(4, -1.0)])  # fmt: skip
def test_there_is_no_such_distribution(make):
    with pytest.raises(InputError, match="channels that share"):
        make()
