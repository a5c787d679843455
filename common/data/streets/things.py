"""Things on a street: cars, trees and people."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from common.data.streets.street import CAR, PERSON, TREE, Canvas, StreetDraws, View

SLOTS = 3  # greatest number of things of each class
WHITE, RED = np.array([[1.0, 1.0, 0.85], [1.0, 0.12, 0.08]], np.float32)


class Thing(NamedTuple):
    """One thing in each of n pictures.

    Attributes:
        k: Indices of the pictures, `int64 [n]`.
        u: Distance of each pixel to the right of the thing's foot, in heights of the camera,
            `[n 1 w]`.
        v: Height of each pixel above the thing's foot, in heights of the camera, `[n h 1]`.
        scale: Scale of the picture at the thing's depth, `[n 1 1]`.
        right: Whether the thing is on the right side, `[n 1 1]`.
        colour: Random colour, 0 to 1, `[n 1 1 3]`.
        form: Random number that varies the form, 0 to 1, `[n 1 1]`.
    """

    k: np.ndarray
    u: np.ndarray
    v: np.ndarray
    scale: np.ndarray
    right: np.ndarray
    colour: np.ndarray
    form: np.ndarray


def paint_things(canvas: Canvas, view: View, draws: StreetDraws) -> None:
    """Paints cars on the road, trees and people on the pavement, the nearest thing last."""
    kinds = np.repeat((CAR, TREE, PERSON), SLOTS)
    n = len(kinds)
    there, right, where = draws(0.0, 1.0, n) < 0.7, draws(0.0, 1.0, n) < 0.5, draws(0.0, 1.0, n)
    scale = np.exp(draws(np.log(0.09), np.log(0.4), n))
    road, walls = view.road[:, 0], view.walls[:, 0]
    on_road, on_pavement = road * (0.3 + 0.4 * where), road + (walls - road) * (0.15 + 0.7 * where)
    aside = np.where(kinds == CAR, on_road, on_pavement) * np.where(right, 1, -1)
    colour, form = draws(0.05, 0.95, n, 3), draws(0.0, 1.0, n)
    for slot in scale.argsort(1).T:
        for kind, paint in PAINTERS.items():
            k = np.flatnonzero((kinds[slot] == kind) & there[np.arange(len(slot)), slot])
            s = slot[k]
            size, offset, f, r = (a[k, s][:, None, None] for a in (scale, aside, form, right))
            u = (view.x - view.x0[k]) / size - offset
            v = 1 - (view.y - view.y0[k]) / size
            paint(canvas, view, Thing(k, u, v, size, r, colour[k, s][:, None, None], f))


def sprite(
    kind: int, colour: np.ndarray, form: float, right: bool, size: tuple[float, float], pixels: int
) -> np.ndarray:
    """Picture of one thing by itself, `float32 [h w 7]` as in `Canvas.light`; its foot is below.

    Args:
        kind: Class: car, tree or person.
        colour: Random colour, 0 to 1, `[3]`.
        form: Random number that varies the form, 0 to 1.
        right: Whether the thing is on the right side.
        size: Height and width of the picture, in heights of the camera.
        pixels: Pixels for a height of the camera.
    """
    h, w = (round(pixels * length) for length in size)
    canvas, zero = Canvas(1, h, w), np.zeros((1, 1, 1), np.float32)
    across = (np.arange(w, dtype=np.float32) + 0.5 - w / 2)[None, None]
    up = (h - 0.5 - np.arange(h, dtype=np.float32))[None, :, None]
    view = View(across / h, 1 - up / h, zero, zero, zero, zero)
    thing = Thing(
        np.zeros(1, np.int64),
        across / pixels,
        up / pixels,
        zero + pixels / h,
        zero + right > 0,
        np.asarray(colour, np.float32)[None, None, None],
        zero + np.float32(form),
    )
    PAINTERS[kind](canvas, view, thing)
    return canvas.light[0]


def _car(canvas: Canvas, view: View, car: Thing) -> None:
    """Paints a car: from behind on the right side of the road, from the front on the left side."""
    high = 0.9 + 0.5 * car.form
    _part(canvas, view, car, CAR, _box(np.abs(car.u) - 0.42, car.v, 0.13, 0.0, 0.25), _grey(0.04))
    cabin = _box(car.u, car.v, 0.5 - 0.2 * np.maximum(car.v - 0.6, 0), 0.5, high)
    body = np.maximum(_box(car.u, car.v, 0.6, 0.13, 0.62), cabin)
    _part(canvas, view, car, CAR, body, car.colour)
    _part(canvas, view, car, CAR, _box(car.u, car.v, 0.38, 0.63, high - 0.1), _grey(0.1))
    lamps = _disc(np.abs(car.u), car.v, 0.46, 0.47, 0.1)
    light = np.where(car.right[..., None], RED, WHITE)
    _part(canvas, view, car, CAR, lamps, light * np.float32(0.8), light)


def _tree(canvas: Canvas, view: View, tree: Thing) -> None:
    wide = 0.45 + 0.3 * tree.form
    bark = np.array([0.3, 0.2, 0.13], np.float32)
    _part(canvas, view, tree, TREE, _box(tree.u, tree.v, 0.08, 0.0, 1.5), bark)
    above = _disc(tree.u, tree.v, 0.0, 2.3, wide)
    crown = np.maximum(_disc(np.abs(tree.u), tree.v, 0.4, 1.75, wide), above)
    green = np.array([0.12, 0.3, 0.08], np.float32)
    _part(canvas, view, tree, TREE, crown, green + np.float32(0.18) * tree.colour)


def _person(canvas: Canvas, view: View, person: Thing) -> None:
    tall = 1 + 0.2 * person.form
    legs = _box(person.u, person.v, 0.13, 0.0, 0.55)
    _part(canvas, view, person, PERSON, legs, np.float32(0.3) * person.colour[..., ::-1])
    torso = _box(person.u, person.v, 0.19, 0.5, tall - 0.12)
    _part(canvas, view, person, PERSON, torso, person.colour)
    skin = np.array([0.75, 0.55, 0.45], np.float32)
    _part(canvas, view, person, PERSON, _disc(person.u, person.v, 0.0, tall, 0.13), skin)


PAINTERS: dict[int, Callable[[Canvas, View, Thing], None]] = {
    CAR: _car,
    TREE: _tree,
    PERSON: _person,
}


def _part(
    canvas: Canvas,
    view: View,
    thing: Thing,
    label: int,
    distance: np.ndarray,
    colour: np.ndarray,
    glow: np.ndarray | float = 0.0,
) -> None:
    """Paints a part of a thing, given each pixel's distance from its edge (positive inside)."""
    cover = view.inside(distance * thing.scale)
    canvas.paint(thing.k, cover, label, colour, 1 / thing.scale, glow)


def _box(
    u: np.ndarray, v: np.ndarray, half: np.ndarray | float, low: float, high: np.ndarray | float
) -> np.ndarray:
    return np.minimum(half - np.abs(u), np.minimum(v - low, high - v))


def _disc(
    u: np.ndarray, v: np.ndarray, x: float, y: np.ndarray | float, radius: np.ndarray | float
) -> np.ndarray:
    return radius - np.sqrt(np.square(u - x) + np.square(v - y))  # hypot is slow


def _grey(value: float) -> np.ndarray:
    return np.full(3, value, np.float32)
