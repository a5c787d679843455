"""MNIST and CIFAR-10 from their official files, as downloaded."""

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

from common.data.base import ImageData, Split
from common.errors import InputError
from common.typing import Pixels


class DownloadedImages(ImageData):
    """Base of the sets that come as a training and a test set in files.

    Part of the training set is held out for validation; the test set is the official one.

    Args:
        root: Folder of the files.
        val_fraction: Part of the training images held out, more than 0 and less than 1.
        split_seed: Seed of that choice, kept apart from the training seed.
        batch_size: Images per device and step.
        num_workers: Loader processes.
        flip: Mirror training images left to right at random.
    """

    def __init__(
        self,
        root: str | Path,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 64,
        num_workers: int = 0,
        flip: bool = False,
    ) -> None:
        super().__init__(batch_size, num_workers, flip)
        if not 0 < val_fraction < 1:
            raise InputError(f"got val_fraction {val_fraction}; give more than 0 and less than 1")
        self.root, self.val_fraction, self.split_seed = Path(root), val_fraction, split_seed

    @abc.abstractmethod
    def official(self, train: bool) -> Pixels:
        """The official training or test images, in the order of the files."""

    def images(self, split: Split) -> Pixels:
        images = self.official(train=split != "test")
        if split == "test":
            return images
        n_val = round(len(images) * self.val_fraction)
        if not 0 < n_val < len(images):
            raise InputError(
                f"got val_fraction {self.val_fraction} of {len(images)} training images, which "
                "leaves none on one side; change data.val_fraction"
            )
        seeded = torch.Generator().manual_seed(self.split_seed)
        order = torch.randperm(len(images), generator=seeded)
        return images[order[:n_val] if split == "val" else order[n_val:]]


class MNIST(DownloadedImages):
    """MNIST from its idx files, plain or gzipped, in `root` or `root/MNIST/raw`."""

    shape = (1, 28, 28)

    def official(self, train: bool) -> Pixels:
        name = f"{'train' if train else 't10k'}-images-idx3-ubyte"
        advice = "download train-images-idx3-ubyte.gz and t10k-images-idx3-ubyte.gz of MNIST"
        folders = (self.root, self.root / "MNIST" / "raw")
        return _idx_images(_find(folders, (name, f"{name}.gz"), advice))


class CIFAR10(DownloadedImages):
    """CIFAR-10 from its Python batches in `root` or `root/cifar-10-batches-py`."""

    shape = (3, 32, 32)

    def official(self, train: bool) -> Pixels:
        names = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
        advice = "download the Python version of CIFAR-10 and unpack cifar-10-batches-py"
        folders = (self.root, self.root / "cifar-10-batches-py")
        return torch.cat([_batch_images(_find(folders, (name,), advice)) for name in names])


def _find(folders: tuple[Path, ...], names: tuple[str, ...], advice: str) -> Path:
    for path in (folder / name for folder in folders for name in names):
        if path.expanduser().is_file():
            return path.expanduser()
    places = " or ".join(map(str, folders))
    raise InputError(f"found no {' or '.join(names)} in {places}; {advice} there")


def _idx_images(path: Path) -> Pixels:
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            data = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} isn't a whole gzip file ({error}); download it again") from error
    if len(data) < 16:
        raise InputError(f"{path} has {len(data)} bytes, its header alone 16; download it again")
    magic, count, height, width = struct.unpack(">4I", data[:16])
    if magic != 2051:
        raise InputError(
            f"{path} starts with {magic}, a file of images with 2051 (one of labels with 2049); "
            "put the images there"
        )
    if (height, width) != (28, 28):
        raise InputError(f"{path} holds images of {height}x{width}, MNIST's are 28x28")
    if count < 1 or len(data) != 16 + count * 784:
        raise InputError(
            f"{path} should have {16 + count * 784} bytes for its {count} images and has "
            f"{len(data)}; download it again"
        )
    pixels = np.frombuffer(data, np.uint8, offset=16).reshape(count, 1, 28, 28)
    return torch.from_numpy(pixels.copy())


class _ArraysOnly(pickle.Unpickler):
    """Builds arrays, strings, lists and dictionaries and calls nothing else."""

    ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        # Files of Python 2 say numpy.core, those saved with numpy 2 numpy._core.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.ALLOWED[module, name]


def _batch_images(path: Path) -> Pixels:
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
    except Exception as error:  # a broken pickle may raise anything
        raise InputError(
            f"{path} isn't a Python batch of CIFAR-10 ({error}); unpack the archive again"
        ) from error
    pixels = batch.get(b"data") if isinstance(batch, dict) else None
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise InputError(f"{path} holds no bytes under 'data'; unpack the archive again")
    if pixels.ndim != 2 or len(pixels) < 1 or pixels.shape[1] != 3072:
        raise InputError(
            f"{path} holds an array of shape {pixels.shape}, CIFAR-10's are (n, 3072): "
            "3 channels of 32x32; unpack the archive again"
        )
    return torch.from_numpy(pixels.reshape(-1, 3, 32, 32).copy())
