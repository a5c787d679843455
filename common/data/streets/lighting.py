"""Lighting of a street, and the picture that a camera takes of it."""

from typing import NamedTuple

import numpy as np

from common.data.streets.street import TREE, Canvas, StreetDraws, View

FARTHEST = 30  # depth beyond which nothing looks farther away


class Lighting(NamedTuple):
    """Light, weather and camera of a scene; brightness is from 0 to 1.

    Attributes:
        light: Light on everything, RGB.
        zenith: Colour of the sky at the upper edge, RGB.
        horizon: Colour of the sky at the horizon and of the haze, RGB.
        haze: Density of the haze, per height of the camera.
        lamps: Brightness of windows and lamps.
        beam: Brightness of the camera's own headlights.
        noise: Standard deviation of the camera's noise.
    """

    light: tuple[float, float, float]
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    haze: float
    lamps: float
    beam: float
    noise: float


DAY = Lighting(
    light=(1.0, 0.97, 0.9),
    zenith=(0.3, 0.5, 0.85),
    horizon=(0.8, 0.87, 0.93),
    haze=0.03,
    lamps=0.1,
    beam=0.0,
    noise=0.015,
)
NIGHT = Lighting(
    light=(0.3, 0.31, 0.42),
    zenith=(0.04, 0.04, 0.1),
    horizon=(0.27, 0.21, 0.22),
    haze=0.06,
    lamps=0.9,
    beam=0.6,
    noise=0.04,
)


def photograph(canvas: Canvas, view: View, lighting: Lighting, draws: StreetDraws) -> np.ndarray:
    """Pictures that a camera takes of painted scenes, `uint8 [b 3 h w]`."""
    size, (albedo, glow, sky) = canvas.labels.shape[1:], np.split(canvas.light, (3, 6), -1)
    rough = np.where(canvas.labels == TREE, np.float32(0.35), np.float32(0.1))
    albedo = albedo * (1 + rough * draws(-1.0, 1.0, *size))[..., None]
    light, zenith, horizon = (np.array(colour, np.float32) for colour in lighting[:3])
    depth = np.minimum(canvas.depth, FARTHEST)
    beam = lighting.beam * np.exp(-depth / 4 - ((view.x - view.x0) * depth / 2) ** 2)
    lit = albedo * (light * draws(0.85, 1.15, 1, 1, 1) + beam[..., None])
    seen = lit + lighting.lamps * glow
    clear = np.exp(-lighting.haze * depth)[..., None]
    up = np.clip(1 - view.y / view.y0, 0, 1)[..., None]
    above = (horizon + up * (zenith - horizon)) * draws(0.85, 1.1, 1, 1, 1)
    picture = clear * seen + (1 - sky) * (1 - clear) * horizon + sky * above
    noise = lighting.noise * 3**0.5 * draws(-1.0, 1.0, *size, 3)  # uniform, of that deviation
    pixels = np.rint(255 * np.clip(picture + noise, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
