"""Rows of an array in an npz or HDF5 file, which may be larger than memory."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common.data.formats.arrays import layout, loaded, opened
from common.errors import extra
from common.progress import Progress

ROWS_AT_ONCE = 4096  # rows in memory at once: 50 MB of colour images of 64x64


def array_layout(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array; nothing else of it is read.

    Raises:
        InputError: There is no such file or array, or the file is damaged.
    """

    def found() -> tuple[tuple[int, ...], np.dtype[Any]]:
        if path.suffix == ".npz":
            return layout(path, key)[:2]
        with _hdf5_file(path) as file:
            return file[key].shape, file[key].dtype

    return loaded(path, found)


def array_rows(path: Path, key: str, rows: np.ndarray) -> np.ndarray:
    """Rows of an array with these indices, in ascending order.

    A compressed array is read in blocks from its beginning, so ask once for all rows that are
    needed; an uncompressed array in an npz file is memory-mapped.

    Raises:
        InputError: There is no such file or array, or the file is damaged.
    """
    read = _npz_rows if path.suffix == ".npz" else _hdf5_rows
    return loaded(path, lambda: read(path, key, rows))


def _hdf5_rows(path: Path, key: str, rows: np.ndarray) -> np.ndarray:
    with _hdf5_file(path) as file:
        array = file[key]
        # Whole chunks, each unpacked once: array[rows] of h5py takes up to seven times as long.
        chunk = array.chunks[0] if array.chunks else 1
        size = chunk * max(1, ROWS_AT_ONCE // chunk)
        return _gathered(lambda start: array[start : start + size], rows, size, path)


def _hdf5_file(path: Path) -> Any:
    with extra("files"):
        import h5py
    return h5py.File(path)


def _npz_rows(path: Path, key: str, rows: np.ndarray) -> np.ndarray:
    shape, dtype, offset = layout(path, key)
    if offset is not None:
        return np.memmap(path, dtype, "r", offset, shape)[rows]
    with opened(path, key) as (member, _, by_column, _):
        if by_column:
            raise ValueError(f"{key} is stored column by column")
        row = math.prod(shape[1:])

        def block(start: int) -> np.ndarray:
            count = min(ROWS_AT_ONCE, shape[0] - start)
            data = member.read(count * row * dtype.itemsize)
            return np.frombuffer(data, dtype).reshape(count, *shape[1:])

        return _gathered(block, rows, ROWS_AT_ONCE, path)


def _gathered(
    block: Callable[[int], np.ndarray], rows: np.ndarray, size: int, path: Path
) -> np.ndarray:
    """Rows asked for, read block by block of `size` rows from `start` on."""
    kept = []
    for start in Progress(range(0, rows[-1] + 1, size), f"Reading {path.name}"):
        first, end = np.searchsorted(rows, (start, start + size))
        kept.append(block(start)[rows[first:end] - start])
    return np.concatenate(kept)
