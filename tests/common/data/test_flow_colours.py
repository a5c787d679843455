import colorsys
import math

import numpy as np
import pytest
import torch

from common.data.flow_colours import flow_colours
from common.errors import InputError


def around(count, length=1.0):
    """Flow `[2 1 count]` of equal length in `count` directions: right, down, left, up."""
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    return length * torch.stack([angle.cos(), angle.sin()])[:, None]


def hsv(colours):
    return np.array(
        [colorsys.rgb_to_hsv(*(rgb / 255)) for rgb in colours.numpy().reshape(3, -1).T]
    )


def test_colours_are_the_55_of_the_paper():
    ramps = [(15, 0, 1), (6, 1, 0), (4, 0, 1), (11, 1, 0), (13, 0, 1), (6, 1, 0)]
    channels = [1, 0, 2, 1, 0, 2]  # green rises, red falls, blue rises, ...
    table, colour = [], [255.0, 0.0, 0.0]
    for (steps, start, end), channel in zip(ramps, channels, strict=True):
        for step in range(steps):
            colour[channel] = 255 * (start + (end - start) * step / steps)
            table.append(list(colour))
        colour[channel] = 255.0 * end
    assert len(table) == 55
    found = flow_colours(around(55), most=1.0)[:, 0].T
    assert np.abs(found.numpy() - np.array(table)).max() <= 1


def test_main_directions():
    right, down, left, up = flow_colours(around(4), 1.0)[:, 0].T.tolist()
    assert right == [255, 0, 0]
    # In the circle of 55, yellow is the 15th, cyan the 25th, blue the 36th, magenta the 49th.
    assert down == [255, int(255 * 13.75 / 15), 0]
    assert left == [0, int(255 * 8.5 / 11), 255]
    assert up == [int(255 * 5.25 / 13), 0, 255]


def test_opposite_directions_have_complementary_hues():
    hue = hsv(flow_colours(around(64), 1.0))[:, 0]
    apart = np.abs(hue - np.roll(hue, 32))
    assert np.minimum(apart, 1 - apart).min() > 0.41  # a half would be a circle of equal steps


@pytest.mark.parametrize("length", [0.0, 0.25, 0.5, 1.0])
def test_equal_lengths_have_equal_saturation_and_no_motion_is_white(length):
    colours = hsv(flow_colours(around(64, 8 * length), most=8.0))
    assert colours[:, 1] == pytest.approx(length, abs=0.006)
    assert colours[:, 2] == pytest.approx(1, abs=0.005)


def test_longest_motion_is_the_measure_and_longer_ones_are_darker():
    flow = torch.cat([around(8, 2), around(8, 4)], 1)
    assert torch.equal(flow_colours(flow), flow_colours(flow, most=4.0))
    assert hsv(flow_colours(flow, most=3.0))[8:, 2] == pytest.approx(0.75, abs=0.005)
    assert (flow_colours(torch.zeros(2, 3, 4)) == 255).all()


def test_unknown_pixels_are_black_and_not_measured():
    flow, valid = around(6), torch.ones(1, 6, dtype=torch.bool)
    wanted = flow_colours(flow)
    flow[0, 0, 1], flow[:, 0, 4], valid[0, 4] = torch.nan, 99, False
    wanted[:, 0, [1, 4]] = 0
    assert torch.equal(flow_colours(flow, valid=valid), wanted)


def test_leading_axes_are_kept():
    flow = torch.randn(3, 4, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    colours = flow_colours(flow, most=1.0)
    assert colours.shape == (3, 4, 3, 5, 6)
    assert torch.equal(colours[1, 2], flow_colours(flow[1, 2], most=1.0))


@pytest.mark.parametrize(
    ("flow", "most", "valid"),
    [
        (torch.zeros(3, 4, 5), None, None),
        (torch.zeros(2, 4, 5, dtype=torch.int64), None, None),
        (torch.zeros(2, 4, 5), 0.0, None),
        (torch.zeros(2, 4, 5), None, torch.ones(4, 4, dtype=torch.bool)),
        (torch.zeros(2, 4, 5), None, torch.ones(4, 5)),
    ],
)
def test_wrong_input_is_refused(flow, most, valid):
    with pytest.raises(InputError, match=r"got .*; give"):
        flow_colours(flow, most, valid)
