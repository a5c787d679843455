"""Prediction of features: what holds for any weights, and every kind of dynamics."""

from functools import partial

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.ode.sde import EulerMaruyama
from tests.video_ode.objects.small import CHANNELS, STRIDES, small_predictor, some_features
from video_ode.dynamics.fields import ConvField
from video_ode.dynamics.recurrent import ConvGRU, ConvGRUCell
from video_ode.dynamics.sde import NeuralSDE
from video_ode.objects.predictor import FeaturePredictor

TIMES = torch.arange(3.0)


def sde(size, context):
    field = partial(ConvField, width=4)
    return NeuralSDE(size, context, field, field, EulerMaruyama(step_size=0.5))


def test_the_last_given_features_come_back_at_their_time():
    given = some_features()
    asked = torch.tensor([2.0, 3.5])
    for x, y in zip(small_predictor()(given, TIMES, asked).features, given, strict=True):
        torch.testing.assert_close(x[:, 0], y[:, -1])
        assert not torch.allclose(x[:, 1], y[:, -1])


def test_a_state_that_does_not_move_keeps_the_features():
    predictor = small_predictor()
    for weight in predictor.dynamics.parameters():
        torch.nn.init.zeros_(weight)
    given = some_features()
    for x, y in zip(predictor(given, TIMES, torch.tensor([5.0])).features, given, strict=True):
        torch.testing.assert_close(x[:, 0], y[:, -1])


def test_only_differences_of_times_count(double):
    predictor, given = small_predictor().double(), [x.double() for x in some_features()]
    asked = torch.tensor([3.0, 4.5])
    now = predictor(given, TIMES.double(), asked).features
    later = predictor(given, TIMES.double() + 7, asked + 7).features
    for x, y in zip(now, later, strict=True):
        torch.testing.assert_close(x, y)
    faster = predictor(given, 0.5 * TIMES.double(), asked - 1).features
    assert not torch.allclose(now[0], faster[0])  # the network sees the times between frames


def test_videos_have_times_of_their_own(double):
    predictor, given = small_predictor().double(), [x.double() for x in some_features()]
    times = torch.tensor([[0.0, 1, 2], [0, 1.5, 2.5]])
    asked = torch.tensor([[3.0, 4], [3.25, 5]])
    together = predictor(given, times, asked).features
    for i in range(2):
        alone = predictor([x[i : i + 1] for x in given], times[i], asked[i]).features
        for x, y in zip(together, alone, strict=True):
            torch.testing.assert_close(x[i], y[0], rtol=1e-3, atol=1e-6)


def test_more_times_change_nothing_and_time_runs_backward(double):
    predictor, given = small_predictor().double(), [x.double() for x in some_features()]
    few = predictor(given, TIMES.double(), torch.tensor([3.0, 4])).features
    many = predictor(given, TIMES.double(), torch.tensor([-1.0, 0.5, 2, 3, 3.5, 4])).features
    for x, y in zip(few, many, strict=True):
        torch.testing.assert_close(x, y[:, [3, 5]], rtol=1e-4, atol=1e-6)
        assert y.isfinite().all()


@pytest.mark.parametrize("dynamics", [ConvGRU, sde], ids=["GRU", "SDE"])
def test_every_dynamics_carries_features(dynamics):
    predictor, given = small_predictor(dynamics), some_features()
    path = predictor(given, TIMES, torch.tensor([3.0, 4]))
    assert [x.shape[:2] for x in path.features] == [(2, 2)] * 3
    sum(x.square().sum() for x in path.features).backward()
    assert all(p.grad is not None for p in predictor.parameters() if p.requires_grad)
    if dynamics is ConvGRU:
        with pytest.raises(InputError, match="ConvGRU steps from frame to frame"):
            predictor(given, TIMES, torch.tensor([2.5]))


def test_every_given_frame_counts():
    given = [x.requires_grad_() for x in some_features()]
    small_predictor()(given, TIMES, torch.tensor([4.0])).features[0].sum().backward()
    for x in given:
        assert (x.grad.abs().sum((0, 2, 3, 4)) > 0).all()


def test_sizes_make_features_relative():
    predictor, given = small_predictor(), some_features()
    scaled = [7 * x for x in given]
    predictor.measure(scaled)
    for x in predictor.relative(scaled):
        torch.testing.assert_close(x.std((0, 1, 3, 4)), torch.ones(x.shape[2]), rtol=1e-3, atol=0)
    assert {"sizes.0", "sizes.1", "sizes.2"} <= set(predictor.state_dict())


@pytest.mark.parametrize(
    ("given", "times"),
    [
        (some_features()[:2], TIMES),
        (some_features(), torch.arange(4.0)),
        ([x[:, :, 1:] for x in some_features()], TIMES),
        ([x[0] for x in some_features()], TIMES),
    ],
    ids=["a scale is missing", "other times", "other channels", "no batch"],
)
def test_other_features_are_refused(given, times):
    with pytest.raises(InputError, match="got features of shapes"):
        small_predictor()(given, times, torch.tensor([9.0]))


def test_other_numbers_are_refused():
    with pytest.raises(InputError, match="width"):
        FeaturePredictor(CHANNELS, STRIDES, ConvGRU, width=0)
    with pytest.raises(InputError, match="strides"):
        FeaturePredictor(CHANNELS, (4, 6, 16), ConvGRU)
    with pytest.raises(InputError, match="as many"):
        FeaturePredictor(CHANNELS[:2], STRIDES, ConvGRU)


def test_the_gru_cell_follows_its_equations(double):
    cell = ConvGRUCell(2, 3)
    x, h = torch.randn(4, 2, 1, 1), torch.randn(4, 3, 1, 1)
    gates, new = (
        (p.weight[:, :, 1, 1].detach().numpy(), p.bias.detach().numpy())
        for p in (cell.gates, cell.new)
    )
    a, b = x[:, :, 0, 0].numpy(), h[:, :, 0, 0].numpy()

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    both = sigmoid(np.concatenate([a, b], 1) @ gates[0].T + gates[1])
    reset, keep = both[:, :3], both[:, 3:]
    fresh = np.tanh(np.concatenate([a, reset * b], 1) @ new[0].T + new[1])
    true = keep * b + (1 - keep) * fresh
    np.testing.assert_allclose(cell(x, h)[:, :, 0, 0].detach().numpy(), true)
