"""Street scenes, rendered with the class and the depth of each pixel."""

from common.data.streets.lighting import DAY, NIGHT, Lighting
from common.data.streets.render import RenderedStreets, render_streets
from common.data.streets.street import STREET_CLASSES

__all__ = [
    "DAY",
    "NIGHT",
    "STREET_CLASSES",
    "Lighting",
    "RenderedStreets",
    "render_streets",
]
