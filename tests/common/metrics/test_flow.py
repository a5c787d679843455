import math

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.metrics.flow import FlowMetrics, end_point_error, flow_outliers

NAN = float("nan")


def flows(*shape, spread=4.0):
    """A true flow, an estimate, and a mask; float32, from a seed."""
    generator = torch.Generator().manual_seed(0)
    truth = 40 * torch.randn(*shape, generator=generator)
    flow = truth + spread * torch.randn(shape, generator=generator)
    valid = torch.rand(*shape[:-3], *shape[-2:], generator=generator) < 0.7
    return flow, truth, valid


def by_numpy(flow, truth, valid):
    """The numbers of `FlowMetrics`, pixel by pixel, by the definitions of the benchmarks."""
    flow, truth = (x.movedim(-3, -1)[valid].double().numpy() for x in (flow, truth))
    error = np.sqrt((flow[:, 0] - truth[:, 0]) ** 2 + (flow[:, 1] - truth[:, 1]) ** 2)
    length = np.sqrt((truth**2).sum(1))
    return {
        "epe": error.mean(),
        "f1_all": ((error > 3) & (error / length > 0.05)).mean(),
        **{f"within_{k}px": (error < k).mean() for k in (1, 3, 5)},
    }


@pytest.mark.parametrize("shape", [(2, 30, 40), (3, 2, 9, 7), (2, 3, 2, 5, 6)])
def test_metrics_are_those_of_numpy_over_the_valid_pixels(shape):
    flow, truth, valid = flows(*shape)
    metric = FlowMetrics()
    truth = truth.where(valid.unsqueeze(-3), torch.nan)  # never looked at
    metric.update(flow, truth, valid)
    assert metric.compute() == pytest.approx(by_numpy(flow, truth, valid), rel=1e-6)


def test_every_pixel_of_a_set_has_equal_weight():
    flow, truth, valid = flows(4, 2, 8, 8)
    valid[0, 1:] = False  # so that a mean over pictures would differ
    flow[0] += 5
    metric = FlowMetrics()
    for sample in zip(flow, truth, valid, strict=True):
        metric.update(*sample)
    assert metric.compute() == pytest.approx(by_numpy(flow, truth, valid), rel=1e-6)


@pytest.mark.parametrize(
    ("truth", "error", "outlier"),
    [
        ((0, 0), (3, 0), False),  # not above 3 pixels
        ((0, 0), (0, 3.5), True),  # of no motion, every error is more than 5 %
        ((48, 64), (0, 4), False),  # 5 % of 80 pixels, not above
        ((48, 64), (0, -4.01), True),
        ((10, 0), (0, 2.9), False),  # above 5 %, but below 3 pixels
        ((10, 0), (NAN, 0), True),
    ],
)
def test_outliers_are_above_three_pixels_and_five_percent(truth, error, outlier):
    truth = torch.tensor(truth, dtype=torch.float32)[:, None, None]
    flow = truth + torch.tensor(error)[:, None, None]
    assert flow_outliers(flow, truth).tolist() == [[outlier]]


def test_rates_are_of_errors_below_the_radius():
    truth = torch.zeros(2, 1, 4)
    flow = torch.tensor([[[0.6, 0, 3, -3]], [[0.8, 0.99, 4, 0]]])  # errors 1, 0.99, 5 and 3
    metric = FlowMetrics()
    metric.update(flow, truth)
    found = metric.compute()
    shares = [found["within_1px"], found["within_3px"], found["within_5px"]]
    assert shares == [0.25, 0.5, 0.75]
    assert end_point_error(flow, truth).tolist()[0] == pytest.approx([1, 0.99, 5, 3])


def test_numbers_are_nan_without_a_valid_pixel_and_a_nan_is_never_right():
    flow, truth, valid = flows(2, 4, 4)
    metric = FlowMetrics()
    metric.update(flow, truth, torch.zeros_like(valid))
    assert all(math.isnan(value) for value in metric.compute().values())
    metric.update(flow * torch.nan, truth)
    found = metric.compute()
    assert math.isnan(found.pop("epe"))
    assert list(found.values()) == [1, 0, 0, 0]


def test_half_precision_loses_nothing_more():
    flow, truth, valid = (x.half() if x.is_floating_point() else x for x in flows(2, 9, 9))
    metric = FlowMetrics()
    metric.update(flow, truth, valid)
    assert metric.compute() == pytest.approx(by_numpy(flow, truth, valid), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, t, v: (f[:1], t, v), r"float \[\.\.\. 2 h w\]"),
        (lambda f, t, v: (f, t[0], v), "a flow of"),
        (lambda f, t, v: (f.long(), t, v), "flow of torch.int64"),
        (lambda f, t, v: (f, t[..., :-1], v), "equal shape"),
        (lambda f, t, v: (f[None], t, v), "equal shape"),
        (lambda f, t, v: (f, t, v[:-1]), r"give bool \[5, 6\]"),
        (lambda f, t, v: (f, t, v.float()), "mask of torch.float32"),
        (lambda f, t, v: (f, t / 0, v), "NaN or infinite"),
    ],
)
def test_other_shapes_and_types_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        FlowMetrics().update(*change(*flows(2, 5, 6)))
