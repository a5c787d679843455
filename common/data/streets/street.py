"""Streets seen along their middle: random layout, view, and the canvas that they are painted on.

Lengths on the ground are in heights of the camera. Lengths in the picture are in heights of the
picture, from its middle to the right and from its upper edge down. A thing at depth d has its foot
1/d below the horizon and is drawn at scale 1/d.
"""

import math
from typing import NamedTuple

import numpy as np

from common.data.draws import uniform
from common.errors import InputError

STREET_CLASSES = ("road", "pavement", "building", "tree", "sky", "person", "car")
ROAD, PAVEMENT, BUILDING, TREE, SKY, PERSON, CAR = range(7)

END = 14.0  # depth of the houses that close the street
FRONTAGE = 1.6  # length of a building along the street
HOUSES = 10  # buildings on each side, as many as are seen
PERIOD = HOUSES * FRONTAGE
ROOF = 5.0  # height of the highest building
WINDOW = (0.55, 0.9)  # depth and height of a window with the wall around it
DASH = 0.05  # half the width of the dashes
DASH_COLOUR = np.full(3, 0.8, np.float32)
LAMPLIGHT = np.array([1.0, 0.8, 0.45], np.float32)


def check_size(size: tuple[int, int]) -> None:
    """Raises an `InputError` if pictures of this height and width are too small for a scene."""
    if min(size) < 16:
        raise InputError(f"got size {size}; a scene needs 16 pixels or more each way")


class StreetDraws:
    """Random numbers for scenes; those of a scene do not depend on the other scenes.

    Args:
        numbers: Numbers of the scenes, `int64 [b]`.
        seed: Seed of all scenes.
    """

    def __init__(self, numbers: np.ndarray, seed: int) -> None:
        self.numbers, self.seed, self._stream = numbers, seed, 0

    def __call__(self, low: float, high: float, *each: int) -> np.ndarray:
        """New numbers, uniform from `low` to `high`, `float32 [b each…]`."""
        self._stream += 1
        drawn = uniform(self.numbers, math.prod(each), self.seed, self._stream)
        return (low + (high - low) * drawn).astype(np.float32).reshape(-1, *each)


class View(NamedTuple):
    """Positions of pixels in the picture, and measures of each street.

    Attributes:
        x: Distance of each pixel from the middle, `[1 1 w]`.
        y: Distance of each pixel from the upper edge, `[1 h 1]`.
        x0: Horizontal position of the vanishing point, `[b 1 1]`.
        y0: Vertical position of the horizon, `[b 1 1]`.
        road: Half the width of the road, `[b 1 1]`.
        walls: Half the distance between the walls, `[b 1 1]`.
    """

    x: np.ndarray
    y: np.ndarray
    x0: np.ndarray
    y0: np.ndarray
    road: np.ndarray
    walls: np.ndarray

    @classmethod
    def drawn(cls, draws: StreetDraws, height: int, width: int) -> "View":
        """Random views of pictures of that size in pixels."""
        across = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / height
        down = (np.arange(height, dtype=np.float32) + 0.5) / height
        x0, y0 = draws(-0.2, 0.2, 1, 1), draws(0.36, 0.5, 1, 1)
        road = draws(0.8, 1.3, 1, 1)
        return cls(
            across[None, None], down[:, None][None], x0, y0, road, road + draws(0.5, 0.9, 1, 1)
        )

    def inside(self, distance: np.ndarray) -> np.ndarray:
        """Share of a pixel inside an edge, from its distance to the edge (positive inside)."""
        return np.clip(distance * self.y.shape[1] + 0.5, 0, 1)


class Canvas:
    """Contents of each pixel of `count` pictures, painted from the back to the front.

    Attributes:
        light: `float32 [b h w 7]`, 0 to 1: the colour in white light (RGB), the light of lamps
            (RGB), both black where the sky is seen, and the share of the pixel that is sky.
        depth: Depth, `float32 [b h w]`, infinite for the sky.
        labels: Classes, `uint8 [b h w]`.
    """

    def __init__(self, count: int, height: int, width: int) -> None:
        self.light = np.zeros((count, height, width, 7), np.float32)
        self.light[..., 6] = 1
        self.depth = np.full((count, height, width), np.inf, np.float32)
        self.labels = np.full(self.depth.shape, SKY, np.uint8)

    def paint(
        self,
        k: np.ndarray,
        cover: np.ndarray,
        label: int,
        colour: np.ndarray,
        depth: np.ndarray | float,
        glow: np.ndarray | float = 0.0,
    ) -> None:
        """Paints a thing on some of the pictures.

        Args:
            k: Indices of the pictures, `int64 [n]`.
            cover: Share of each pixel that the thing covers, `[n h w]`.
            label: Class of the thing.
            colour: Albedo, broadcast to `[n h w 3]`.
            depth: Depth, broadcast to `[n h w]`.
            glow: Light of lamps, broadcast to `[n h w 3]`.
        """
        # Most things cover few pixels: only these are touched, by their index in all pictures.
        n, y, x = (cover > 0).nonzero()
        _, height, width = self.depth.shape
        place, part = (k[n] * height + y) * width + x, cover[n, y, x]
        new = np.zeros((len(place), 7), np.float32)
        new[:, :3] = np.broadcast_to(colour, (*cover.shape, 3))[n, y, x]
        if np.any(glow):
            new[:, 3:6] = np.broadcast_to(glow, (*cover.shape, 3))[n, y, x]
        light = self.light.reshape(-1, 7)
        old = light[place]
        light[place] = old + part[:, None] * (new - old)
        seen = part > 0.5
        self.depth.reshape(-1)[place[seen]] = np.broadcast_to(depth, cover.shape)[n, y, x][seen]
        self.labels.reshape(-1)[place[seen]] = label


def paint_street(canvas: Canvas, view: View, draws: StreetDraws) -> None:
    """Paints houses on both sides and at the end, pavement and road."""
    _skyline(canvas, view, draws)
    _walls(canvas, view, draws)
    _ground(canvas, view, draws)


def _skyline(canvas: Canvas, view: View, draws: StreetDraws) -> None:
    house = np.linspace(0, 15.99, view.x.shape[-1]).astype(np.int64)
    tops, grey = draws(0.02, 0.14, 1, 16)[..., house], draws(0.3, 0.6, 1, 16)[..., house, None]
    everyone = np.arange(len(view.x0))
    canvas.paint(everyone, view.inside(view.y - view.y0 + tops), BUILDING, grey, END)


def _walls(canvas: Canvas, view: View, draws: StreetDraws) -> None:
    """Two rows of buildings, planes along the street, with windows of which some are lit."""
    aside = np.maximum(np.abs(view.x - view.x0), 1e-3)
    foot, right = aside / view.walls, view.x > view.x0  # distance of the foot from the horizon
    depth = np.minimum(1 / foot, END)
    height = 1 - (view.y - view.y0) / foot
    roof, colour, glow = facades(depth, height, right, foot * view.y.shape[1], draws)
    cover = view.inside((roof - height) * foot) * (depth < END)
    canvas.paint(np.arange(len(roof)), cover, BUILDING, colour, depth, glow)


def facades(
    along: np.ndarray, height: np.ndarray, right: np.ndarray, scale: np.ndarray, draws: StreetDraws
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Buildings beside a street: their height `[b 1 w]`, and colour and lamplight `[b h w 3]`.

    Args:
        along: Position along the street, 0 or more, `[b 1 w]`; houses repeat after `PERIOD`.
        height: Height above the ground, broadcast to `[b h w]`.
        right: Whether this is the right side, `[b 1 w]`.
        scale: Pixels for a height of the camera, `[b 1 w]`.
        draws: Random numbers.
    """
    building = ((along + draws(0.0, FRONTAGE, 1, 1)) / FRONTAGE).astype(np.int64) % HOUSES
    building += HOUSES * right
    roofs, greys = draws(1.8, ROOF, 2 * HOUSES), draws(0.3, 0.75, 2 * HOUSES, 1)
    bricks = greys + draws(-0.12, 0.12, 2 * HOUSES, 3)
    roofs[draws(0.0, 1.0, 2 * HOUSES) < 0.12] = 0  # a gap
    everyone = np.arange(len(roofs))
    roof, brick = (a[everyone[:, None], building[:, 0]][:, None] for a in (roofs, bricks))
    brick = brick * _shade(draws, right)[..., None]
    pane, lit = _windows(along, height, roof, building, scale, draws)
    glass = np.array([0.16, 0.2, 0.26], np.float32)
    colour = brick + pane[..., None] * (glass - brick)
    return roof, colour, (pane * lit)[..., None] * LAMPLIGHT


def _shade(draws: StreetDraws, right: np.ndarray) -> np.ndarray:
    """Brightness of the two sides of the street, one of which is in the shade."""
    sunny = draws(0.0, 1.0, 1, 1) < 0.5
    return np.where(right == sunny, np.float32(1), np.float32(0.65))


def _windows(
    depth: np.ndarray,
    height: np.ndarray,
    roof: np.ndarray,
    building: np.ndarray,
    scale: np.ndarray,
    draws: StreetDraws,
) -> tuple[np.ndarray, np.ndarray]:
    """Panes and the light behind them, `[b h w]` each, 0 to 1."""
    along, up = depth / WINDOW[0], height / WINDOW[1]
    inner = (np.abs(along % 1 - 0.5) < 0.26) & (np.abs(up % 1 - 0.5) < 0.3)
    inner = inner & (height > 0) & (height < roof - 0.25)
    # Far windows blur into the wall.
    pane = inner * np.clip(scale / 6, 0.0, 1.0)
    number = along.astype(np.int64) + 5 * np.floor(up).astype(np.int64) + 11 * building
    patterns = (draws(0.0, 1.0, 64) < 0.45).astype(np.float32)
    return pane, patterns[np.arange(len(patterns))[:, None, None], number % 64]


def _ground(canvas: Canvas, view: View, draws: StreetDraws) -> None:
    aside, below = np.abs(view.x - view.x0), np.maximum(view.y - view.y0, 1e-3)
    depth = np.minimum(1 / below, END)
    everyone = np.arange(len(view.x0))
    pavement, road = paving(draws)
    for label, half, grey in ((PAVEMENT, view.walls, pavement), (ROAD, view.road, road)):
        slope = np.sqrt(1 + half**2)
        cover = view.inside((half * below - aside) / slope) * view.inside(view.y - view.y0)
        canvas.paint(everyone, cover, label, grey, depth)
    # Dashes along the middle belong to the road.
    dash = on_dash(depth + draws(0.0, 2.0, 1, 1)) & (depth < 8)
    cover = view.inside(DASH * below - aside) * dash
    canvas.paint(everyone, cover, ROAD, DASH_COLOUR, depth)


def paving(draws: StreetDraws) -> list[np.ndarray]:
    """Colours of pavement and road, `[b 1 1 3]` each."""
    ranges = ((0.45, 0.65), (0.22, 0.34))
    return [draws(low, high, 1, 1, 1) * (1 + draws(-0.06, 0.06, 1, 1, 3)) for low, high in ranges]


def on_dash(along: np.ndarray) -> np.ndarray:
    """Mask of the dashes: true where a dash lies at these positions along the road."""
    return along % 2 < 1
