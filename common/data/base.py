"""Base class of all data sets of images and videos.

A subclass says where the examples come from. The base class serves them in whole batches. Seed and
epoch alone determine the order, so a resumed run gets exactly the batches that were left.
"""

import abc
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from typing import Any, Literal

import torch
from lightning_fabric.utilities.seed import pl_worker_init_function
from pytorch_lightning import LightningDataModule
from torch.utils.data import Dataset, DistributedSampler, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from common.errors import InputError, check_counts
from common.signals import STOPPING

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

STAGES: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


def as_served(batch: Any) -> Any:
    """Collate function for data sets that return whole batches: the identity."""
    return batch


class Shuffle(DistributedSampler[int]):
    """Sampler of the shuffled training indices of one device, with random mirroring.

    In a set of `n` examples, index `n + i` means the mirror image of example `i`. An endless set
    has no mirror images. Its epoch `e` has the new examples `e n … e n + n - 1`.

    Seed and epoch alone determine the order and the mirroring. The reason: Lightning drops the
    state of the loader at the end of an epoch, and it announces the epoch only after the workers
    have received their first indices.

    Args:
        examples: Data set to draw from.
        flip: Replace each example by its mirror image with probability one half.
        n_devices: Number of devices that share an epoch.
        rank: Number of this device, from 0.
        seed: Random seed, the same on all devices.
        epoch: Number of the first epoch; each pass over the sampler adds 1.
        endless: Use new examples in each epoch.
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
        # The order itself uses the seeds seed + epoch; these seeds must be different ones.
        draws = torch.Generator().manual_seed(2**40 + self.seed + self.epoch)
        return (self._count * torch.randint(2, (self._count,), generator=draws)).tolist()


class Data(LightningDataModule, abc.ABC):
    """Base class of all data sets.

    A subclass takes these arguments as `**serving` and passes them on by name. It names only the
    arguments that it adds, or whose default it changes. Where an argument makes no sense for a
    set, the subclass fixes it in its `super().__init__` call: then the command line neither shows
    nor accepts it.

    Args:
        batch_size: Number of examples per device and step.
        num_workers: Number of worker processes of each data loader.
        flip: Mirror training examples left to right with probability one half.

    Attributes:
        shape: Channels, height and width of an example, known before `setup`.
        examples: Plural noun for the examples, used in error messages.
        endless: Whether each training epoch has examples of its own.
    """

    shape: tuple[int, int, int]
    examples = "examples"
    endless = False

    def __init__(self, batch_size: int = 64, num_workers: int = 0, flip: bool = False) -> None:
        super().__init__()
        check_counts(1, batch_size=batch_size)
        check_counts(0, num_workers=num_workers)
        self.batch_size, self.num_workers, self.flip = batch_size, num_workers, flip
        self._datasets: dict[str, Dataset[Any]] = {}

    @abc.abstractmethod
    def dataset(self, split: Split) -> Dataset[Any]:
        """Map-style data set of one split, in an order that never changes.

        The data set has `__len__` and `__getitems__(indices)`, which returns a whole batch. It
        holds what it reads from, never this DataModule: workers receive a copy of the data set.
        """

    def setup(self, stage: str) -> None:
        for split in STAGES[stage]:
            if split not in self._datasets:
                self._datasets[split] = self.dataset(split)

    def train_dataloader(self) -> StatefulDataLoader[Any]:
        """Training loader: shuffled in each epoch, without the incomplete last batch.

        Raises:
            InputError: One batch for every device needs more examples than the training set has.
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

    def _ready(self, split: str) -> Dataset[Any]:
        if split not in self._datasets:
            stage = next((s for s, splits in STAGES.items() if split in splits), split)
            raise InputError(
                f"the {split} {self.examples} aren't loaded yet; call setup('{stage}') first"
            )
        return self._datasets[split]

    def _shuffle(self) -> Shuffle:
        trainer = self.trainer
        n_devices, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # set by seed_everything
        # Lightning gives samplers this number; after a resume current_epoch is one behind it.
        progress = trainer.fit_loop.epoch_progress.current if trainer else None
        epoch = getattr(progress, "processed", 0)
        return Shuffle(self._ready("train"), self.flip, n_devices, rank, seed, epoch, self.endless)

    def _loader(self, split: str, sampler: Sampler[int] | None = None) -> StatefulDataLoader[Any]:
        # Arguments by name: Lightning rebuilds the loader from them with another sampler.
        return StatefulDataLoader(
            self._ready(split),
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=sampler is not None,
            num_workers=self.num_workers,
            collate_fn=as_served,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            # Without it, each pass draws a seed from the global random state, and does so before
            # a resume has restored that state.
            generator=torch.Generator().manual_seed(0),
            worker_init_fn=_begin_worker,
        )


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raises an `InputError` if a share is below 0, or both together are 1 or more."""
    if not (min(val_fraction, test_fraction) >= 0 and val_fraction + test_fraction < 1):
        raise InputError(
            f"got val_fraction {val_fraction} and test_fraction {test_fraction}; give 0 or more "
            "each and less than 1 together"
        )


def _begin_worker(worker: int) -> None:
    """Makes a data worker live as long as the process that it works for, and end without a word.

    Schedulers and Ctrl-C signal all processes: the workers would be gone before the training has
    saved its state. If that process ends first, a transfer to it may break off.
    """
    pl_worker_init_function(worker)  # Lightning's own seeds, which it sets only in its place
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    sys.excepthook = _tell_unless_left


def _tell_unless_left(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if not isinstance(error, EOFError | ConnectionError | AuthenticationError):
        sys.__excepthook__(kind, error, trace)
