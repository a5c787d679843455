"""Pictures of filters: where each one is, and what its greys mean."""

import math

import pytest
import torch

from common.errors import InputError
from mimic.supervised.pictures import filter_grid


def tiles(picture, n, side, zoom, columns):
    margin = max(2, zoom // 3)
    for i in range(n):
        top = i // columns * (side * zoom + margin) + margin
        left = i % columns * (side * zoom + margin) + margin
        yield picture[:, top : top + side * zoom, left : left + side * zoom]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_filter_is_shown_pixel_by_pixel_at_its_own_scale(channels):
    weight = torch.randn(7, channels, 3, 3)
    picture = filter_grid(weight, columns=4, zoom=5)
    assert picture.shape == (channels, 2 * (15 + 2) + 2, 4 * (15 + 2) + 2)
    for tile, one in zip(tiles(picture, 7, 3, 5, 4), weight, strict=True):
        assert torch.equal(tile[:, ::5, ::5], tile[:, 4::5, 4::5])
        shown = (tile[:, ::5, ::5].float() - 127.5) / 127.5
        torch.testing.assert_close(shown, one / one.abs().max(), rtol=0, atol=1 / 127)


def test_scale_does_not_show_and_sign_does():
    weight = torch.randn(5, 1, 5, 5)
    scales = torch.tensor([1e-6, 0.1, 1.0, 7.0, 1e4])[:, None, None, None]
    assert torch.equal(filter_grid(weight), filter_grid(scales * weight))
    assert not torch.equal(filter_grid(weight), filter_grid(-weight))


def test_a_dead_filter_is_grey_and_the_ground_white():
    picture = filter_grid(torch.zeros(3, 1, 2, 2), zoom=3)
    assert set(picture.unique().tolist()) == {128, 255}
    assert (picture[0, 0] == 255).all()
    assert (picture == 128).sum() == 3 * 36


@pytest.mark.parametrize(("n", "columns"), [(16, 4), (32, 8), (64, 8), (6, 3), (7, 3), (1, 1)])
def test_a_grid_is_filled_if_it_can_be_and_never_more_than_twice_as_wide_as_high(n, columns):
    picture = filter_grid(torch.randn(n, 1, 3, 3))
    assert picture.shape == (1, math.ceil(n / columns) * 40 + 4, columns * 40 + 4)


def test_rows_of_equal_width_can_be_put_below_each_other():
    rows = [filter_grid(torch.randn(6, 1, 3, 3), columns=6) for _ in range(2)]
    assert torch.cat(rows, 1).shape == (1, 2 * (36 + 8), 6 * 40 + 4)


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (4, 3, 3), (4, 64, 3, 3)])
def test_filters_that_are_no_pictures_are_refused(shape):
    with pytest.raises(InputError, match="1 or 3 channels"):
        filter_grid(torch.randn(shape))


def test_a_picture_without_size_is_refused():
    with pytest.raises(InputError, match="zoom 0"):
        filter_grid(torch.randn(4, 1, 3, 3), zoom=0)
