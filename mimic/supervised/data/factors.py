"""Images with known factors of variation, one image for every combination of the factors.

The index of an image is a number in mixed radix, whose digits are the classes of the factors. For
factors of m_1 … m_k classes, the last factor varies fastest: index = Σ_i c_i Π_{j>i} m_j.
"""

import abc
import math
from typing import Any

import torch
from torch import Tensor

from common.data.base import Split
from common.errors import InputError, check_counts
from common.typing import Integers, Pixels
from mimic.supervised.data.labelled import LabelledData, LabelledStack


def factors_of(indices: Integers, sizes: tuple[int, ...]) -> Tensor:
    """Classes of the factors of the images with these indices, `int64 [b k]`.

    Raises:
        InputError: There is no image of such an index.
    """
    count = math.prod(sizes)
    if len(indices) and not 0 <= indices.min() <= indices.max() < count:
        raise InputError(
            f"got indices from {indices.min()} to {indices.max()}, factors of sizes {sizes} have "
            f"0 to {count - 1}"
        )
    places = torch.tensor([math.prod(sizes[i + 1 :]) for i in range(len(sizes))])
    return indices[:, None] // places.to(indices) % torch.tensor(sizes).to(indices)


class FactorData(LabelledData):
    """Base of the sets of factors; labels are the classes of the factors, `[b k]`.

    The splits are disjoint random choices of all images. `n_train` does not change which images
    are for validation and testing. Images are never mirrored: a mirror image shows other factors
    than its label says.

    Args:
        n_train: Number of images for training.
        n_val: Number of images for validation.
        n_test: Number of images for testing.
        split_seed: Seed of the choice, apart from the seed of training.
        **serving: Options of `Data`, except `flip`.

    Attributes:
        factor_names: Names of the factors.
    """

    examples = "images"
    factor_names: tuple[str, ...]

    def __init__(
        self,
        n_train: int = 10000,
        n_val: int = 1000,
        n_test: int = 10000,
        split_seed: int = 0,
        **serving: Any,
    ) -> None:
        super().__init__(flip=False, **serving)
        # Test and validation come first, so that they do not depend on n_train.
        self.counts: dict[Split, int] = {"test": n_test, "val": n_val, "train": n_train}
        check_counts(1, n_train=n_train, n_val=n_val, n_test=n_test)
        self.split_seed = split_seed
        self._images: Pixels | None = None

    @property
    @abc.abstractmethod
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of classes of each factor."""

    @property
    def classes(self) -> tuple[int, ...]:
        return self.factor_sizes

    @abc.abstractmethod
    def read(self, indices: Integers) -> Pixels:
        """Images with these indices, which are in ascending order."""

    def indices(self, split: Split) -> Integers:
        """Indices of a split's images, in the order in which they are served.

        Raises:
            InputError: The splits need more images than there are.
        """
        count, wanted = math.prod(self.factor_sizes), sum(self.counts.values())
        if wanted > count:
            numbers = " + ".join(f"n_{split} {n}" for split, n in self.counts.items())
            raise InputError(
                f"got {numbers} = {wanted}, {type(self).__name__} has {count} images; lower them"
            )
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.split_seed))
        return self._part(order[:wanted], split)

    def dataset(self, split: Split) -> LabelledStack:
        if self._images is None:
            # All splits at once: a compressed file can only be read from its beginning.
            ascending, places = torch.cat([self.indices(s) for s in self.counts]).sort()
            self._images = self.read(ascending)[places.argsort()]
        labels = factors_of(self.indices(split), self.factor_sizes)
        return LabelledStack(self._part(self._images, split), labels)

    def _part(self, everything: Tensor, split: Split) -> Tensor:
        return everything.split(list(self.counts.values()))[list(self.counts).index(split)]
