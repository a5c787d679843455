"""Losses of features, against formulas written out."""

import torch
from torch.distributions import Normal

from tests.video_ode.objects.small import CHANNELS, some_features
from video_ode.objects.losses import FeatureCritic, GaussianLikelihood, MeanSquares


def test_mean_squares_is_a_mean_over_scales(double):
    found, wanted = some_features(), some_features()
    each = [((x - y) ** 2).sum() / x.numel() for x, y in zip(found, wanted, strict=True)]
    torch.testing.assert_close(MeanSquares()(found, wanted), sum(each) / 3)


def test_the_likelihood_has_the_best_scale_of_each_channel(double):
    found, wanted = some_features(), some_features()
    loss = GaussianLikelihood()(found, wanted)
    best = []
    for x, y in zip(found, wanted, strict=True):
        scale = (x - y).square().mean((0, 1, 3, 4), keepdim=True).sqrt()
        best.append(-Normal(x, scale).log_prob(y).mean())
        for other in (0.9 * scale, 1.1 * scale):
            assert -Normal(x, other).log_prob(y).mean() > best[-1]
    torch.testing.assert_close(loss, sum(best) / 3, rtol=1e-5, atol=1e-5)


def test_a_critic_learns_to_tell_features_apart():
    critic, true = FeatureCritic(CHANNELS, width=4), some_features()
    wrong = [x.abs() for x in some_features()]
    optimizer = torch.optim.Adam(critic.parameters(), 0.02)
    for _ in range(30):
        loss = (1 - critic(true)).relu().mean() + (1 + critic(wrong)).relu().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert critic(true).mean() > 0.5 > -0.5 > critic(wrong).mean()
