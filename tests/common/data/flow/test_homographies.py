"""Optical flow of planes before a moving camera."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.nn import functional

from common.data.flow.homographies import HomographyFlow
from common.errors import InputError

SMALL = {"size": (48, 64), "n_frames": 3}


def pixels(size):
    rows, columns = np.indices(size)
    return np.stack([columns, rows, np.ones(size)])


def psnr(frame, other, flow, seen):
    """Of a frame and of another one that is sampled at moved pixels, where `seen`."""
    h, w = flow.shape[-2:]
    places = torch.tensor(pixels((h, w))[:2]) + flow
    grid = 2 * (places + 0.5).movedim(0, -1) / torch.tensor([w, h]) - 1
    found = functional.grid_sample(other[None].double(), grid[None], align_corners=False)[0]
    error = ((found - frame) / 255)[:, seen].square().mean()
    return -10 * error.log10().item()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_flow_leads_to_the_same_colours_of_all_frames(split):
    data = HomographyFlow(**SMALL)
    videos = data.clips(split)
    batch = data.dataset(split).__getitems__(list(range(30)))
    for k, (first, middle, last) in enumerate(batch.clip.frames):
        flow, seen = batch.flow[k].double(), batch.visible[k]
        assert psnr(first, last, flow, seen) > 35
        x, y, depth = np.tensordot(scipy.linalg.expm(videos.logarithm(k) / 2), pixels((48, 64)), 1)
        half = torch.tensor(np.stack([x, y]) / depth - pixels((48, 64))[:2])
        assert psnr(first, middle, half, seen) > 35
    still = ((batch.clip.frames[:, 0] / 255 - batch.clip.frames[:, -1] / 255) ** 2).mean()
    assert -10 * still.log10() < 25


def test_the_flow_is_that_of_a_homography_whose_square_root_is_half_the_time():
    data = HomographyFlow(**SMALL, most=10.0)
    videos = data.clips("train")
    flow = data.dataset("train").__getitems__(list(range(20))).flow.double().numpy()
    for k, displacement in enumerate(flow):
        # Four corners determine a homography, here by the direct linear transform.
        rows = []
        for row, column in itertools.product((0, -1), (0, -1)):
            x, y, _ = pixels((48, 64))[:, row, column]
            u, v = (x, y) + displacement[:, row, column]
            rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, -u])
            rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, -v])
        found = np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)
        x, y, depth = np.tensordot(found, pixels((48, 64)), 1)
        np.testing.assert_allclose(
            displacement, np.stack([x, y]) / depth - pixels((48, 64))[:2], atol=1e-3
        )
        half = scipy.linalg.expm(videos.logarithm(k) / 2)
        np.testing.assert_allclose(
            half @ half / (half @ half)[2, 2], found / found[2, 2], atol=1e-3
        )


def test_motions_spread_up_to_the_largest():
    data = HomographyFlow(**SMALL, most=6.0)
    flow = data.dataset("train").__getitems__(list(range(80))).flow
    largest = flow.norm(dim=1).amax((1, 2))
    assert largest.max() < 6.01
    counts = torch.histc(largest, 3, 0, 6)
    assert counts.sum() == 80
    assert counts.min() > 15
    assert (flow.mean((2, 3)).sign().mean(0).abs() < 0.4).all()  # in all directions


def test_a_point_is_visible_inside_the_last_frame():
    batch = HomographyFlow(size=(16, 24), most=8.0).dataset("val").__getitems__(list(range(30)))
    x, y = (torch.tensor(pixels((16, 24))[:2]) + batch.flow).unbind(1)
    assert batch.valid.all()
    assert torch.equal(batch.visible, (x >= 0) & (x <= 23) & (y >= 0) & (y <= 15))
    assert not batch.visible.all()


@pytest.mark.parametrize(
    ("size", "most"), [((240, 300), 14.0), ((64, 64), 32.0), ((16, 200), 8.0)]
)
def test_the_largest_frames_and_motions_are_exact(size, most):
    batch = HomographyFlow(size=size, most=most, n_frames=2).dataset("val").__getitems__([0, 1, 2])
    for k, (first, last) in enumerate(batch.clip.frames):
        assert psnr(first, last, batch.flow[k].double(), batch.visible[k]) > 35


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"most": 0.0}, "most 0"),
        ({"most": 20.0, "size": (32, 64)}, "half the shorter side"),
        ({"size": (290, 64)}, "there are 300 x 400"),
        ({"size": (0, 64)}, "size"),
    ],
)
def test_wrong_numbers_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        HomographyFlow(**wrong)
