import functools
import math

import numpy as np
import pytest
import torch

from common.errors import InputError
from mimic.supervised.data.factors import factors_of
from mimic.supervised.data.sprites import RenderedSprites, sprites

SHAPES = {"square": 0, "ellipse": 1, "heart": 2}
NAMES = RenderedSprites.factor_names


@pytest.fixture(scope="module", params=[32, 64])
def everything(request):
    """All images of a small set, and their factors."""
    data = RenderedSprites(request.param, n_scales=3, n_orientations=4, n_positions=5)
    indices = torch.arange(math.prod(data.factor_sizes))
    return data, data.read(indices), factors_of(indices, data.factor_sizes)


def centres(images):
    """Centres of mass (x, y), in px from the upper left corner."""
    mass = images[:, 0].double()
    pixels = torch.arange(mass.shape[-1]) + 0.5
    total = mass.sum((1, 2))
    return (mass.sum(1) * pixels).sum(1) / total, (mass.sum(2) * pixels).sum(1) / total


def areas(images):
    return images.double().sum((1, 2, 3)) / 255


# The set ------------------------------------------------------------------------------------


def test_no_two_combinations_look_the_same(everything):
    _, images, _ = everything
    assert len({image.numpy().tobytes() for image in images}) == len(images)


def test_no_two_combinations_of_the_default_set_look_the_same():
    data = RenderedSprites()
    corner = torch.cartesian_prod(
        *map(torch.arange, (3, 4, 12)), torch.arange(0, 16, 5), torch.tensor([7])
    )
    indices = np.ravel_multi_index(tuple(corner.T.numpy()), data.factor_sizes)
    images = data.read(torch.from_numpy(indices))
    assert len({image.numpy().tobytes() for image in images}) == len(corner)


def test_an_image_depends_on_its_index_alone(everything):
    data, images, _ = everything
    some = torch.tensor([3, 500, 799])
    assert (data.read(some) == images[some]).all()


def test_x_moves_the_centre_to_the_right_and_nothing_else(everything):
    data, images, factors = everything
    x, y = centres(images)
    for column, moved, still in ((3, x, y), (4, y, x)):
        place = factors[:, column]
        means = torch.stack([moved[place == c].mean() for c in range(5)])
        steps = means.diff()
        assert (steps > 0.05 * data.size).all()
        torch.testing.assert_close(steps, steps.mean().expand(4), rtol=0.02, atol=0.0)
        for c in range(5):
            assert (moved[place == c] - means[c]).abs().max() < 0.12
            assert abs(still[place == c].mean() - data.size / 2) < 0.02


def test_the_area_depends_on_the_scale_alone(everything):
    data, images, factors = everything
    sides = torch.linspace(3 / 16, 3 / 8, 3) * data.size
    for scale, side in enumerate(sides):
        here = areas(images[factors[:, 1] == scale])
        torch.testing.assert_close(here, (side**2).double().expand_as(here), rtol=0.06, atol=0.0)
        assert abs(here.mean() / side**2 - 1) < 0.015


def test_factors_are_independent_of_one_another_in_what_is_seen(everything):
    _, images, factors = everything
    x, _ = centres(images)
    design = factors.double() - factors.double().mean(0)
    for column, quantity in ((3, x), (1, areas(images))):
        slopes = np.linalg.lstsq(design.numpy(), (quantity - quantity.mean()).numpy(), rcond=None)[
            0
        ]
        others = np.delete(slopes, column)
        assert np.abs(others).max() < 0.02 * slopes[column]


def test_served_images_come_in_a_fixed_order():
    few = {"n_train": 40, "n_val": 10, "n_test": 10, "batch_size": 10}
    first, second = RenderedSprites(**few), RenderedSprites(**few)
    torch.manual_seed(7)
    for data in (first, second):
        data.setup("validate")
    batches = [list(data.val_dataloader()) for data in (first, second)]
    torch.testing.assert_close(batches[0], batches[1])
    assert first.shape == (1, 32, 32)
    assert batches[0][0].images.shape == (10, 1, 32, 32)
    assert batches[0][0].labels.shape == (10, 5)
    assert first.factor_sizes == (3, 4, 12, 16, 16)
    assert len(NAMES) == 5


@pytest.mark.parametrize(
    "bad", [{"size": 48}, {"n_scales": 1}, {"n_orientations": 0}, {"n_positions": 1}]
)
def test_settings_that_cannot_be_are_refused(bad):
    build = getattr(RenderedSprites.__init__, "__wrapped__", RenderedSprites.__init__)
    with pytest.raises(InputError, match=f"got .*{next(iter(bad))} {next(iter(bad.values()))}"):
        build(object.__new__(RenderedSprites), **bad)


# The drawing --------------------------------------------------------------------------------


def drawn(shape, side, angle, x, y, size):
    numbers = (torch.tensor([float(v)]) for v in (side, angle, x, y))
    return sprites(torch.tensor([shape]), *numbers, size)[0, 0].numpy()


def within(shape, u, v):
    """Whether points belong to a shape of area 1 about its centre of mass, by its definition."""
    if shape == SHAPES["square"]:
        return (abs(u) < 0.5) & (abs(v) < 0.5)
    if shape == SHAPES["ellipse"]:
        a = math.sqrt(2 / math.pi)
        return (u / a) ** 2 + (2 * v / a) ** 2 < 1
    # A square of side a on its corner and discs about the middles of its upper sides.
    a = (1 + math.pi / 4) ** -0.5
    half, middle = a / math.sqrt(2), a / math.sqrt(8)
    v = v + heart_centre(a)
    discs = (abs(u) - middle) ** 2 + (v - middle) ** 2 < (a / 2) ** 2
    return (abs(u) + abs(v) < half) | discs


@functools.cache
def heart_centre(a):
    """Height of the heart's centre of mass above that of its square, summed over a grid."""
    grid = (np.arange(2000) + 0.5) / 2000 * 3 - 1.5
    u, v = np.meshgrid(grid * a, grid * a)
    half, middle = a / math.sqrt(2), a / math.sqrt(8)
    discs = (abs(u) - middle) ** 2 + (v - middle) ** 2 < (a / 2) ** 2
    return v[(abs(u) + abs(v) < half) | discs].mean()


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2, 2.5])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_pixel_is_as_bright_as_it_is_covered(shape, angle):
    side, x, y, size, fine = 11.0, 15.3, 17.6, 32, 16
    points = (np.arange(size * fine) + 0.5) / fine
    right, up = points[None] - x, y - points[:, None]
    cos, sin = math.cos(angle), math.sin(angle)
    inside = within(shape, (cos * right + sin * up) / side, (cos * up - sin * right) / side)
    covered = inside.reshape(size, fine, size, fine).mean((1, 3))
    difference = drawn(shape, side, angle, x, y, size) / 255 - covered
    assert np.abs(difference).max() < 0.25  # at corners: the edge is a pixel wide there too
    assert np.abs(difference).mean() < 0.003
    assert abs(difference.sum()) < 0.015 * side**2


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_quarter_turn_turns_the_picture(shape, quarters):
    start = drawn(shape, 10, 0.4, 16, 16, 32).astype(int)
    turned = drawn(shape, 10, 0.4 + quarters * math.pi / 2, 16, 16, 32)
    assert np.abs(turned - np.rot90(start, quarters)).max() <= 1


def test_only_a_full_turn_brings_a_heart_back():
    """Why orientations don't go beyond a quarter turn: a square looks the same after it."""
    turns = [drawn(s, 10, a, 16, 16, 32).astype(int) for s in (0, 2) for a in (0.0, math.pi / 2)]
    assert np.abs(turns[0] - turns[1]).max() <= 1
    assert np.abs(turns[2] - turns[3]).max() > 100


def test_twice_the_size_is_the_same_picture_at_twice_the_resolution():
    small, large = RenderedSprites(32), RenderedSprites(64)
    indices = torch.tensor([17, 14000, 30000, 36863])
    pooled = torch.nn.functional.avg_pool2d(large.read(indices).float(), 2)
    # But for the margin, half a pixel in both.
    assert (pooled - small.read(indices)).abs().mean() < 2
