"""Files of numpy arrays."""

import math
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from common.data.formats.footage import Footage
from common.errors import InputError

MOST_BYTES = 2**32  # of an array that is unpacked as a whole
_HEADERS = threading.Lock()  # ast.literal_eval of Python before 3.11.8 fails in several threads


class ArrayFile(Footage):
    """Video in an npz file: its array `image`, `uint8 [t 64 64 3]`.

    An uncompressed file is mapped into memory and read in parts; a compressed file is read as a
    whole for each clip.

    Raises:
        InputError: There is no such file, it is damaged, or the array has another type or shape.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.path = str(path), path
        shape, dtype, self._offset = loaded(path, lambda: layout(path, "image"))
        if dtype != np.uint8 or shape[1:] != (64, 64, 3):
            raise InputError(
                f"{path} holds an image of {dtype} {shape}, not uint8 (t, 64, 64, 3); make it "
                "again"
            )
        if self._offset is None and math.prod(shape) > MOST_BYTES:
            raise InputError(
                f"{path} holds an image of {shape}, more than {MOST_BYTES} bytes; make it again, "
                "without compression"
            )
        self._shape = shape

    def __len__(self) -> int:
        return self._shape[0]

    def read(self, frames: range) -> np.ndarray:
        if self._offset is None:
            pixels = loaded(self.path, lambda: member(self.path, "image"))
        else:
            mapped = lambda: np.memmap(self.path, np.uint8, "r", self._offset, self._shape)
            pixels = loaded(self.path, mapped)
        wanted = pixels[frames.start : frames.stop : frames.step]
        return np.array(np.moveaxis(wanted, -1, 1))


class StackedVideo(Footage):
    """One of the videos of equal length in an npy file, `[n t c h w]`; it is read in parts.

    Args:
        path: The file.
        number: Number of the video, from 0.

    Raises:
        InputError: There is no such file, or it is damaged.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.name, self.path = f"video {number} of {path}", path
        videos = mapped(path)
        self._shape, self._dtype = videos.shape[1:], videos.dtype
        self._frame = math.prod(self._shape[1:])  # numbers of a frame
        first = number * self._shape[0] * self._frame
        self._offset = videos.offset + first * self._dtype.itemsize

    def __len__(self) -> int:
        return self._shape[0]

    def read(self, frames: range) -> np.ndarray:
        # Not from a mapped array: that one, sent to a worker, would become a copy of the file.
        offset = self._offset + frames.start * self._frame * self._dtype.itemsize
        span = frames[-1] + 1 - frames.start
        count, shape = span * self._frame, (span, *self._shape[1:])
        part = lambda: np.fromfile(self.path, self._dtype, count, offset=offset).reshape(shape)
        return loaded(self.path, part)[:: frames.step]


def mapped(path: Path) -> np.memmap[Any, Any]:
    """Array of an npy file, mapped into memory: only what is used is read.

    Raises:
        InputError: There is no such file, or it is damaged.
    """
    with _HEADERS:
        return loaded(path, lambda: np.load(path, "r", allow_pickle=False))


def loaded(path: Path, read: Callable[[], Any]) -> Any:
    """Result of `read()`, a function that reads an array file.

    Args:
        path: The file, used in error messages.
        read: Function that reads the file.

    Raises:
        InputError: There is no such file, it is damaged, or it lacks the array.
    """
    if not path.is_file():
        raise InputError(f"found no file {path}; give the path of the downloaded one")
    try:
        return read()
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path} lacks an array: {error.args[0]}; give another file") from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise InputError(
            f"{path} isn't a whole array file ({error}); download or make it again"
        ) from error


def member(path: Path, key: str) -> np.ndarray:
    """Array of the name `key` in an npz file."""
    with opened(path, key) as (file, shape, fortran, dtype):
        if math.prod(shape) * dtype.itemsize > MOST_BYTES:
            raise ValueError(f"{key} has shape {shape}, more than {MOST_BYTES} bytes")
        values = np.frombuffer(bytearray(file.read()), dtype)
        return values.reshape(shape, order="F" if fortran else "C")


def layout(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype[Any], int | None]:
    """Shape, type and byte offset of the array of the name `key` in an npz file.

    The offset is the position of the first array byte in the file. None: the array is compressed
    or in Fortran order, so it cannot be mapped.
    """
    with opened(path, key) as (member, shape, fortran, dtype):
        after = member.tell()
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{key}.npy")
    if info.compress_type != zipfile.ZIP_STORED or fortran:
        return shape, dtype, None
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)  # lengths of the name and of the extra field
        lengths = struct.unpack("<HH", file.read(4))
    return shape, dtype, info.header_offset + 30 + sum(lengths) + after


@contextmanager
def opened(
    path: Path, key: str
) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]]:
    """File of the array `key` in an npz file, at its first byte, with the array's layout.

    Yields:
        The file, the shape, whether the array is in Fortran order, and its type.
    """
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
        version = np.lib.format.read_magic(member)
        head = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        with _HEADERS:
            layout = head(member)
        yield (member, *layout)
