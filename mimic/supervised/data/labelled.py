"""Images with labels: the batch, the bases of the sets, and sets with one class an image."""

import abc
import functools
from typing import NamedTuple

import numpy as np
import torch
from PIL.Image import Resampling, fromarray
from torch import Tensor
from torch.utils.data import Dataset

from common.data.base import Data, Split
from common.data.images.base import ImageData, ImageStack
from common.data.images.embedded import EmbeddedDigits, wheel_file
from common.data.images.files import CIFAR10, MNIST
from common.errors import InputError
from common.typing import Integers, Pixels

SMALL_DIGIT_SPLITS: dict[Split, slice] = {
    "train": slice(1000),
    "val": slice(1000, 1297),
    "test": slice(1297, 1797),
}


class Labelled(NamedTuple):
    """A batch of images with labels.

    Attributes:
        images: Images as bytes, `uint8 [b c h w]`.
        labels: `int64`: classes of images `[b]`, of k factors `[b k]`, or of pixels `[b h w]`.
    """

    images: Pixels
    labels: Tensor


class LabelledStack(Dataset[Labelled]):
    """A data set over `n` images and their labels; index `n + i` is the mirror image of index `i`.

    Args:
        images: All images.
        labels: Labels of the images, of any integer type; labels of pixels are mirrored with the
            images.

    Raises:
        InputError: The numbers of images and labels differ.
    """

    def __init__(self, images: Pixels, labels: Tensor) -> None:
        if len(images) != len(labels):
            raise InputError(
                f"got {len(images)} images and {len(labels)} labels; give a label for each image"
            )
        self.images, self.labels = ImageStack(images), labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Labelled:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Labelled:
        images, chosen = self.images.__getitems__(indices), torch.tensor(indices)
        labels = self.labels.index_select(0, chosen % len(self)).long()
        if labels.ndim == 3:
            mirrored = chosen >= len(self)
            labels[mirrored] = labels[mirrored].flip(-1)
        return Labelled(images, labels)


class LabelledData(Data):
    """Base of the sets with labels; a batch is a `Labelled`.

    Attributes:
        n_classes: Number of classes.
    """

    n_classes: int

    @property
    def classes(self) -> int | tuple[int, ...]:
        """Number of classes of a label, or of each factor."""
        return self.n_classes


class ClassData(ImageData, LabelledData):
    """Base of the image sets with one class an image.

    Comes after the set whose images and labels it serves: `class Mine(Set, ClassData)`.
    """

    n_classes = 10

    @abc.abstractmethod
    def labels(self, split: Split) -> Integers:
        """Classes of the images of a split, in the order of `images`."""

    def dataset(self, split: Split) -> LabelledStack:  # type: ignore[override]  # other batches
        return LabelledStack(self.images(split), self.labels(split))


class LabelledDigits(EmbeddedDigits, ClassData):
    """The 5,000 embedded MNIST digits with their classes."""


class LabelledMNIST(MNIST, ClassData):
    """MNIST from its idx files of images and of labels."""


class LabelledCIFAR10(CIFAR10, ClassData):
    """CIFAR-10 from its Python batches, with classes."""


class SmallDigits(ClassData):
    """The 1,797 digits of 8x8 in the scikit-learn wheel, scaled up to 28x28 bilinearly.

    The collection is another one than MNIST, so features can be transferred to it. In a fixed
    shuffled order 1,000 are for training, 297 for validation, 500 for testing.
    """

    shape = (1, 28, 28)

    def images(self, split: Split) -> Pixels:
        return _small_digits()[0][SMALL_DIGIT_SPLITS[split]]

    def labels(self, split: Split) -> Integers:
        return _small_digits()[1][SMALL_DIGIT_SPLITS[split]]


@functools.cache
def _small_digits() -> tuple[Pixels, Integers]:
    path = wheel_file("sklearn", "datasets/data/digits.csv.gz")
    rows = np.loadtxt(path, dtype=np.float32, delimiter=",")
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    rows = rows[order.numpy()]
    # Values 0 … 16 become 0 … 255 before the images are scaled up, and bytes after.
    pictures = rows[:, :-1].reshape(-1, 8, 8) * np.float32(255 / 16)
    large = [fromarray(picture).resize((28, 28), Resampling.BILINEAR) for picture in pictures]
    pixels = np.rint(np.stack([np.asarray(picture) for picture in large])).astype(np.uint8)
    return torch.from_numpy(pixels)[:, None], torch.from_numpy(rows[:, -1].astype(np.int64))
