"""Files in netCDF, the format of weather and sea data."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError, extra, reason
from common.files import is_file, shown

_ONE_AT_A_TIME = threading.Lock()  # the netCDF library is not made for several threads


def read_variables(path: Path, *names: str) -> list[np.ndarray]:
    """Variables of a netCDF file, `float64`; values that are masked or missing are NaN.

    Packed values are unpacked by their scale and offset.

    Args:
        path: The file.
        names: Names of the variables.

    Raises:
        InputError: There is no such file, it is damaged, or it lacks one of the variables.
    """
    with _opened(path, names) as variables:
        found = [np.ma.asarray(variables[name][...]) for name in names]
        return [np.ma.filled(values.astype(float), np.nan) for values in found]


def check_variables(path: Path, **shapes: tuple[int, ...]) -> None:
    """Checks the shapes of variables of a netCDF file, without reading their values.

    Raises:
        InputError: There is no such file, it is cut off, or a variable has another shape.
    """
    with _opened(path, tuple(shapes)) as variables:
        for name, shape in shapes.items():
            if variables[name].shape != shape:
                raise InputError(f"{path} has {name} {variables[name].shape}, not {shape}")


@contextmanager
def _opened(path: Path, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Variables of a file while it is open; there are those of these names."""
    with extra("files"):
        import netCDF4

    if not is_file(path):
        raise InputError(f"there is no file {shown(path)}; give the folder that holds it")
    try:
        with _ONE_AT_A_TIME, netCDF4.Dataset(path) as file:
            if missing := sorted(set(names) - set(file.variables)):
                raise InputError(
                    f"{path} lacks the variable {missing[0]} and has {', '.join(file.variables)}; "
                    "give another file"
                )
            yield file.variables
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} isn't a whole netCDF file of numbers ({reason(error)}); download or make it "
            "again"
        ) from error
