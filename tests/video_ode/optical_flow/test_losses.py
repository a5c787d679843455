"""Losses of optical flow against closed forms."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from common.errors import InputError
from video_ode.optical_flow.losses import (
    LaplaceMixture,
    MotionLoss,
    RobustLoss,
    difference,
    smoothness,
    visible_both_ways,
)
from video_ode.optical_flow.motion import Motion

ONES = torch.ones(1, 1, 6, 8)


def test_charbonnier_is_the_absolute_difference_away_from_zero():
    x, y = torch.full((1, 3, 6, 8), 0.7), torch.full((1, 3, 6, 8), 0.4)
    found = RobustLoss(structure=0.0)(x, y, ONES, ONES)
    assert float(found) == pytest.approx(math.hypot(0.3, 1e-3), rel=1e-5)
    assert float(difference(x, x, 0.85).abs().max()) < 2e-4


def test_the_loss_of_mixed_frames_is_their_negative_psnr_in_units_of_10_dB():
    torch.manual_seed(0)
    found, truth = torch.rand(2, 2, 3, 3, 6, 8, dtype=torch.float64)
    scores = [
        peak_signal_noise_ratio(y.numpy(), x.numpy(), data_range=1.0)
        for x, y in zip(found.flatten(0, 1), truth.flatten(0, 1), strict=True)
    ]
    loss = MotionLoss(mixture=0.5).mixed(found, truth)
    assert float(loss) == pytest.approx(-0.5 * np.mean(scores) / 10, rel=1e-4)
    assert math.isfinite(float(MotionLoss().mixed(truth, truth)))


def test_structure_is_that_of_a_window_of_nine_pixels():
    """One window of 3 x 3 pixels, by the definition of Wang et al. (2004)."""
    torch.manual_seed(0)
    x, y = torch.rand(2, 1, 1, 3, 3, dtype=torch.float64)
    found = difference(x, y, 1.0)[0, 0, 1, 1]
    cov = ((x - x.mean()) * (y - y.mean())).mean()
    same = (2 * x.mean() * y.mean() + 1e-4) / (x.mean() ** 2 + y.mean() ** 2 + 1e-4)
    alike = (2 * cov + 9e-4) / (x.var(correction=0) + y.var(correction=0) + 9e-4)
    assert float(found) == pytest.approx(float(1 - same * alike) / 2)


def test_hidden_pixels_do_not_count():
    x, y = torch.rand(2, 1, 3, 6, 8)
    visible = ONES.clone()
    visible[..., 4:] = 0
    half = RobustLoss(0.0)(x[..., :4], y[..., :4], ONES[..., :4], ONES[..., :4])
    assert float(RobustLoss(0.0)(x, y, ONES, visible)) == pytest.approx(float(half), rel=1e-5)
    assert float(RobustLoss(0.0)(x, y, ONES, 0 * ONES)) == 0


def test_the_mixture_is_the_likelihood_of_two_laplace_distributions():
    x, y = torch.full((1, 1, 6, 8), 0.7), torch.full((1, 1, 6, 8), 0.6)
    found = LaplaceMixture(0.0, narrow=0.05, wide=0.4)(x, y, 0.75 * ONES, ONES)
    d = math.hypot(0.1, 1e-3)
    likelihood = 0.75 * math.exp(-d / 0.05) / 0.05 + 0.25 * math.exp(-d / 0.4) / 0.4
    assert float(found) == pytest.approx(-0.05 * math.log(likelihood), rel=1e-4)


def test_the_mixture_is_sure_where_frames_agree():
    logit = torch.zeros(1, 1, 1, 2, requires_grad=True)
    x, y = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.0, 0.8]]]])
    LaplaceMixture(0.0)(x, y, logit.sigmoid(), torch.ones(1, 1, 1, 2)).backward()
    assert logit.grad[..., 0] < 0 < logit.grad[..., 1]  # a step down raises the first one


def test_smoothness_of_order_two_ignores_even_changes():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    motion = torch.stack([2 * x, -y])[None]
    frame = torch.rand(1, 3, 6, 8)
    assert float(smoothness(motion, frame, edge=0.0)) == pytest.approx((2 + 0) / 2 + (0 + 1) / 2)
    assert float(smoothness(motion, frame, order=2)) == pytest.approx(0.0, abs=1e-6)
    assert float(smoothness(motion.square(), frame, edge=0.0, order=2)) == pytest.approx(8 / 2 + 1)


def test_of_motions_with_equal_ends_the_steady_one_has_the_least_loss():
    frame, times = torch.rand(1, 3, 6, 8), torch.tensor([0.0, 0.5, 1.0])
    steady, unsteady = torch.ones(2, 1, 3, 2, 6, 8)
    unsteady[:, 1], unsteady[:, [0, 2]] = 2, 0  # the same way from 0 to 1, and from 0 to 1/2
    first, second = (Motion(x, x[:, :, 0], times) for x in (steady, unsteady))
    loss = MotionLoss(steady=0.3)
    assert float(loss.smoothness(first, frame)) == 0
    assert float(loss.smoothness(second, frame)) == pytest.approx(0.3 * 2)


def test_edges_allow_changes_of_the_motion():
    motion, frame = torch.zeros(1, 2, 6, 8), torch.zeros(1, 3, 6, 8)
    motion[..., 4:] = 1
    within = smoothness(motion, frame)
    frame[..., 4:] = 0.3
    at_edge = smoothness(motion, frame, edge=10.0)
    assert float(at_edge) == pytest.approx(float(within) * math.exp(-3), rel=1e-5)


def test_the_check_finds_the_pixels_that_an_object_hides():
    """A square moves by 3 pixels to the right, over a still background."""
    flow, back = torch.zeros(2, 1, 2, 12, 16)
    flow[:, 0, 4:8, 4:8] = 3
    back[:, 0, 4:8, 7:11] = -3
    hidden = torch.zeros(1, 12, 16, dtype=torch.bool)
    hidden[:, 4:8, 8:11] = True
    assert torch.equal(~visible_both_ways(flow, back), hidden)


@pytest.mark.parametrize("wrong", [{"smooth": -1.0}, {"check": 2.0}, {"levels": 0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(InputError):
        MotionLoss(**wrong)
