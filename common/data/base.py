"""Images served as bytes: what every image set shares.

A set says where its bytes are, this file how they are served: whole batches cut from one tensor,
and a loader that resumes in the middle of an epoch with the very batches that were left.
"""

import abc
import os
from typing import Any, Literal

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset
from torchdata.stateful_dataloader import StatefulDataLoader
from torchdata.stateful_dataloader.sampler import StatefulDistributedSampler

from common.errors import InputError
from common.typing import Pixels

Split = Literal["train", "val", "test"]

STAGES: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


class ImageStack(Dataset[Tensor]):
    """A data set over one tensor of images, indexed once a batch.

    Args:
        images: All images.
        flip: Mirror each image left to right with probability one half, anew at every visit.
    """

    def __init__(self, images: Pixels, flip: bool = False) -> None:
        self.images, self.flip = images, flip
        self._noise: torch.Generator | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> Pixels:
        # Four times as fast as images[indices], and the only copy that is made.
        batch = self.images.index_select(0, torch.tensor(indices))
        if self.flip:
            self._mirror(batch)
        return batch

    def state_dict(self) -> dict[str, Tensor]:
        """The state of the flips, which the loader keeps for each of its workers."""
        return {} if self._noise is None else {"noise": self._noise.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if "noise" in state:
            self._noise = torch.Generator()
            self._noise.set_state(state["noise"])

    def _mirror(self, batch: Pixels) -> None:
        if self._noise is None:
            # Seeded at the first batch and not before, so that no two workers share their draws.
            self._noise = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        chosen = (torch.rand(len(batch), generator=self._noise) < 0.5).numpy()
        pixels = batch.numpy()  # a third of the time of torch.where
        pixels[chosen] = pixels[chosen, ..., ::-1]


def as_served(batch: Tensor) -> Tensor:
    """The collate function of a data set that serves whole batches."""
    return batch


class Shares(StatefulDistributedSampler):  # type: ignore[misc]  # torchdata says no types
    """Each device's share of a shuffled epoch, exact after a resume.

    The sampler that Lightning would use forgets its order, and torchdata's the epoch, which
    Lightning says only after worker processes have been sent their first indices.
    """

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.set_epoch(state_dict["epoch"])


class ImageData(LightningDataModule, abc.ABC):
    """Base of the image sets; a batch is one `uint8` tensor `[b c h w]`.

    Args:
        batch_size: Images per device and step.
        num_workers: Loader processes.
        flip: Mirror training images left to right at random.

    Attributes:
        shape: Channels, height and width of an image, known before `setup`.
    """

    shape: tuple[int, int, int]

    def __init__(self, batch_size: int = 64, num_workers: int = 0, flip: bool = False) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"got batch_size {batch_size}; give 1 or more")
        if num_workers < 0:
            raise InputError(f"got num_workers {num_workers}; give 0 (no workers) or more")
        self.batch_size, self.num_workers, self.flip = batch_size, num_workers, flip
        self._stacks: dict[Split, ImageStack] = {}

    @abc.abstractmethod
    def images(self, split: Split) -> Pixels:
        """All images of that split, in an order that never changes."""

    def setup(self, stage: str) -> None:
        for split in STAGES[stage]:
            if split not in self._stacks:
                flip = self.flip and split == "train"
                self._stacks[split] = ImageStack(self.images(split), flip)

    def train_dataloader(self) -> StatefulDataLoader[Tensor]:
        """Shuffled, without the incomplete last batch.

        Raises:
            InputError: A batch on every device is more than the training set.
        """
        count = len(self._stack("train"))
        devices = self.trainer.world_size if self.trainer else 1
        if self.batch_size * devices > count:
            raise InputError(
                f"got batch_size {self.batch_size} on {devices} device(s), but there are only "
                f"{count} training images; lower data.batch_size to {count // devices} or less"
            )
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> StatefulDataLoader[Tensor]:
        return self._loader("val")

    def test_dataloader(self) -> StatefulDataLoader[Tensor]:
        return self._loader("test")

    def predict_dataloader(self) -> StatefulDataLoader[Tensor]:
        return self._loader("test")

    def _stack(self, split: Split) -> ImageStack:
        if split not in self._stacks:
            stage = next(s for s, splits in STAGES.items() if split in splits)
            raise InputError(f"the {split} images aren't loaded yet; call setup('{stage}') first")
        return self._stacks[split]

    def _loader(self, split: Split, shuffle: bool = False) -> StatefulDataLoader[Tensor]:
        sampler = self._shares(split) if shuffle else None
        # By name: Lightning builds the loader again with other samplers, beside these arguments.
        return StatefulDataLoader(
            self._stack(split),
            batch_size=self.batch_size,
            shuffle=shuffle if sampler is None else None,
            sampler=sampler,
            drop_last=shuffle,
            num_workers=self.num_workers,
            collate_fn=as_served,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def _shares(self, split: Split) -> Shares | None:
        if not self.trainer or self.trainer.world_size == 1:
            return None
        return Shares(
            self._stack(split),
            self.trainer.world_size,
            self.trainer.global_rank,
            seed=int(os.environ.get("PL_GLOBAL_SEED", 0)),
            drop_last=True,
        )
