"""Images and videos served as bytes: what every set shares.

A set says where its bytes are, this file how they are served: in whole batches, and in an order
that seed and epoch fix, so that a resume serves the very batches that were left.
"""

import abc
import os
from collections.abc import Iterator
from typing import Any, Literal

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import Dataset, DistributedSampler, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from common.errors import InputError, check_counts

Split = Literal["train", "val", "test"]


STAGES: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


def as_served(batch: Any) -> Any:
    """The collate function of a data set that serves whole batches."""
    return batch


class Shuffle(DistributedSampler[int]):
    """The shuffled indices of an epoch that fall to one device, mirrored by chance.

    Of `n` examples, index `n + i` means the mirror image of the i-th; an endless set has no
    mirror images but new examples `e n … e n + n - 1` in each epoch `e`.

    Order and chance are fixed by seed and epoch alone: Lightning drops the loader's state where
    an epoch ends, and tells the epoch only after workers have been sent their first indices.

    Args:
        examples: The set.
        flip: Ask for the mirror image of each with probability one half.
        n_devices: Devices that share an epoch.
        rank: Number of this device.
        seed: The same on all devices.
        epoch: The epoch to begin with; each pass moves on by one.
        endless: Ask for examples never asked for before.
    """

    def __init__(
        self,
        examples: Dataset[Any],
        flip: bool,
        n_devices: int,
        rank: int,
        seed: int,
        epoch: int,
        endless: bool = False,
    ) -> None:
        super().__init__(examples, n_devices, rank, seed=seed, drop_last=True)
        self.set_epoch(epoch)
        self.flip, self.endless, self._count = flip, endless, len(examples)  # type: ignore[arg-type]
        self._serving, self._served, self._skip = epoch, 0, 0

    def __iter__(self) -> Iterator[int]:
        shift = self._mirrored() if self.flip else [0] * self._count
        if self.endless:
            shift = [self.epoch * self._count] * self._count
        order = list(super().__iter__())
        self._serving, self._served, self._skip = self.epoch, self._skip, 0
        self.set_epoch(self.epoch + 1)
        for index in order[self._served :]:
            self._served += 1
            yield index + shift[index]

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self._serving, "served": self._served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.set_epoch(state["epoch"])
        self._skip = state["served"]

    def _mirrored(self) -> list[int]:
        # Apart from the seeds seed + epoch of the order itself.
        draws = torch.Generator().manual_seed(2**40 + self.seed + self.epoch)
        return (self._count * torch.randint(2, (self._count,), generator=draws)).tolist()


class Data(LightningDataModule, abc.ABC):
    """Base of all sets.

    Args:
        batch_size: Examples per device and step.
        num_workers: Loader processes.
        flip: Mirror training examples left to right at random.

    Attributes:
        shape: Channels, height and width, known before `setup`.
        examples: What they are called in messages.
        endless: Every epoch of training has examples of its own.
    """

    shape: tuple[int, int, int]
    examples = "examples"
    endless = False

    def __init__(self, batch_size: int = 64, num_workers: int = 0, flip: bool = False) -> None:
        super().__init__()
        check_counts(1, batch_size=batch_size)
        check_counts(0, num_workers=num_workers)
        self.batch_size, self.num_workers, self.flip = batch_size, num_workers, flip
        self._datasets: dict[Split, Dataset[Any]] = {}

    @abc.abstractmethod
    def dataset(self, split: Split) -> Dataset[Any]:
        """The examples of that split, in an order that never changes.

        It has `__len__` and `__getitems__(indices)`, which returns a whole batch.
        """

    def __getstate__(self) -> dict[str, Any]:
        # Data sets go to spawned workers with what they read from; the trainer must not.
        return {**self.__dict__, "trainer": None}

    def setup(self, stage: str) -> None:
        for split in STAGES[stage]:
            if split not in self._datasets:
                self._datasets[split] = self.dataset(split)

    def train_dataloader(self) -> StatefulDataLoader[Any]:
        """Shuffled anew each epoch, without the incomplete last batch.

        Raises:
            InputError: A batch on every device is more than the training set.
        """
        count = len(self._ready("train"))  # type: ignore[arg-type]
        devices = self.trainer.world_size if self.trainer else 1
        if self.batch_size * devices > count:
            raise InputError(
                f"got batch_size {self.batch_size} on {devices} device(s), but there are only "
                f"{count} training {self.examples}; lower data.batch_size to {count // devices} "
                "or less"
            )
        return self._loader("train", self._shuffle())

    def val_dataloader(self) -> StatefulDataLoader[Any]:
        return self._loader("val")

    def test_dataloader(self) -> StatefulDataLoader[Any]:
        return self._loader("test")

    def predict_dataloader(self) -> StatefulDataLoader[Any]:
        return self._loader("test")

    def _ready(self, split: Split) -> Dataset[Any]:
        if split not in self._datasets:
            stage = next(s for s, splits in STAGES.items() if split in splits)
            raise InputError(
                f"the {split} {self.examples} aren't loaded yet; call setup('{stage}') first"
            )
        return self._datasets[split]

    def _shuffle(self) -> Shuffle:
        trainer = self.trainer
        n_devices, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # set by seed_everything
        # The number that Lightning gives samplers; current_epoch lags behind it after a resume.
        progress = trainer.fit_loop.epoch_progress.current if trainer else None
        epoch = getattr(progress, "processed", 0)
        return Shuffle(self._ready("train"), self.flip, n_devices, rank, seed, epoch, self.endless)

    def _loader(
        self, split: Split, sampler: Sampler[int] | None = None
    ) -> StatefulDataLoader[Any]:
        # By name: Lightning builds the loader again with other samplers, beside these arguments.
        return StatefulDataLoader(
            self._ready(split),
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=sampler is not None,
            num_workers=self.num_workers,
            collate_fn=as_served,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            # Else each pass would draw a seed from the global state, before a resume restores it.
            generator=torch.Generator().manual_seed(0),
        )
