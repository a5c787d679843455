import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from common.data.driving.scene import DrivingScene
from common.errors import InputError
from common.nn.warping import inverted_flow, sampled

SIZE = 40, 56


def pixels(dtype=torch.float64):
    """Column and row of each pixel, `[2 h w]`."""
    rows, columns = (torch.arange(size, dtype=dtype) for size in SIZE)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))


def affine(matrix, shift=(0.0, 0.0)):
    """Forward and backward flow of `x -> centre + A (x - centre) + shift`, in closed form."""
    matrix, centre = matrix.double(), torch.tensor([27.3, 18.9]).double()[:, None, None]
    shift = torch.tensor(shift).double()[:, None, None]
    at, inverse = pixels() - centre, torch.linalg.inv(matrix)
    forward = torch.einsum("ij,jhw->ihw", matrix, at) + shift - at
    return forward, torch.einsum("ij,jhw->ihw", inverse, at - shift) - at


def rotation(degrees):
    angle = math.radians(degrees)
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def inside(backward):
    """Pixels that come from inside the first picture."""
    x, y = pixels() + backward
    return (x >= 0) & (x <= SIZE[1] - 1) & (y >= 0) & (y <= SIZE[0] - 1)


@pytest.mark.parametrize(
    ("matrix", "shift"),
    [
        (torch.eye(2), (3.0, -2.0)),
        (torch.eye(2), (-0.37, 5.61)),
        (rotation(5), (0.0, 0.0)),
        (1.1 * torch.eye(2), (0.0, 0.0)),
        (0.85 * torch.eye(2), (1.5, -2.25)),
        (torch.tensor([[1.0, 0.2], [0.0, 1.0]]), (0.5, 0.0)),
    ],
)
def test_inverse_of_an_affine_flow_is_the_closed_form(matrix, shift):
    forward, backward = affine(matrix, shift)
    found, known = inverted_flow(forward)
    assert torch.equal(known, inside(backward))
    assert known.float().mean() > 0.6
    assert (found - backward)[:, known].abs().max() < 1e-10
    assert not found[:, ~known].any()


def test_error_falls_by_the_same_factor_in_each_step():
    # Of a rotation, |f(x) - f(y)| = 2 sin(angle / 2) |x - y|, the factor of a fixed point.
    forward, backward = affine(rotation(12))
    errors = []
    for steps in (5, 6, 7):
        found, known = inverted_flow(forward, steps)
        middle = known[10:30, 20:35]
        assert middle.all()
        errors.append((found - backward)[:, 10:30, 20:35].norm())
    factor = 2 * math.sin(math.radians(6))
    assert [errors[1] / errors[0], errors[2] / errors[1]] == pytest.approx([factor, factor])


def test_where_the_flow_changes_too_fast_nothing_is_known():
    forward, _ = affine(2.5 * torch.eye(2))
    assert not inverted_flow(forward)[1].any()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_inverse_of_a_drives_flow_is_its_flow_back(number):
    scene = DrivingScene(number)
    forward, backward = scene.flow(3.0, 4.0), scene.flow(4.0, 3.0)
    visible = torch.tensor(forward.visible)
    found, known = inverted_flow(torch.tensor(forward.flow), visible=visible)
    seen = torch.tensor(backward.visible)
    error = (found - torch.tensor(backward.flow)).norm(dim=0)[known & seen]
    assert error.mean() < 0.01
    assert (error > 0.5).float().mean() < 0.002
    assert (known & seen).sum() > 0.85 * seen.sum()


def test_a_surface_that_becomes_hidden_gives_no_motion():
    # The left half moves onto the right half, which stands still.
    forward = torch.zeros(2, 4, 20)
    forward[0, :, :10] = 4
    visible = torch.ones(4, 20, dtype=torch.bool)
    visible[:, 10:14] = False
    found, known = inverted_flow(forward, visible=visible)
    assert not known[:, 10:14].any()
    assert known[:, [*range(4, 9), *range(15, 20)]].all()
    assert (found[0, :, 4:9] == -4).all()
    assert not found[:, :, 15:].any()
    assert inverted_flow(forward)[1][:, 10:14].all()  # of the hidden surface


def test_leading_axes_and_types_are_kept_and_the_gradient_is_that_of_a_translation():
    forward = torch.full((2, 3, 2, 5, 6), 0.5, requires_grad=True)
    found, known = inverted_flow(forward)
    assert (found.shape, known.shape) == ((2, 3, 2, 5, 6), (2, 3, 5, 6))
    assert inverted_flow(forward.half())[0].dtype == torch.float16
    found.sum().backward()
    assert float(forward.grad.sum()) == pytest.approx(-2 * float(known.sum()), rel=1e-5)


@pytest.mark.parametrize("size", [(7, 9), (1, 9), (7, 1), (1, 1)])
def test_samples_are_those_of_scipy(size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    points = 14 * torch.rand(2, 2, 4, 5, generator=generator, dtype=torch.float64) - 3
    wanted = [
        [map_coordinates(c, at[::-1], order=1, mode="nearest") for c in sample]
        for sample, at in zip(x.numpy(), points.numpy(), strict=True)
    ]
    assert np.allclose(sampled(x, points).numpy(), wanted)


@pytest.mark.parametrize(
    ("flow", "options"),
    [
        (torch.zeros(1, 4, 5), {}),
        (torch.zeros(0, 2, 4, 5), {}),
        (torch.zeros(2, 4, 5), {"steps": 0}),
        (torch.zeros(2, 4, 5), {"visible": torch.ones(5, 4, dtype=torch.bool)}),
        (torch.zeros(2, 4, 5, dtype=torch.int32), {}),
    ],
)
def test_wrong_input_is_refused(flow, options):
    with pytest.raises(InputError, match=r"got .*; give"):
        inverted_flow(flow, **options)
