"""Images served as bytes: the base of the image sets."""

import abc

import torch
from torch import Tensor
from torch.utils.data import Dataset

from common.data.base import Data, Split
from common.typing import Pixels


class ImageStack(Dataset[Tensor]):
    """A data set over one tensor of `n` images; index `n + i` is the mirror image of index `i`."""

    def __init__(self, images: Pixels) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> Pixels:
        chosen = torch.tensor(indices)
        # Four times as fast as images[indices], and the only copy that is made.
        batch = self.images.index_select(0, chosen % len(self))
        mirrored = (chosen >= len(self)).numpy()
        if mirrored.any():
            pixels = batch.numpy()  # a third of the time of torch.where
            pixels[mirrored] = pixels[mirrored, ..., ::-1]
        return batch


class ImageData(Data):
    """Base of the image sets; a batch is one `uint8` tensor `[b c h w]`.

    Args:
        batch_size: Images per device and step.
        num_workers: Loader processes.
        flip: Mirror training images left to right at random.
    """

    examples = "images"

    @abc.abstractmethod
    def images(self, split: Split) -> Pixels:
        """All images of that split, in an order that never changes."""

    def dataset(self, split: Split) -> ImageStack:
        return ImageStack(self.images(split))
