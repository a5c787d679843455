"""Files of computed data sets, kept on the disk so that each is computed once."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import InputError, RunError, check_output, reason


def cached(path: Path, check: Callable[[], object], write: Callable[[], None]) -> Path:
    """Path of a computed data set, which is computed if it is missing or damaged.

    Args:
        path: File or folder, from `cache_path`.
        check: Function that reads it and raises an `InputError` if it is missing or damaged.
        write: Function that computes the data and writes the file or the folder.

    Raises:
        InputError: The place can't be written.
        RunError: Writing failed, because the disk is full, for example.
    """
    try:
        check()
    except InputError:
        check_output(path, *([path.suffix] if path.suffix else []), name="cache")
        try:
            write()
        except OSError as error:
            raise RunError(
                f"can't write {path}: {reason(error)}; free some space, or give another folder as "
                "data.cache"
            ) from error
    return path


def cache_path(folder: str | Path | None, name: str, **parameters: Any) -> Path:
    """Path of a computed data set; other parameters give another path.

    Args:
        folder: Folder of all data sets. None: the folder `dynamical_vision` in the user's cache
            folder, which is `$XDG_CACHE_HOME` or `~/.cache`.
        name: Name; a hash of the parameters is put before its ending.
        parameters: All that the content depends on, as plain data.
    """
    told = json.dumps(parameters, sort_keys=True)
    code = hashlib.sha256(told.encode()).hexdigest()[:16]
    given = Path(name)
    return _folder(folder) / f"{given.stem}_{code}{given.suffix}"


def _folder(given: str | Path | None) -> Path:
    if given is not None:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dynamical_vision"
