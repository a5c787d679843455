"""Files: written whole or not at all, and read as data, never as code."""

import itertools
import os
import pickletools
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from common.errors import InputError, check_output

# What tensors and plain data are made of. PyTorch trusts more, such as `bytearray`, which can ask
# for any amount of memory.
PLAIN_NAMES = (
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|(__builtin__|builtins)\.(set|complex)"
    r"|torch\._utils\._rebuild_(tensor(_v2)?|parameter)"
    r"|torch(\.storage)?\.\w*Storage|torch\.(device|bool|(float|bfloat|int|uint|complex)\d+)"
)


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
            _duplicate(path, keep)
        temporary.replace(path)
        with suppress(OSError):  # not all file systems can do it for a folder
            _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def check_new(path: str | Path, *endings: str) -> None:
    """Checks that a new file can be written (see `check_output`), which replaces no other one.

    Raises:
        InputError: The file exists, or can't be written.
    """
    check_output(path, *endings)
    if Path(path).exists():
        raise InputError(f"{shown(path)} exists; give another file as out, or remove it")


def free_path(path: Path, *endings: str) -> Path:
    """The path, or the first of `name-2`, `name-3` and so on with which no file is replaced.

    Args:
        path: Path of a file.
        endings: The path is without an ending, and there must be no file of this name with any of
            these endings. None given: the path has its ending.
    """
    base, each = (path, endings) if endings else (path.with_suffix(""), (path.suffix,))
    names = itertools.chain([base.name], (f"{base.name}-{k}" for k in itertools.count(2)))
    free = next(n for n in names if not any((base.parent / f"{n}{e}").exists() for e in each))
    return path.with_name(free if endings else free + path.suffix)


def read_torch(path: str | Path) -> Any:
    """Tensors and plain data of a file that `torch.save` wrote, on the CPU. No code runs.

    Raises:
        InputError: There is no such file, it is damaged, or it holds anything else.
    """
    if not is_file(path):
        raise InputError(f"there is no file {shown(path)}; give the path of a local file")
    try:
        with Path(path).open("rb") as file:
            check_content(file)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise any exception
        raise InputError(
            f"{shown(path)} can't be read: {_why(error)}; take another file"
        ) from error


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, on the CPU, and metadata of a safetensors file.

    Raises:
        InputError: There is no such file, or it is damaged.
    """
    if not is_file(path):
        raise InputError(f"there is no file {shown(path)}; give the path of a local file")
    try:
        with safe_open(path, framework="pt") as file:
            # Copies, because the tensors are the file itself, which may change.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except Exception as error:  # a damaged file may raise any exception
        raise InputError(
            f"{shown(path)} can't be read: it is damaged, or no safetensors file; take another "
            "file"
        ) from error


def is_file(path: str | Path) -> bool:
    """True if the path is that of an existing file; False also for a path that can't exist."""
    try:
        return Path(path).is_file()
    except OSError:  # such as that of a name that is too long
        return False


def shown(text: str | Path) -> str:
    """Short, printable form of a path or name for a message."""
    text = str(text)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 300 else f"{text[:300]}…"


def is_ordinary(x: Any) -> bool:
    """True for a dense tensor whose storage holds a separate number for every entry."""
    if not isinstance(x, Tensor) or x.is_nested or x.is_quantized or x.is_meta:
        return False
    if x.layout != torch.strided:
        return False
    # A small file could claim a huge tensor whose entries are all the same number.
    return x.numel() * x.element_size() <= x.untyped_storage().nbytes()


def check_content(file: BufferedIOBase) -> None:
    """Checks that a file of `torch.save` holds tensors and plain data, without reading them.

    Raises:
        ValueError: It holds anything else, or would take more memory than the file is large.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not zipfile.is_zipfile(file):
        file.seek(0)
        for _ in range(5):  # pickles, and then numbers, in files of PyTorch before 1.6
            _check_names(file)
        return
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("larger inside than outside")
        for entry in entries:
            if entry.filename.lower().endswith("data.pkl"):
                _check_names(archive.read(entry))


def _check_names(pickled: Any) -> None:
    """Refuses a pickle that calls anything but what tensors and plain data are made of."""
    for operation, argument, _ in pickletools.genops(pickled):
        name = str(argument).replace(" ", ".") if operation.name == "GLOBAL" else None
        if operation.name == "STACK_GLOBAL":  # torch.save writes none
            name = "an.object"
        if name is not None and not re.fullmatch(PLAIN_NAMES, name):
            raise ValueError(f"GLOBAL {name}")


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"it holds {named[1]}, which is no plain data and may run code"
    return "it is damaged, or no file of tensors and plain data"


def _duplicate(path: Path, keep: Path) -> None:
    """Gives a file a second name, in one step; copies it where the file system has no links."""
    second = keep.with_name(f".{keep.name}.{os.getpid()}.partial")
    second.unlink(missing_ok=True)
    try:
        os.link(path, second)
    except OSError:
        shutil.copyfile(path, second)
    second.replace(keep)
    second.unlink(missing_ok=True)  # still there if both were names of one file


def _flush(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
