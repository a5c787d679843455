"""Street scenes drawn on the spot, with a class for each pixel, by day and by night."""

from typing import Literal, NamedTuple

import numpy as np
import torch

from common.data.base import Data, Split
from common.errors import InputError, check_counts
from mimic.data.labelled import LabelledStack
from mimic.data.streets import CLASSES, TREE, Canvas, Draws, View, empty_street
from mimic.data.traffic import things

SEEDS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
BLOCK = 32  # scenes drawn at once, so that they stay in the cache

DomainName = Literal["day", "night"]


class Domain(NamedTuple):
    """How a scene is lit and taken.

    Attributes:
        light: On everything, RGB.
        zenith: Colour of the sky at the upper edge.
        horizon: Colour of the sky at the horizon, and of the haze.
        haze: Density, per height of the camera.
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


DOMAINS: dict[str, Domain] = {
    "day": Domain(
        light=(1.0, 0.97, 0.9),
        zenith=(0.3, 0.5, 0.85),
        horizon=(0.8, 0.87, 0.93),
        haze=0.03,
        lamps=0.1,
        beam=0.0,
        noise=0.015,
    ),
    "night": Domain(
        light=(0.3, 0.31, 0.42),
        zenith=(0.04, 0.04, 0.1),
        horizon=(0.27, 0.21, 0.22),
        haze=0.06,
        lamps=0.9,
        beam=0.6,
        noise=0.04,
    ),
}


class RenderedScenes(Data):
    """Streets with houses, cars, trees and people; a batch is a `Labelled` with labels `[b h w]`.

    The Cityscapes → BDD100K question in small: train in one domain and test in another, of which
    no image was seen. Scene k of a split has the same layout and labels in all domains.

    Args:
        domain: `day` or `night`: light, sky, lamps, haze and noise.
        test_domain: That of the test split; the same if none.
        size: Height and width.
        n_train: Scenes for training.
        n_val: Scenes for validation.
        n_test: Scenes for testing.
        batch_size: Scenes per device and step.
        num_workers: Loader processes.
        flip: Mirror training scenes and their labels left to right at random.

    Attributes:
        n_classes: Number of classes.
        class_names: Their names; those of Cityscapes of the same meaning come in the same order.
    """

    examples = "scenes"
    n_classes = len(CLASSES)
    class_names = CLASSES

    def __init__(
        self,
        domain: DomainName = "day",
        test_domain: DomainName | None = None,
        size: tuple[int, int] = (48, 64),
        n_train: int = 2000,
        n_val: int = 200,
        n_test: int = 500,
        batch_size: int = 32,
        num_workers: int = 0,
        flip: bool = False,
    ) -> None:
        super().__init__(batch_size, num_workers, flip)
        target = domain if test_domain is None else test_domain
        if unknown := {domain, target} - set(DOMAINS):
            raise InputError(f"got domain {unknown.pop()}; give one of {', '.join(DOMAINS)}")
        if min(size) < 16:
            raise InputError(f"got size {size}; a scene needs 16 pixels or more each way")
        self.counts: dict[Split, int] = {"train": n_train, "val": n_val, "test": n_test}
        check_counts(1, n_train=n_train, n_val=n_val, n_test=n_test)
        self.domains: dict[Split, str] = {"train": domain, "val": domain, "test": target}
        self.size, self.shape = size, (3, *size)

    def dataset(self, split: Split) -> LabelledStack:
        domain, count = DOMAINS[self.domains[split]], self.counts[split]
        starts = range(0, count, BLOCK)
        blocks = [np.arange(start, min(start + BLOCK, count)) for start in starts]
        drawn = [_scenes(numbers, SEEDS[split], domain, self.size) for numbers in blocks]
        images, labels = (
            torch.from_numpy(np.concatenate(part)) for part in zip(*drawn, strict=True)
        )
        return LabelledStack(images, labels)


def _scenes(
    numbers: np.ndarray, seed: int, domain: Domain, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The scenes of these numbers, `uint8 [b 3 h w]`, and their labels, `uint8 [b h w]`."""
    draws = Draws(numbers, seed)
    view, canvas = View.drawn(draws, *size), Canvas(len(numbers), *size)
    empty_street(canvas, view, draws)
    things(canvas, view, draws)
    return _photo(canvas, view, domain, draws), canvas.labels


def _photo(canvas: Canvas, view: View, domain: Domain, draws: Draws) -> np.ndarray:
    """The picture that a camera takes, as bytes."""
    size, (albedo, glow, sky) = canvas.labels.shape[1:], np.split(canvas.light, (3, 6), -1)
    rough = np.where(canvas.labels == TREE, np.float32(0.35), np.float32(0.1))
    albedo = albedo * (1 + rough * draws(-1.0, 1.0, *size))[..., None]
    light, zenith, horizon = (np.array(colour, np.float32) for colour in domain[:3])
    depth = np.minimum(canvas.depth, 30)
    beam = domain.beam * np.exp(-depth / 4 - ((view.x - view.x0) * depth / 2) ** 2)
    lit = albedo * (light * draws(0.85, 1.15, 1, 1, 1) + beam[..., None])
    seen = lit + domain.lamps * glow
    clear = np.exp(-domain.haze * depth)[..., None]
    up = np.clip(1 - view.y / view.y0, 0, 1)[..., None]
    above = (horizon + up * (zenith - horizon)) * draws(0.85, 1.1, 1, 1, 1)
    picture = clear * seen + (1 - sky) * (1 - clear) * horizon + sky * above
    noise = domain.noise * 3**0.5 * draws(-1.0, 1.0, *size, 3)  # uniform, of that deviation
    pixels = np.rint(255 * np.clip(picture + noise, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
