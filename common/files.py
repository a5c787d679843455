"""Files: written whole or not at all, and read as data, never as code."""

import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from common.errors import InputError


@contextmanager
def written_whole(path: str | Path, keep: Path | None = None) -> Iterator[Path]:
    """Context that gives a temporary file, which takes the name `path` at the end of the context.

    The temporary file is in the same folder, so the last step is an atomic rename: a process that
    is killed, or a full disk, leaves the earlier file as it was.

    Args:
        path: File to write; its folder is made if there is none.
        keep: File under which the earlier file is kept. None: it is replaced.

    Raises:
        OSError: The file can't be written; the earlier file is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        _flush(temporary)
        if keep is not None and path.exists():
            _link(path, keep)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def read_torch(path: str | Path) -> Any:
    """Tensors and plain data of a file that `torch.save` wrote, on the CPU. No code runs.

    Raises:
        InputError: There is no such file, it is damaged, or it holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the path of a local file")
    try:
        _check_size(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise any exception
        raise InputError(f"{path} can't be read: {_why(error)}") from error


def _check_size(path: Path) -> None:
    """Refuses an archive that would take more memory than its file is large."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
        if declared > path.stat().st_size:
            raise ValueError("larger inside than outside")


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"it holds {named[1]}, which would run code"
    return "it is damaged, or no file of tensors and plain data"


def _link(path: Path, keep: Path) -> None:
    """Gives a file a second name, in one step; moves it where the file system has no links."""
    second = keep.with_name(f".{keep.name}.{os.getpid()}.partial")
    try:
        os.link(path, second)
        second.replace(keep)
    except OSError:
        second.unlink(missing_ok=True)
        path.replace(keep)


def _flush(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
