"""Losses, R1 and singular value clipping, against formulas written out and against numpy."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from common.errors import InputError
from video_ode.adversarial import R1, Hinge, Logistic, Wasserstein
from video_ode.gan.clipping import SingularValueClipping, clipped

REAL, FAKE = torch.tensor([2.0, -0.5, 0.3]), torch.tensor([-3.0, 0.2, 1.5])


def test_wasserstein_is_the_difference_of_means():
    assert float(Wasserstein().critic(REAL, FAKE)) == pytest.approx(-1.3 / 3 - 1.8 / 3)
    assert float(Wasserstein().generator(FAKE)) == pytest.approx(1.3 / 3)


def test_hinge_counts_what_is_within_the_margin():
    assert float(Hinge().critic(REAL, FAKE)) == pytest.approx((1.5 + 0.7) / 3 + (1.2 + 2.5) / 3)
    assert float(Hinge().generator(FAKE)) == pytest.approx(1.3 / 3)


def test_logistic_is_binary_cross_entropy():
    one, zero = torch.ones(3), torch.zeros(3)
    torch.testing.assert_close(Logistic().critic(REAL, FAKE), bce(REAL, one) + bce(FAKE, zero))
    torch.testing.assert_close(Logistic().generator(FAKE), bce(FAKE, one))


@pytest.mark.parametrize(("reduction", "count"), [("mean", 1), ("sum", 4)])
def test_r1_of_a_quadratic_critic_is_in_closed_form(reduction, count, double):
    a, b = torch.randn(4, 3, 1, 2, 2), torch.randn(4, 2, 1, 4, 4)
    scores = lambda videos: sum((v.square().flatten(1).sum(1) for v in videos), torch.zeros(4))
    found = R1(0.3, every=2, reduction=reduction)(scores, [a, b])
    per_video = 4 * (a.square().flatten(1).sum(1) + b.square().flatten(1).sum(1))  # |2x|²
    torch.testing.assert_close(found, 2 * 0.3 * per_video.mean() * count)


def test_r1_reaches_the_critic():
    weight = torch.randn(5, requires_grad=True)
    R1(1.0)(lambda videos: videos[0].flatten(1) @ weight, [torch.rand(2, 5, 1, 1, 1)]).backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())  # of |w|²


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (1, 9), (5, 5)])
def test_clipped_singular_values_are_those_of_numpy(shape, double):
    matrix = torch.randn(shape)
    u, s, v = np.linalg.svd(matrix.numpy(), full_matrices=False)
    assert s.max() > 1
    np.testing.assert_allclose(clipped(matrix), (u * s.clip(max=1)) @ v, atol=1e-12)
    small = matrix / (2 * s.max())
    torch.testing.assert_close(clipped(small), small)


def test_clipping_in_single_precision_agrees_to_1e_6():
    matrix = torch.randn(64, 2048) * 2**0.5 / 45  # as xavier_normal with gain √2 makes it
    u, s, v = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    error = clipped(matrix).double().numpy() - (u * s.clip(max=1)) @ v
    assert s.max() > 1
    assert abs(error).max() < 1e-6


def test_a_critic_is_clipped_layer_by_layer(double):
    net = nn.Sequential(nn.Conv3d(2, 6, 3), nn.BatchNorm3d(6), nn.Conv2d(6, 4, 2), nn.Linear(9, 3))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(30)
        net[1].running_var.copy_(torch.tensor([4.0, 1, 1, 1, 1, 0.25]))
        net[1].weight.copy_(torch.tensor([9.0, 1e-9, 0.5, -3, 1, 1]))
    biases = [net[i].bias.clone() for i in range(4)]
    SingularValueClipping()(net)
    for i in (0, 2, 3):
        largest = torch.linalg.matrix_norm(net[i].weight.flatten(1), 2)
        assert float(largest.detach()) == pytest.approx(1)
    assert net[1].weight.tolist() == pytest.approx([2, 0.01, 0.5, 0.01, 1, 0.5])
    for i in range(4):
        assert torch.equal(net[i].bias, biases[i])


def test_values_out_of_range_are_refused():
    with pytest.raises(InputError, match="every 0"):
        SingularValueClipping(0)
    with pytest.raises(InputError, match="weight nan"):
        R1(math.nan)
