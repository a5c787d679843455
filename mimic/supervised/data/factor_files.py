"""Sets of factors that come as files; only the images needed are kept in memory."""

import functools
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from common.errors import InputError
from common.typing import Integers, Pixels
from mimic.supervised.data.array_rows import array_layout, array_rows
from mimic.supervised.data.factors import FactorData, factors_of


class FactorFile(FactorData):
    """Base of the sets that come as one file.

    Args:
        root: Folder of the file.
        **serving: Options of `FactorData`.

    Attributes:
        file: Name of the file.
        source: Address to download it from.
    """

    file: str
    source: str

    def __init__(self, root: str | Path, **serving: Any) -> None:
        super().__init__(**serving)
        self.root = Path(root).expanduser()

    @property
    def path(self) -> Path:
        if not (path := self.root / self.file).is_file():
            raise InputError(
                f"found no {self.file} in {self.root}; download it there from {self.source}"
            )
        return path

    def _rows(self, key: str, rows: np.ndarray, kind: type[Any], *each: int) -> np.ndarray:
        """Rows of an array, after a check of its kind and of the shape of each row."""
        shape, dtype = array_layout(self.path, key)
        wanted = (math.prod(self.factor_sizes), *each)
        if shape != wanted or not np.issubdtype(dtype, kind):
            raise InputError(
                f"{self.path} holds '{key}' of {dtype} {shape}, {type(self).__name__} has "
                f"{kind.__name__} {wanted}; download it again from {self.source}"
            )
        return array_rows(self.path, key, rows)

    def _colours(self, indices: Integers) -> Pixels:
        """Colour images of the array `images`."""
        pixels = self._rows("images", indices.numpy(), np.uint8, 64, 64, 3)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def _compare(self, key: str, classes: np.ndarray, indices: Integers) -> None:
        if (classes != factors_of(indices, self.factor_sizes).numpy()).any():
            raise InputError(
                f"the '{key}' of {self.path} don't go through the factors in their order; "
                f"download it again from {self.source}"
            )


class DSprites(FactorFile):
    """dSprites (Matthey et al. 2017): white shapes on black, from its npz file.

    Its colour has one class only and is no factor here. Pixels are 0 and 255.
    """

    shape = (1, 64, 64)
    file = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    source = "https://github.com/google-deepmind/dsprites-dataset"
    factor_names = ("shape", "scale", "orientation", "x", "y")
    factor_sizes = (3, 6, 40, 32, 32)

    def read(self, indices: Integers) -> Pixels:
        # The member `metadata` is not read: it is a pickle, which could run any code.
        rows, n_latents = indices.numpy(), 1 + len(self.factor_sizes)
        classes = self._rows("latents_classes", rows, np.integer, n_latents)
        self._compare("latents_classes", classes[:, 1:], indices)
        pixels = self._rows("imgs", rows, np.uint8, 64, 64)
        if pixels.max() > 1:
            raise InputError(
                f"{self.path} holds a pixel {pixels.max()}, dSprites' are 0 and 1; download it "
                f"again from {self.source}"
            )
        return torch.from_numpy(pixels * np.uint8(255))[:, None]


class Shapes3D(FactorFile):
    """3D Shapes (Burgess and Kim 2018): an object in a coloured room, from its HDF5 file."""

    shape = (3, 64, 64)
    file = "3dshapes.h5"
    source = "https://storage.googleapis.com/3d-shapes/3dshapes.h5"
    factor_names = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    factor_sizes = (10, 10, 10, 8, 4, 15)

    def read(self, indices: Integers) -> Pixels:
        everything = np.arange(math.prod(self.factor_sizes))
        labels = self._rows("labels", everything, np.number, len(self.factor_sizes))
        # Labels are values of the factors; in ascending order they are the classes 0, 1, …
        classes = np.stack([np.unique(c, return_inverse=True)[1] for c in labels.T], 1)
        self._compare("labels", classes[indices.numpy()], indices)
        return self._colours(indices)


class MPI3D(FactorFile):
    """MPI3D (Gondal et al. 2019): a robot's arm that holds an object, from an npz file.

    The sizes of the factors follow from the number of images: 1,036,800 images have 6 colours and
    6 shapes; the 460,800 images of the first release of `toy` and `realistic` have 4 and 4.

    Args:
        root: Folder of the file.
        version: `toy` and `realistic`: rendered images; `real`: photographs.
        **serving: Options of `FactorData`.
    """

    shape = (3, 64, 64)
    source = "https://github.com/rr-learning/disentanglement_dataset"
    factor_names = (
        "object_color", "object_shape", "object_size", "camera_height", "background_color",
        "horizontal_axis", "vertical_axis",
    )  # fmt: skip
    releases: tuple[tuple[int, ...], ...] = ((6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40))

    def __init__(
        self,
        root: str | Path,
        version: Literal["toy", "realistic", "real"] = "toy",
        **serving: Any,
    ) -> None:
        super().__init__(root, **serving)
        self.file = f"mpi3d_{version}.npz"

    @functools.cached_property
    def factor_sizes(self) -> tuple[int, ...]:
        shape, _ = array_layout(self.path, "images")
        by_count = {math.prod(sizes): sizes for sizes in self.releases}
        if shape[0] not in by_count:
            counts = " or ".join(map(str, by_count))
            raise InputError(
                f"{self.path} holds {shape[0]} images, MPI3D has {counts}; download it again "
                f"from {self.source}"
            )
        return by_count[shape[0]]

    def read(self, indices: Integers) -> Pixels:
        return self._colours(indices)
