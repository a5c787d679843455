"""Rendered streets: what is painted, and what a scene depends on."""

import hashlib

import numpy as np
import pytest

from common.data.streets import DAY, NIGHT, STREET_CLASSES, render_streets
from common.data.streets.street import CAR, SKY, TREE, Canvas
from common.errors import InputError

NUMBERS = np.arange(6)


def test_paint_covers_what_is_behind_it_in_part():
    canvas, red, k = Canvas(3, 1, 3), np.array([1.0, 0.0, 0.0]), np.array([2])
    canvas.paint(k, np.array([[[0.25, 0.75, 0.0]]], np.float32), CAR, red, 5.0, glow=0.5 * red)
    canvas.paint(k, np.array([[[0.5, 0.0, 0.0]]], np.float32), TREE, 0 * red, 3.0)
    red_glow_sky = [[0.125, 0.0625, 0.375], [0.75, 0.375, 0.25], [0, 0, 1]]
    np.testing.assert_allclose(canvas.light[2, 0][:, [0, 3, 6]], red_glow_sky)
    assert canvas.labels[2].tolist() == [[SKY, CAR, SKY]]
    assert canvas.depth[2].tolist() == [[np.inf, 5, np.inf]]
    assert (canvas.labels[:2] == SKY).all()
    assert (canvas.light[:2] == [0, 0, 0, 0, 0, 0, 1]).all()


@pytest.mark.parametrize("size", [(48, 64), (16, 16), (40, 30)])
def test_every_pixel_has_a_colour_a_class_and_a_depth(size):
    images, labels, depth = render_streets(NUMBERS, 0, DAY, size)
    assert (images.shape, images.dtype) == ((6, 3, *size), np.uint8)
    assert (labels.shape, labels.dtype) == ((6, *size), np.uint8)
    assert (depth.shape, depth.dtype) == ((6, *size), np.float32)
    assert labels.max() < len(STREET_CLASSES)
    assert (np.isinf(depth) == (labels == SKY)).all()
    assert depth.min() > 0


def test_a_scene_depends_on_its_number_and_the_seed_alone():
    whole = render_streets(NUMBERS, 1, DAY, (48, 64))
    some = render_streets(NUMBERS[[4, 1]], 1, DAY, (48, 64))
    other = render_streets(NUMBERS, 2, DAY, (48, 64))
    for all_of_it, part, different in zip(whole, some, other, strict=True):
        assert (part == all_of_it[[4, 1]]).all()
        assert (different != all_of_it).any()


def test_lighting_changes_the_pictures_alone():
    day, night = (render_streets(NUMBERS, 0, light, (48, 64)) for light in (DAY, NIGHT))
    assert (day.labels == night.labels).all()
    assert (day.depth == night.depth).all()
    assert night.images.mean() < 0.7 * day.images.mean()


def test_nearer_things_of_the_ground_are_lower():
    _, labels, depth = render_streets(NUMBERS, 0, DAY, (48, 64))
    road = np.where(labels == STREET_CLASSES.index("road"), depth, np.nan)
    rows = np.nanmean(road, (0, 2))[30:]
    assert (np.diff(rows) < 0).all()


def test_pixels_stay_as_they_were():
    """The scenes that the recorded results were trained on."""
    digest = hashlib.sha256()
    for array in render_streets(NUMBERS, 0, NIGHT, (48, 64))[:2]:
        digest.update(np.ascontiguousarray(array).tobytes())
    assert digest.hexdigest()[:16] == "536c617c2a2d0669"


def test_too_small_pictures_are_refused():
    with pytest.raises(InputError, match="16 pixels or more"):
        render_streets(NUMBERS, 0, DAY, (8, 64))
