"""Road and houses that a camera passes: their textures, and fast pictures of them.

The camera moves straight along the street, so the distance of the surface in a pixel never
changes. Only the position in the texture is computed for each picture.
"""

import functools
from typing import NamedTuple

import numpy as np

from common.data.draws import uniform
from common.data.streets.lighting import Lighting
from common.data.streets.street import (
    BUILDING,
    DASH,
    DASH_COLOUR,
    END,
    PAVEMENT,
    PERIOD,
    ROAD,
    SKY,
    StreetDraws,
    View,
    facades,
    on_dash,
    paving,
)

LENGTH, WIDTH = 0.1, 0.05  # of the parts of a texture, along the street and across
ROAD_HALF, PAVEMENT_WIDTH = (1.8, 2.4), (0.5, 0.9)  # ranges; wider than the still streets
ACROSS = 2 * (ROAD_HALF[1] + PAVEMENT_WIDTH[1])  # of the widest street; houses are lower
LONG, WIDE = round(PERIOD / LENGTH), round(ACROSS / WIDTH)  # parts of a texture along and across
LEVELS = 6  # textures whose parts are 1, 2, 4, … times as long
ROUGH = 0.12  # greatest relative difference of the brightness of a part


class Background(NamedTuple):
    """Picture of an empty street.

    Attributes:
        image: Brightness from 0 to 1, `float32 [h w 3]`.
        labels: Class of each pixel, `uint8 [h w]`.
        depth: Depth of each pixel in heights of the camera, `float32 [h w]`; infinite for the sky.
    """

    image: np.ndarray
    labels: np.ndarray
    depth: np.ndarray


class Surfaces:
    """Empty street, seen from any place along it.

    Args:
        view: View of one street.
        lighting: Light and weather.
        draws: Random numbers of the scene.
    """

    def __init__(self, view: View, lighting: Lighting, draws: StreetDraws) -> None:
        x0, y0, road, walls = (float(value[0, 0, 0]) for value in view[2:])
        right, below = view.x[0] - x0, view.y[0] - y0
        wall = np.maximum(np.abs(right), 1e-3) / walls
        ground = below > wall
        near = np.where(ground, below, wall)  # distance of the surface's foot from the horizon
        depth = 1 / np.maximum(near, 1 / END)
        aside, up = right * depth, 1 - below * depth
        self._depth = depth.astype(np.float32)
        self._kinds = np.where(np.abs(aside) < road, ROAD, PAVEMENT).astype(np.uint8)
        self._kinds[~ground] = BUILDING
        self._textures = _levels(_ground(road, walls, lighting, draws), *_walls(lighting, draws))
        # Where a pixel spans several parts along the street, it shows their mean.
        span = depth**2 / view.y.shape[1] / np.where(ground, 1.0, walls) / LENGTH
        level = np.clip(np.round(np.log2(span)), 0, LEVELS - 1).astype(np.int64)
        counts = LONG >> np.arange(LEVELS)
        first = np.cumsum([0, *3 * counts[:-1]])
        surface = np.where(ground, 0, np.where(right > 0, 2, 1))
        across = np.clip(np.where(ground, aside + walls, up) / WIDTH, 0, WIDE - 1)
        self._count = counts[level].astype(np.int32)
        row = first[level] + surface * self._count
        self._first = (row * WIDE + across.astype(np.int64)).astype(np.int32)
        self._rate = (0.5**level / LENGTH).astype(np.float32)
        self._along = (depth * self._rate - 0.5 + self._count).astype(np.float32)
        self._air(lighting, depth, aside, near < 1 / END)
        self._behind = _behind(view, lighting, draws)

    def at(self, travelled: float) -> Background:
        """Picture after the camera has travelled this distance."""
        place = self._along + np.float32(travelled % PERIOD) * self._rate
        whole = place.astype(np.int32)
        part = (place - whole.astype(np.float32))[..., None]
        whole %= self._count
        seen = self._texels(whole)
        whole += 1
        whole[whole == self._count] = 0
        seen += part * (self._texels(whole) - seen)
        cover = seen[..., 3:] * self._near
        image, labels, depth = self._behind
        image = seen[..., :3] * self._gain + cover * (self._haze - image) + image
        solid = cover[..., 0] > 0.5
        return Background(
            image, np.where(solid, self._kinds, labels), np.where(solid, self._depth, depth)
        )

    def _texels(self, along: np.ndarray) -> np.ndarray:
        return self._textures.take(along * WIDE + self._first, 0, mode="clip")

    def _air(
        self, lighting: Lighting, depth: np.ndarray, aside: np.ndarray, far: np.ndarray
    ) -> None:
        """Haze before the surfaces, and the camera's headlights on them."""
        clear = np.exp(-lighting.haze * depth)
        beam = lighting.beam * np.exp(-depth / 4 - (aside / 2) ** 2) / np.mean(lighting.light)
        self._near = (~far)[..., None].astype(np.float32)
        self._gain = ((clear * (1 + beam))[..., None] * self._near).astype(np.float32)
        self._haze = (1 - clear)[..., None].astype(np.float32) * np.array(
            lighting.horizon, np.float32
        )


def _behind(view: View, lighting: Lighting, draws: StreetDraws) -> Background:
    """Sky, and the houses that close the street."""
    house = np.linspace(0, 15.99, view.x.shape[-1]).astype(np.int64)
    tops, grey = draws(0.02, 0.14, 16)[0, house], draws(0.3, 0.6, 16)[0, house]
    zenith, horizon = np.array(lighting.zenith, np.float32), np.array(lighting.horizon, np.float32)
    up = np.clip(1 - view.y / view.y0, 0, 1)[0, ..., None]
    sky = np.broadcast_to(horizon + up * (zenith - horizon), (*up.shape[:1], len(house), 3))
    houses = view.inside(view.y - view.y0 + tops)[0]
    clear = np.float32(np.exp(-lighting.haze * END))
    wall = clear * grey[:, None] * np.array(lighting.light, np.float32) + (1 - clear) * horizon
    solid = houses > 0.5
    return Background(
        sky + houses[..., None] * (wall - sky),
        np.where(solid, BUILDING, SKY).astype(np.uint8),
        np.where(solid, END, np.inf).astype(np.float32),
    )


def _ground(road: float, walls: float, lighting: Lighting, draws: StreetDraws) -> np.ndarray:
    """Texture of the ground from wall to wall, `[along across 4]`: colour and cover."""
    pavement, asphalt = (colour[0, 0] for colour in paving(draws))
    aside = np.abs((np.arange(WIDE) + 0.5) * WIDTH - walls)[:, None]
    colour = np.where(aside < road, asphalt, pavement)
    along = (np.arange(LONG) + 0.5)[:, None] * LENGTH + draws(0.0, 2.0, 1)[0]
    dash = on_dash(along) & (aside[:, 0] < DASH)
    colour = np.where(dash[..., None], DASH_COLOUR, colour) * _speckles()[0]
    return _opaque(colour * np.array(lighting.light, np.float32))


def _walls(lighting: Lighting, draws: StreetDraws) -> list[np.ndarray]:
    """Textures of the left and of the right row of houses, `[along across 4]` each."""
    along = np.tile((np.arange(LONG) + 0.5) * LENGTH, 2)[None, None]
    up = ((np.arange(WIDE) + 0.5) * WIDTH)[None, :, None]
    right = (np.arange(2 * LONG) >= LONG)[None, None]
    near = np.full_like(along, 1e3)  # so near that windows are sharp
    roof, colour, glow = facades(along, up, right, near, draws)
    rough = _speckles()[1:].reshape(2 * LONG, WIDE, 1)
    lit = colour[0].transpose(1, 0, 2) * rough * np.array(lighting.light, np.float32)
    picture = _opaque(lit + lighting.lamps * glow[0].transpose(1, 0, 2))
    picture *= (up < roof)[0].T[..., None]
    return [picture[:LONG], picture[LONG:]]


def _opaque(colour: np.ndarray) -> np.ndarray:
    return np.concatenate([colour, np.ones_like(colour[..., :1])], -1).astype(np.float32)


def _levels(*textures: np.ndarray) -> np.ndarray:
    """Textures of all levels below each other, `[n 4]`."""
    found = [np.stack(textures)]
    for _ in range(LEVELS - 1):
        found.append((found[-1][:, ::2] + found[-1][:, 1::2]) / 2)
    return np.concatenate([level.reshape(-1, 4) for level in found])


@functools.cache
def _speckles() -> np.ndarray:
    """Brightness of the parts of all textures, `[3 along across 1]`: the same in all scenes."""
    draws = uniform(np.arange(3 * LONG), WIDE, seed=7)
    return (1 + ROUGH * (2 * draws - 1)).astype(np.float32).reshape(3, LONG, WIDE, 1)
