"""Predictor of features: any number of scales."""

from functools import partial

import pytest
import torch

from common.ode.solve import Solver
from video_ode.dynamics.fields import ConvField
from video_ode.dynamics.ode import NeuralODE
from video_ode.objects.predictor import FeaturePredictor

DYNAMICS = partial(
    NeuralODE, field=partial(ConvField, width=4), solver=Solver("rk4", step_size=1.0)
)


@pytest.mark.parametrize(
    ("channels", "strides"), [((5,), (16,)), ((3, 5), (4, 16)), ((2, 3, 4, 5), (2, 4, 8, 16))]
)
def test_any_number_of_scales_is_predicted(channels, strides):
    torch.manual_seed(0)
    predictor = FeaturePredictor(channels, strides, DYNAMICS, width=6)
    given = [
        torch.randn(2, 3, c, 32 // s, 48 // s) for c, s in zip(channels, strides, strict=True)
    ]
    for x in given:
        x.requires_grad_()
    times, wanted = torch.arange(3.0), torch.tensor([2.0, 2.5, 5.0])
    found = predictor(given, times, wanted).features
    for x, y in zip(found, given, strict=True):
        assert x.shape == y.shape
        torch.testing.assert_close(x[:, 0], y[:, 2])  # at the last given time
        assert not torch.allclose(x[:, 2], y[:, 2])
    for x in torch.autograd.grad(sum(x[:, 2].sum() for x in found), given):
        assert all(x[:, k].any() for k in range(3))  # all given frames and scales matter
