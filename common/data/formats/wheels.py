"""Data files inside installed Python packages."""

import importlib.util
from pathlib import Path

from common.errors import InputError


def wheel_file(package: str, path: str) -> Path:
    """Path of a file inside an installed package; the package need not be importable.

    Args:
        package: Name of the package.
        path: Path of the file, relative to the folder of the package.

    Raises:
        InputError: The package is not installed, or has no such file.
    """
    # The package is located, not imported: its own imports take seconds.
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        if (file := Path(folder, path)).is_file():
            return file
    found = f"found in {folders[0]} without it" if folders else "not installed"
    raise InputError(
        f"the embedded data need {path} of the package {package}, which is {found}; "
        "install the extra embedded: pip install -e '.[embedded]'"
    )
