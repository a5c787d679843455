"""Files of computed data sets, kept on the disk so that each is computed once."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import InputError, RunError, check_output, reason
from common.files import written_whole


def cached(
    folder: str | Path | None,
    name: str,
    parameters: dict[str, Any],
    check: Callable[[Path], object],
    write: Callable[[Path], None],
) -> Path:
    """File of a computed data set; it is made if it is missing or damaged.

    Args:
        folder: Folder of the file. None: the folder `dynamical_vision` in the user's cache
            folder, which is `$XDG_CACHE_HOME` or `~/.cache`.
        name: Name of the file; a hash of the parameters is put before its ending.
        parameters: All that the content depends on, as plain data.
        check: Function that reads the file and raises an `InputError` if it is damaged.
        write: Function that computes the data and writes them into a new file.

    Raises:
        InputError: The folder can't be written.
        RunError: The file can't be written, because the disk is full, for example.
    """
    told = json.dumps(parameters, sort_keys=True)
    code = hashlib.sha256(told.encode()).hexdigest()[:16]
    given = Path(name)
    path = _folder(folder) / f"{given.stem}_{code}{given.suffix}"
    try:
        check(path)
    except InputError:
        check_output(path, path.suffix, name="cache")
        try:
            with written_whole(path) as new:
                write(new)
        except OSError as error:
            raise RunError(
                f"can't write {path}: {reason(error)}; free some space, or give another folder as "
                "data.cache"
            ) from error
    return path


def _folder(given: str | Path | None) -> Path:
    if given is not None:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dynamical_vision"
