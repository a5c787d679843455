"""Every estimate, given the true log ratio of densities, says the truth."""

import math

import pytest
import torch
from scipy.stats import multivariate_normal, norm

from common.errors import InputError
from mimic.critic.critics import GaussianRatio, HybridCritic, MapCritic, MLPCritic
from mimic.critic.estimators import (
    DV,
    ESTIMATORS,
    MINE,
    NWJ,
    SMILE,
    InfoNCE,
    gaussian_total_correlation,
    log_mean_exp,
    make_estimator,
    total_correlation,
)
from mimic.critic.game import Game, ranking_of
from mimic.critic.terms import terms
from mimic.features.rows import Rows
from mimic.features.shuffling import shuffle_channels

RHO = torch.tensor([[1.0, 0.5, 0.2], [0.5, 1.0, -0.3], [0.2, -0.3, 1.0]])
TRUTH = -0.5 * math.log(torch.linalg.det(RHO.double()).item())


def gaussians(n):
    return torch.randn(n, 3) @ torch.linalg.cholesky(RHO).T


def log_ratio(z):
    joint = multivariate_normal(cov=RHO.numpy()).logpdf(z)
    return torch.from_numpy(joint - norm.logpdf(z).sum(1)).float()


@pytest.fixture(scope="module")
def true_values():
    torch.manual_seed(0)
    return log_ratio(gaussians(200_000)), log_ratio(torch.randn(200_000, 3))


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "nwj"])
def test_the_true_ratio_gives_the_truth(name, true_values):
    assert make_estimator(name)(*true_values).item() == pytest.approx(TRUTH, abs=0.01)


def test_nwj_wants_the_ratio_and_one(true_values):
    joint, marginal = true_values
    assert NWJ()(joint + 1, marginal + 1).item() == pytest.approx(TRUTH, abs=0.01)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_critic_that_sees_nothing_says_nothing(name):
    nothing = torch.ones(1000) if name == "nwj" else torch.zeros(1000)
    assert make_estimator(name)(nothing, nothing).item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("shift", [-3.0, 7.0])
def test_dv_doesnt_mind_a_constant(shift, true_values):
    joint, marginal = true_values
    shifted = DV()(joint + shift, marginal + shift)
    assert shifted.item() == pytest.approx(DV()(joint, marginal).item(), abs=1e-4)


def test_infonce_has_a_ceiling():
    assert InfoNCE()(torch.full((64,), 50.0), torch.zeros(64)).item() == pytest.approx(
        math.log(65)
    )


def test_smile_clips_what_so_few_samples_cannot_know():
    joint, marginal = torch.zeros(10), torch.tensor([30.0, *[0.0] * 99])
    expected = -math.log((99 + 100) / 100)
    assert SMILE()(joint, marginal).item() == pytest.approx(expected, abs=1e-4)
    clipped = SMILE(clip=1.0)(joint, marginal).item()
    assert clipped == pytest.approx(-math.log((99 + math.e) / 100), abs=1e-6)


def test_mine_corrects_the_gradient_by_a_running_mean(double):
    """Belghazi et al. 2018, eq. 12: the denominator is not the batch's own."""
    estimator, batches = MINE(decay=0.5), torch.randn(4, 32).double()
    mean = None
    for batch in batches:
        t = batch.clone().requires_grad_()
        estimator.objective(torch.zeros(32), t).backward()
        own = batch.exp().mean()
        mean = own if mean is None else 0.5 * mean + 0.5 * own
        assert torch.allclose(t.grad, -batch.exp() / 32 / mean)


def test_mine_caps_the_correction(double):
    estimator = MINE(decay=0.99, cap=2.0)
    estimator.objective(torch.zeros(1), torch.full((8,), -20.0))
    t = torch.full((8,), 20.0).requires_grad_()
    estimator.objective(torch.zeros(1), t).backward()
    assert t.grad.sum().item() == pytest.approx(-2.0)


@pytest.mark.parametrize("c", [2, 5])
def test_closed_form_of_gaussians(c, double):
    rho = 0.6
    shared = rho**0.5 * torch.randn(400_000, 1)
    z = shared + (1 - rho) ** 0.5 * torch.randn(400_000, c)
    truth = -0.5 * (math.log(1 + (c - 1) * rho) + (c - 1) * math.log(1 - rho))
    found = gaussian_total_correlation(z * torch.arange(1, c + 1) + 3)
    assert found.item() == pytest.approx(truth, abs=0.01)


def test_closed_form_of_copies_is_large_and_finite():
    x = torch.randn(100, 1)
    assert 5 < gaussian_total_correlation(x.expand(100, 2)).item() < 50


@pytest.mark.parametrize("decomposition", ["line", "tree"])
@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_terms_sum_to_the_whole(decomposition, n, double):
    """Of Gaussians, where every term is known: `½ (log det of the blocks - log det of both)`."""
    root = torch.randn(n, n)
    covariance = root @ root.T + torch.eye(n)
    deviation = covariance.diagonal().sqrt()
    correlation = covariance / deviation.outer(deviation)
    total = 0.0
    parts = terms(range(n), decomposition)
    for channels, blocks in parts:
        both = correlation[channels][:, channels]
        total -= 0.5 * torch.logdet(both)
        for block in (0, 1):
            inside = [c for c, b in zip(channels, blocks, strict=True) if b == block]
            total += 0.5 * torch.logdet(correlation[inside][:, inside])
    assert len(parts) == n - 1
    assert total.item() == pytest.approx(-0.5 * torch.logdet(correlation).item())


def test_groups_stay_together_in_terms():
    assert terms([0, 0, 1, 1, 2, 2], "line")[0] == ([0, 1, 2, 3], [0, 0, 1, 1])
    assert terms([0, 0, 1, 1], "direct") == [([0, 1, 2, 3], [0, 0, 1, 1])]


@pytest.mark.parametrize("blocks", [[0, 1, 2], [0, 0, 1]])
def test_gaussian_ratio_is_the_log_ratio_of_such_gaussians(blocks):
    ratio, z = GaussianRatio(blocks), gaussians(100_000)
    for batch in z.chunk(50):
        ratio.observe(batch)
    points = gaussians(200)
    expected = multivariate_normal(cov=RHO.numpy()).logpdf(points)
    for block in set(blocks):
        inside = [i for i, b in enumerate(blocks) if b == block]
        marginal = multivariate_normal(cov=RHO[inside][:, inside].numpy())
        expected = expected - marginal.logpdf(points[:, inside])
    assert torch.allclose(ratio(points), torch.from_numpy(expected).float(), atol=0.1)


def test_gaussian_ratio_sees_nothing_in_a_few_samples_of_noise():
    ratio = GaussianRatio(range(64))
    ratio.observe(torch.randn(16, 64))
    assert ratio(torch.randn(500, 64)).abs().mean() < 3


@pytest.mark.parametrize("critic", [MLPCritic, HybridCritic, MapCritic])
@pytest.mark.parametrize("n_context", [0, 3])
def test_gradients_reach_all_of_a_critic_and_its_inputs(critic, n_context):
    z = torch.randn(6, 4, 5, 5, requires_grad=True)
    made = critic(range(4), 25, n_context)
    context = torch.randn(6, 3, requires_grad=True) if n_context else None
    if isinstance(made, HybridCritic):
        made.observe(z.detach())
    made(z, context).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in made.parameters())
    assert z.grad.abs().sum() > 0
    assert context is None or context.grad.abs().sum() > 0


def perceptrons(estimator="smile", **options):
    return Game(range(3), critic=MLPCritic, estimator=estimator, **options)


def test_estimates_leave_critics_alone_and_outlive_their_steps():
    game, z = perceptrons(), gaussians(64).requires_grad_()
    estimate = game.estimate(Rows(z))
    game.step(Rows(z))
    estimate.backward()
    before = [p.grad.clone() for p in game.critics.parameters()]
    assert z.grad.abs().sum() > 0
    game.estimate(Rows(z)).backward()
    assert all(map(torch.equal, before, (p.grad for p in game.critics.parameters())))


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="there are dv, mine"):
        make_estimator("best")


def test_log_mean_exp():
    x = torch.tensor([0.0, math.log(3)])
    assert log_mean_exp(x).item() == pytest.approx(math.log(2))


def test_the_pure_function_is_the_estimate_of_one_shuffle():
    z, critic = gaussians(64).requires_grad_(), MLPCritic(range(3))
    found = total_correlation(z, critic, "dv", torch.Generator().manual_seed(2))
    shuffled = shuffle_channels(z, generator=torch.Generator().manual_seed(2))
    expected = critic(z).mean() - log_mean_exp(critic(shuffled))
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    found.backward()
    assert z.grad.abs().sum() > 0
    assert critic.layers[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_ranking_is_the_area_under_the_curve(shift):
    joint, marginal = torch.randn(300) + 1 + shift, torch.randn(300) + shift
    truth = norm.cdf(1 / math.sqrt(2))
    assert ranking_of([(joint, marginal)]).item() == pytest.approx(truth, abs=0.04)
    nothing = torch.zeros(300)
    assert ranking_of([(nothing, nothing)]).item() == 0.5


def test_any_module_is_a_critic_and_may_observe():
    class Own(torch.nn.Module):
        def __init__(self, blocks, size, n_context):
            super().__init__()
            self.scale, self.seen = torch.nn.Parameter(torch.ones(())), 0

        def observe(self, z):
            self.seen += len(z)

        def forward(self, z):
            return self.scale * z.sum(1)

    game = Game(range(3), critic=Own, estimator="dv")
    game.step(Rows(gaussians(64)))
    assert game.critics[0].seen == 64
