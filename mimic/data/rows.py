"""Some rows of an array that may be too large for memory, from an npz or an HDF5 file."""

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.lib import format as npy
from tqdm import tqdm

from common.data.formats.arrays import layout, loaded

BLOCK = 4096  # rows in memory at once: 50 MB of colour images of 64x64


def array_layout(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array, of which nothing else is read.

    Raises:
        InputError: There is no such file or array, or the file is damaged.
    """
    return loaded(path, lambda: _hdf5_layout(path, key) if _hdf5(path) else layout(path, key)[:2])


def array_rows(path: Path, key: str, rows: np.ndarray) -> np.ndarray:
    """The rows of these numbers, which ascend.

    A compressed array is read in blocks from its beginning, so ask once for all rows that are
    needed; an uncompressed one in an npz file is mapped.

    Raises:
        InputError: There is no such file or array, or the file is damaged.
    """
    return loaded(path, lambda: (_hdf5_rows if _hdf5(path) else _npz_rows)(path, key, rows))


def _hdf5(path: Path) -> bool:
    return path.suffix != ".npz"


def _hdf5_layout(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with h5py.File(path) as file:
        return file[key].shape, file[key].dtype


def _hdf5_rows(path: Path, key: str, rows: np.ndarray) -> np.ndarray:
    with h5py.File(path) as file:
        array = file[key]
        # Whole chunks, each unpacked once: h5py takes up to seven times as long for array[rows].
        chunk = array.chunks[0] if array.chunks else 1
        size = chunk * max(1, BLOCK // chunk)
        return _gathered(lambda start: array[start : start + size], rows, size, path)


def _npz_rows(path: Path, key: str, rows: np.ndarray) -> np.ndarray:
    shape, dtype, offset = layout(path, key)
    if offset is not None:
        return np.memmap(path, dtype, "r", offset, shape)[rows]
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
        old = npy.read_magic(member) == (1, 0)
        _, by_column, _ = (npy.read_array_header_1_0 if old else npy.read_array_header_2_0)(member)
        if by_column:
            raise ValueError(f"{key} is stored column by column")
        row = math.prod(shape[1:])

        def block(start: int) -> np.ndarray:
            count = min(BLOCK, shape[0] - start)
            data = member.read(count * row * dtype.itemsize)
            return np.frombuffer(data, dtype).reshape(count, *shape[1:])

        return _gathered(block, rows, BLOCK, path)


def _gathered(
    block: Callable[[int], np.ndarray], rows: np.ndarray, size: int, path: Path
) -> np.ndarray:
    """Reads block after block, of `size` rows from `start` on, and keeps the rows asked for."""
    kept = []
    # The bar appears only where reading takes more than two seconds.
    for start in tqdm(range(0, rows[-1] + 1, size), f"reading {path.name}", leave=False, delay=2):
        first, end = np.searchsorted(rows, (start, start + size))
        kept.append(block(start)[rows[first:end] - start])
    return np.concatenate(kept)
