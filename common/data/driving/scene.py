"""A drive along a street: pictures, boxes, classes, depth and optical flow at any real time."""

from typing import NamedTuple

import numpy as np

from common.data.driving.sprites import Sprite, sprite_of
from common.data.driving.surfaces import PAVEMENT_WIDTH, ROAD_HALF, Surfaces
from common.data.driving.tracks import EMPTY
from common.data.driving.world import KINDS, World
from common.data.streets.lighting import DAY, Lighting
from common.data.streets.street import CAR, PERSON, StreetDraws, View, check_size

OBJECT_CLASSES = ("pedestrian", "car")
CLASS_OF = {PERSON: 0, CAR: 1}
TOLERANCE = 0.05  # relative difference of depth within which a pixel shows the same surface


class Objects(NamedTuple):
    """Objects in one picture, the nearest one first, `[n]` each.

    Attributes:
        boxes: Left, upper, right and lower edge in pixels, cut at the edges of the picture,
            `float32 [n 4]`.
        classes: Index in `OBJECT_CLASSES`.
        ids: Number of the object, the same in all pictures of the scene.
        visible: Share of the object's area that is seen, from 0 to 1.
        inside: Share of the object's box that is inside the picture, from 0 to 1.
        depth: Depth in heights of the camera.
    """

    boxes: np.ndarray
    classes: np.ndarray
    ids: np.ndarray
    visible: np.ndarray
    inside: np.ndarray
    depth: np.ndarray


class Picture(NamedTuple):
    """Picture of a scene at one time.

    Attributes:
        image: `uint8 [3 h w]`.
        labels: Index in `STREET_CLASSES` of each pixel, `uint8 [h w]`.
        instances: Number of the object in each pixel as in `Objects.ids`, `int64 [h w]`; -1: none.
        depth: Depth of each pixel in heights of the camera, `float32 [h w]`; infinite for the sky.
        objects: Cars and people of which a part is in the picture.
    """

    image: np.ndarray
    labels: np.ndarray
    instances: np.ndarray
    depth: np.ndarray
    objects: Objects


class Flow(NamedTuple):
    """Optical flow from one picture to another.

    Attributes:
        flow: Motion of each pixel to the right and down, in pixels, `float32 [2 h w]`.
        known: Whether the point is still before the camera, `bool [h w]`; elsewhere it has no
            place in the other picture, and the flow is 0.
        visible: Whether the same point is seen in the other picture, `bool [h w]`.
    """

    flow: np.ndarray
    known: np.ndarray
    visible: np.ndarray


class Seen(NamedTuple):
    """An object that was drawn: number, identity, depth, foot in pixels, and area in pixels."""

    thing: int
    identity: int
    depth: float
    foot: tuple[float, float]
    area: float


class DrivingScene:
    """Scene of a camera that drives along a street with cars and people.

    Everything is a function of the time, which is any real number. Number and seed alone determine
    the scene; its contents don't depend on the lighting.

    Args:
        number: Number of the scene.
        seed: Seed of all scenes.
        size: Height and width of the pictures in pixels, 16 or more each.
        lighting: Light and weather. The camera has no noise.

    Raises:
        InputError: The size is too small for a scene.
    """

    def __init__(
        self,
        number: int,
        seed: int = 0,
        size: tuple[int, int] = (128, 128),
        lighting: Lighting = DAY,
    ) -> None:
        check_size(size)
        draws = StreetDraws(np.array([number]), seed)
        view = View.drawn(draws, *size)
        half = draws(*ROAD_HALF, 1, 1)
        view = view._replace(road=half, walls=half + draws(*PAVEMENT_WIDTH, 1, 1))
        x0, y0, road, walls = (float(value[0, 0, 0]) for value in view[2:])
        self.size, self._lighting = size, lighting
        # Column and row of the vanishing point.
        self._middle = np.array([x0 * size[0] + size[1] / 2, y0 * size[0]])
        self.world = World(draws, road, walls)
        self._surfaces = Surfaces(view, lighting, draws)
        self._horizon = np.array(lighting.horizon, np.float32)[:, None, None]
        self._sprites: dict[int, Sprite] = {}

    def at(self, time: float) -> Picture:
        """Picture at a time, in frames."""
        image, labels, depth = self._surfaces.at(self.world.travelled(time))
        image = np.ascontiguousarray(image.transpose(2, 0, 1))
        drawn, found = np.full(self.size, EMPTY, np.int8), list[Seen]()
        places = self.world.at(time)
        depths, asides = places.depth.tolist(), places.aside.tolist()
        x, y = self._middle.tolist()
        for thing in np.argsort(-places.depth).tolist():
            near = depths[thing]
            foot = (x + self.size[0] * asides[thing] / near, y + self.size[0] / near)
            scale = self.size[0] / near
            patch = self._sprite(thing).at(foot, scale, self.size)
            if patch is None:
                continue
            part = patch.rows, patch.columns
            clear = np.float32(np.exp(-self._lighting.haze * near))
            seen = image[:, *part]
            change = (1 - clear) * self._horizon - seen
            change *= patch.cover
            change += clear * patch.colour
            seen += change
            solid, kind = patch.cover > 0.5, int(KINDS[thing])
            labels[part][solid], depth[part][solid] = kind, near
            drawn[part][solid] = thing if kind in CLASS_OF else EMPTY
            if kind in CLASS_OF:
                found.append(Seen(thing, int(places.ids[thing]), near, foot, patch.area))
        pixels = (255 * np.clip(image, 0, 1) + 0.5).astype(np.uint8)
        objects = self._objects(found[::-1], drawn)
        instances = np.append(places.ids, EMPTY)[drawn]
        return Picture(pixels, labels, instances, depth, objects)

    def flow(self, start: float, end: float) -> Flow:
        """Optical flow from the picture at one time to that at another, earlier or later."""
        return self.flow_between(self.at(start), self.at(end), start, end)

    def flow_between(self, first: Picture, last: Picture, start: float, end: float) -> Flow:
        """Optical flow between the pictures at two times, which are known already."""
        rows, columns = np.indices(self.size) + 0.5
        at = np.stack([columns, rows])
        from_middle = at - self._middle[:, None, None]
        places, (aside, depth) = self.world.at(start), self.world.moved(start, end)
        thing, moves = first.instances % len(KINDS), first.instances != EMPTY
        travelled = self.world.travelled(end) - self.world.travelled(start)
        after = np.where(moves, depth[thing], first.depth - travelled)
        ahead = after > 0.01
        after = np.maximum(after, 0.01)
        sky = np.isinf(first.depth)
        with np.errstate(invalid="ignore"):  # the sky is infinitely far
            growth = np.where(sky, 1.0, first.depth / after)
        flow = from_middle * (growth - 1)
        flow[0] += self.size[0] * np.where(moves, aside[thing] - places.aside[thing], 0) / after
        x, y = np.floor(at + flow).astype(np.int64)
        inside = ahead & (x >= 0) & (y >= 0) & (x < self.size[1]) & (y < self.size[0])
        x, y = np.where(inside, x, 0), np.where(inside, y, 0)
        there, gap = last.depth[y, x], TOLERANCE + after / self.size[0]
        with np.errstate(invalid="ignore"):
            same = np.where(sky, np.isinf(there), np.abs(there - after) < gap * after)
        same &= last.instances[y, x] == first.instances
        return Flow(np.where(ahead, flow, 0).astype(np.float32), ahead, inside & same)

    def _sprite(self, thing: int) -> Sprite:
        if thing not in self._sprites:
            variant, right = int(self.world.variants[thing]), bool(self.world.right[thing])
            self._sprites[thing] = sprite_of(int(KINDS[thing]), variant, right, self._lighting)
        return self._sprites[thing]

    def _objects(self, found: list[Seen], drawn: np.ndarray) -> Objects:
        height, width = self.size
        scale = np.array([height / seen.depth for seen in found])[:, None]
        edges = np.array([self._sprite(seen.thing).box for seen in found]).reshape(-1, 4)
        foot = np.array([seen.foot for seen in found]).reshape(-1, 2)
        whole = np.tile(foot, 2) + scale.reshape(-1, 1) * edges * (1, -1, 1, -1)
        boxes = np.clip(whole, 0, np.array([width, height, width, height]))
        ids = np.array([seen.identity for seen in found], np.int64)
        area = np.array([seen.area for seen in found])
        counts = np.bincount(drawn.ravel() + 1, minlength=len(KINDS) + 1)
        pixels = counts[[seen.thing + 1 for seen in found]]
        return Objects(
            boxes.astype(np.float32),
            np.array([CLASS_OF[KINDS[seen.thing]] for seen in found], np.int64),
            ids,
            np.minimum(pixels / area, 1).astype(np.float32),
            (_areas(boxes) / _areas(whole)).astype(np.float32),
            np.array([seen.depth for seen in found], np.float32),
        )


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
