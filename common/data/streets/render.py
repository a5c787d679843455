"""Rendering of street scenes: images, classes and depth of each pixel."""

from typing import NamedTuple

import numpy as np

from common.data.streets.lighting import Lighting, photograph
from common.data.streets.street import Canvas, StreetDraws, View, check_size, paint_street
from common.data.streets.things import paint_things


class RenderedStreets(NamedTuple):
    """Rendered scenes.

    Attributes:
        images: Pictures, `uint8 [b 3 h w]`.
        labels: Index in `STREET_CLASSES` of each pixel, `uint8 [b h w]`.
        depth: Depth of each pixel in heights of the camera, `float32 [b h w]`; infinite for the
            sky.
    """

    images: np.ndarray
    labels: np.ndarray
    depth: np.ndarray


def render_streets(
    numbers: np.ndarray, seed: int, lighting: Lighting, size: tuple[int, int]
) -> RenderedStreets:
    """Scenes of the given numbers.

    Layout, labels and depth of a scene depend only on its number and the seed, not on the
    lighting nor on the other scenes.

    Args:
        numbers: Numbers of the scenes, `int64 [b]`.
        seed: Seed of all scenes.
        lighting: Light, weather and camera.
        size: Height and width in pixels, 16 or more each.

    Raises:
        InputError: The size is too small for a scene.
    """
    check_size(size)
    draws = StreetDraws(numbers, seed)
    view, canvas = View.drawn(draws, *size), Canvas(len(numbers), *size)
    paint_street(canvas, view, draws)
    paint_things(canvas, view, draws)
    images = photograph(canvas, view, lighting, draws)
    return RenderedStreets(images, canvas.labels, canvas.depth)
