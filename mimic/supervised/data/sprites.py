"""Rendered sprites: factors of variation without a file."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from common.errors import InputError
from common.typing import Integers, Pixels
from mimic.supervised.data.factors import FactorData, factors_of

AT_ONCE = 256  # images drawn at once, so that they stay in the cache

# Measures of shapes with area 1.
# The longer half-axis of the ellipse, twice the shorter one; no shape reaches farther.
REACH = math.sqrt(2 / math.pi)
# The side of the square in the heart; two of its sides have half discs.
HEART = 1 / math.sqrt(1 + math.pi / 4)
# The height of the heart's centre of mass above that of the square.
LIFT = HEART**3 * (math.pi / 8 + 1 / 6) / math.sqrt(2)


class RenderedSprites(FactorData):
    """A white square, ellipse or heart on black with smooth edges; every combination once.

    Like dSprites, but with factors that do not interfere: all shapes of one scale have the same
    area, their centre of mass is at (x, y) at every orientation, and no shape reaches out of the
    picture. Orientations cover a quarter turn, its end excluded: a square looks the same after
    each quarter and an ellipse after each half turn, so that on a full circle (as in dSprites)
    different classes would show one image.

    Args:
        size: Height and width.
        n_scales: Number of scales: side of the square from 3/16 to 3/8 of the size.
        n_orientations: Number of orientations: counterclockwise from 0 to a quarter turn.
        n_positions: Number of values of x and of y: centre of mass, to the right and down.
        **serving: Options of `FactorData`.
    """

    factor_names = ("shape", "scale", "orientation", "x", "y")
    factor_sizes: tuple[int, ...] = (3, 4, 12, 16, 16)

    def __init__(
        self,
        size: Literal[32, 64] = 32,
        n_scales: int = 4,
        n_orientations: int = 12,
        n_positions: int = 16,
        **serving: Any,
    ) -> None:
        super().__init__(**serving)
        if size not in (32, 64):
            raise InputError(f"got size {size}; the sprites come in 32 or 64")
        if min(n_scales, n_orientations, n_positions) < 2:
            raise InputError(
                f"got n_scales {n_scales}, n_orientations {n_orientations} and n_positions "
                f"{n_positions}; give 2 or more of each"
            )
        self.size, self.shape = size, (1, size, size)
        self.factor_sizes = (3, n_scales, n_orientations, n_positions, n_positions)

    def read(self, indices: Integers) -> Pixels:
        return torch.cat([self._drawn(block) for block in indices.split(AT_ONCE)])

    def _drawn(self, indices: Integers) -> Pixels:
        classes = factors_of(indices, self.factor_sizes)
        parts = classes / (
            torch.tensor(self.factor_sizes) - 1
        )  # share of the way from first to last
        side = self.size * (3 + 3 * parts[:, 1]) / 16
        angle = math.pi / 2 * classes[:, 2] / self.factor_sizes[2]
        margin = REACH * self.size * 6 / 16 + 0.5
        x, y = (margin + (self.size - 2 * margin) * parts[:, 3:]).T
        return sprites(classes[:, 0], side, angle, x, y, self.size)


def sprites(
    shapes: Integers, sides: Tensor, angles: Tensor, x: Tensor, y: Tensor, size: int
) -> Pixels:
    """Images of one shape each, `uint8 [b 1 size size]`.

    Args:
        shapes: 0 square, 1 ellipse, 2 heart.
        sides: Square roots of the areas, in px.
        angles: Orientations, counterclockwise, in radians.
        x: Centre of mass, in px from the left edge.
        y: Centre of mass, in px from the upper edge.
        size: Height and width.
    """
    pixels = torch.arange(size, dtype=torch.float32) + 0.5
    right = pixels - x[:, None, None]
    up = y[:, None, None] - pixels[:, None]
    cos, sin = (f(angles)[:, None, None] for f in (torch.cos, torch.sin))
    # In units of the side, along the axes of the shape.
    u = (cos * right + sin * up) / sides[:, None, None]
    v = (cos * up - sin * right) / sides[:, None, None]
    images = torch.empty(len(shapes), 1, size, size, dtype=torch.uint8)
    for shape, distance in enumerate((square, ellipse, heart)):
        k = (shapes == shape).nonzero()[:, 0]
        # In pixels: the edge is one pixel wide.
        inside = 0.5 - distance(u[k], v[k]) * sides[k, None, None]
        images[k, 0] = (255 * inside.clamp(0, 1)).round().byte()
    return images


def square(u: Tensor, v: Tensor, side: float = 1.0) -> Tensor:
    """Distance from the edge of a square, negative inside it."""
    du, dv = u.abs() - side / 2, v.abs() - side / 2
    return torch.hypot(du.clamp(min=0), dv.clamp(min=0)) + torch.maximum(du, dv).clamp(max=0)


def ellipse(u: Tensor, v: Tensor) -> Tensor:
    """Distance from the edge of an ellipse to first order, f / |∇f| (Taubin 1991).

    f = u²/a² + v²/b² - 1, negative inside the ellipse.
    """
    a, b = REACH, REACH / 2
    slope = 2 * torch.hypot(u / a**2, v / b**2)
    return ((u / a) ** 2 + (v / b) ** 2 - 1) / slope.clamp(min=1e-3)


def heart(u: Tensor, v: Tensor) -> Tensor:
    """Distance from the edge of a heart: a square on its corner with two half discs on top."""
    v = v + LIFT
    p, q = (v + u) / math.sqrt(2), (v - u) / math.sqrt(2)
    right = torch.hypot(p - HEART / 2, q) - HEART / 2
    left = torch.hypot(p, q - HEART / 2) - HEART / 2
    return torch.minimum(square(p, q, HEART), torch.minimum(left, right))
