"""Error for a mistake in the user's input; the command line prints it without a traceback."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args


class InputError(ValueError):
    """Error in the user's input; the message says what was got and what to do."""


class RunError(RuntimeError):
    """Error of a run whose input was right, such as a full disk; the message says what to do."""


def reason(error: Exception) -> str:
    """First line of an error message, or the type of the error if it has no message."""
    return str(error).partition("\n")[0] or type(error).__name__


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Context in which packages of an extra of this project are imported.

    Args:
        name: Name of the extra in `pyproject.toml`.

    Raises:
        InputError: One of the packages is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"{error}; install the extra {name}: pip install -e '.[{name}]'"
        ) from error


def check_counts(least: int | float, **counts: int | float | Sequence[int | float] | None) -> None:
    """Checks that numbers given by the user are finite and large enough.

    Args:
        least: Smallest allowed number.
        counts: Numbers, or lists of numbers, by the names that the user knows. None is allowed.

    Raises:
        InputError: One of the numbers is below `least`, infinite or NaN.
    """
    _check(f"{least:g} or more", lambda number: least <= number < math.inf, counts)


def check_positive(**numbers: int | float | Sequence[int | float] | None) -> None:
    """Raises an `InputError` if a number isn't finite and above 0; None is allowed."""
    _check("more than 0", lambda number: 0 < number < math.inf, numbers)


def check_shares(**numbers: int | float | Sequence[int | float] | None) -> None:
    """Raises an `InputError` if a number is outside `[0, 1]`; None is allowed."""
    _check("a number from 0 to 1", lambda number: 0 <= number <= 1, numbers)


def check_output(path: str | Path, *endings: str, name: str = "out") -> None:
    """Checks that a file or folder can be written, before the work whose result it will hold.

    Args:
        path: Path of the file or folder.
        endings: Allowed endings of the name of a file, such as `.png`. None given: a folder.
        name: Name of the option.

    Raises:
        InputError: The path has another ending, is in the way of something else, or can't be
            written.
    """
    path, got = Path(path), f"got {name} {str(path)[:200]}"
    try:
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
        taken = path.is_dir() if endings else there == path and not path.is_dir()
    except OSError as error:
        raise InputError(f"{got}: {error.strerror}; give another path") from error
    if taken:
        raise InputError(f"{got}, a {'folder' if endings else 'file'}; give another path")
    if endings and path.suffix.lower() not in endings:
        raise InputError(f"{got}; give a name that ends in {' or '.join(endings)}")
    if there != path and not there.is_dir():
        raise InputError(f"{got}, but {there} is a file; give a path in a folder")
    if not os.access(there, os.W_OK):
        raise InputError(f"{got}, but {there} can't be written; give another path")


def check_words(*pairs: tuple[str, Any]) -> None:
    """Raises an `InputError` if a word is not one of the words of its `Literal` type."""
    for word, literal in pairs:
        if word not in get_args(literal):
            raise InputError(f"got {word!r}; give one of {', '.join(get_args(literal))}")


def _check(wanted: str, allowed: Callable[[float], bool], numbers: dict[str, Any]) -> None:
    for name, value in numbers.items():
        value = list(value) if isinstance(value, Sequence) else value
        entries = value if isinstance(value, list) else [value]
        if not all(entry is None or allowed(entry) for entry in entries):
            raise InputError(f"got {name} {value}; give {wanted}")
