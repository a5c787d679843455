"""MNIST and CIFAR-10, read from their official files."""

import abc
import gzip
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from common.data.base import Split
from common.data.images.base import ImageData
from common.errors import InputError
from common.typing import Integers, Pixels

MOST_BYTES = 2**26  # of a file of MNIST, whose largest has 47 MB


class DownloadedImages(ImageData):
    """Base class of the sets that come as files of training images and of test images.

    A random part of the training images is held out for validation. The test set is the official
    one.

    Args:
        root: Folder of the files.
        val_fraction: Share of the training images for validation, above 0 and below 1.
        split_seed: Random seed of the validation part, independent of the training seed.
    """

    def __init__(
        self,
        root: str | Path,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        **serving: Any,
    ) -> None:
        super().__init__(**serving)
        if not 0 < val_fraction < 1:
            raise InputError(f"got val_fraction {val_fraction}; give more than 0 and less than 1")
        self.root, self.val_fraction, self.split_seed = Path(root), val_fraction, split_seed
        self._images: dict[Split, Pixels] = {}

    @abc.abstractmethod
    def official(self, train: bool) -> Pixels:
        """All official training images or test images, in the order of the files."""

    @abc.abstractmethod
    def official_labels(self, train: bool) -> Integers:
        """Classes of the `official` images from 0 to 9, `int64 [n]`, in the same order."""

    def images(self, split: Split) -> Pixels:
        if split not in self._images:
            images = self.official(train=split != "test")
            self._images[split] = images[self._indices(split, len(images))]
        return self._images[split]

    def labels(self, split: Split) -> Integers:
        """Classes of the images from 0 to 9, `int64 [n]`, in the order of `images`."""
        labels = self.official_labels(train=split != "test")
        return labels[self._indices(split, len(labels))]

    def _indices(self, split: Split, count: int) -> Integers | slice:
        """Indices of the images of a split among its official ones."""
        if split == "test":
            return slice(None)
        n_val = round(count * self.val_fraction)
        if not 0 < n_val < count:
            raise InputError(
                f"got val_fraction {self.val_fraction} of {count} training images, which "
                "leaves none on one side; change data.val_fraction"
            )
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.split_seed))
        return order[:n_val] if split == "val" else order[n_val:]


class MNIST(DownloadedImages):
    """MNIST, read from its idx files (plain or gzipped) in `root` or `root/MNIST/raw`."""

    shape = (1, 28, 28)

    def official(self, train: bool) -> Pixels:
        return _idx_images(self._path(train, "images-idx3-ubyte"))

    def official_labels(self, train: bool) -> Integers:
        path = self._path(train, "labels-idx1-ubyte")
        labels, n_images = _idx_labels(path), len(self.official(train))
        if len(labels) != n_images:
            raise InputError(
                f"{path} holds {len(labels)} labels for {n_images} images; download both files "
                "again"
            )
        return labels

    def _path(self, train: bool, kind: str) -> Path:
        name = f"{'train' if train else 't10k'}-{kind}"
        advice = f"download train-{kind}.gz and t10k-{kind}.gz of MNIST"
        folders = (self.root, self.root / "MNIST" / "raw")
        return _first_file(folders, (name, f"{name}.gz"), advice)


class CIFAR10(DownloadedImages):
    """CIFAR-10, read from its Python batches in `root` or `root/cifar-10-batches-py`."""

    shape = (3, 32, 32)

    def official(self, train: bool) -> Pixels:
        return torch.cat([_batch_images(path) for path in self._paths(train)])

    def official_labels(self, train: bool) -> Integers:
        return torch.cat([_batch_labels(path) for path in self._paths(train)])

    def _paths(self, train: bool) -> list[Path]:
        names = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
        advice = "download the Python version of CIFAR-10 and unpack cifar-10-batches-py"
        folders = (self.root, self.root / "cifar-10-batches-py")
        return [_first_file(folders, (name,), advice) for name in names]


def _first_file(folders: tuple[Path, ...], names: tuple[str, ...], advice: str) -> Path:
    """First existing file with one of the names in one of the folders."""
    for path in (folder / name for folder in folders for name in names):
        if path.expanduser().is_file():
            return path.expanduser()
    places = " or ".join(map(str, folders))
    raise InputError(f"found no {' or '.join(names)} in {places}; {advice} there")


def _file_bytes(path: Path, header: int) -> bytes:
    """Bytes of a plain or gzipped file, checked to be at least the `header` bytes long.

    No more than `MOST_BYTES` are unpacked.
    """
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} isn't a whole gzip file ({error}); download it again") from error
    if len(data) > MOST_BYTES:
        raise InputError(
            f"{path} holds more than {MOST_BYTES} bytes, which no file of MNIST does; download it "
            "again"
        )
    if len(data) < header:
        raise InputError(
            f"{path} has {len(data)} bytes, but its header alone needs {header}; download it again"
        )
    return data


def _idx_images(path: Path) -> Pixels:
    data = _file_bytes(path, header=16)
    magic, count, height, width = struct.unpack(">4I", data[:16])
    if magic != 2051:
        raise InputError(
            f"{path} starts with {magic}, but a file of images starts with 2051 (a file of labels "
            "with 2049); put the images there"
        )
    if (height, width) != (28, 28):
        raise InputError(
            f"{path} holds images of {height}x{width}, but those of MNIST are 28x28; put the "
            "files of MNIST there"
        )
    if count < 1 or len(data) != 16 + count * 784:
        raise InputError(
            f"{path} should have {16 + count * 784} bytes for its {count} images and has "
            f"{len(data)}; download it again"
        )
    pixels = np.frombuffer(data, np.uint8, offset=16).reshape(count, 1, 28, 28)
    return torch.from_numpy(pixels.copy())


def _idx_labels(path: Path) -> Integers:
    data = _file_bytes(path, header=8)
    magic, count = struct.unpack(">2I", data[:8])
    if magic != 2049:
        raise InputError(
            f"{path} starts with {magic}, but a file of labels starts with 2049 (a file of images "
            "with 2051); put the labels there"
        )
    if count < 1 or len(data) != 8 + count:
        raise InputError(
            f"{path} should have {8 + count} bytes for its {count} labels and has {len(data)}; "
            "download it again"
        )
    labels = np.frombuffer(data, np.uint8, offset=8)
    if labels.max() > 9:
        raise InputError(
            f"{path} holds a label {labels.max()}, but those of MNIST are 0 to 9; download it "
            "again"
        )
    return torch.from_numpy(labels.astype(np.int64))


class _ArraysOnly(pickle.Unpickler):
    """Safe unpickler: builds arrays, strings, lists and dictionaries, and calls nothing else."""

    ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        # Files of Python 2 name the module numpy.core, files of numpy 2 name it numpy._core.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.ALLOWED[module, name]


def _batch(path: Path) -> dict[Any, Any]:
    """Content of a Python batch of CIFAR-10, with checked images."""
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
    except Exception as error:  # a broken pickle can raise any exception
        raise InputError(
            f"{path} isn't a Python batch of CIFAR-10 ({error}); unpack the archive again"
        ) from error
    pixels = batch.get(b"data") if isinstance(batch, dict) else None
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise InputError(f"{path} holds no bytes under 'data'; unpack the archive again")
    if pixels.ndim != 2 or len(pixels) < 1 or pixels.shape[1] != 3072:
        raise InputError(
            f"{path} holds an array of shape {pixels.shape}, but those of CIFAR-10 are (n, 3072): "
            "3 channels of 32x32; unpack the archive again"
        )
    return batch


def _batch_images(path: Path) -> Pixels:
    return torch.from_numpy(_batch(path)[b"data"].reshape(-1, 3, 32, 32).copy())


def _batch_labels(path: Path) -> Integers:
    batch = _batch(path)
    labels, count = batch.get(b"labels"), len(batch[b"data"])
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise InputError(
            f"{path} holds no list of numbers under 'labels'; unpack the archive again"
        )
    if len(labels) != count or not set(labels) <= set(range(10)):
        raise InputError(
            f"{path} holds {len(labels)} labels from {min(labels, default=0)} to "
            f"{max(labels, default=0)} for {count} images; CIFAR-10 has one label from 0 to 9 for "
            "each image; unpack the archive again"
        )
    return torch.tensor(labels)
