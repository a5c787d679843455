"""Safe reading of files with the weights of standard networks."""

from pathlib import Path

import torch
from torch import Tensor

from common.errors import InputError


def existing_file(path: str | Path, need: str) -> Path:
    """Path of a file, with `~` expanded.

    Args:
        path: Path that the user gave.
        need: Part of the error message: which file is needed, and where it comes from.

    Raises:
        InputError: There is no such file.
    """
    found = Path(path).expanduser()
    if not found.is_file():
        raise InputError(f"found no file {found}; {need}")
    return found


def read_weights(path: str | Path, need: str) -> dict[str, Tensor]:
    """Weights by name, read as tensors and nothing else (`weights_only=True`).

    Args:
        path: File of weights.
        need: Part of the error message: which file is needed, and where it comes from.

    Raises:
        InputError: There is no such file, or it isn't a file of weights.
    """
    path = existing_file(path, need)
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file may raise any exception
        raise InputError(f"{path} isn't a file of weights ({reason(error)}); {need}") from error
    return state


def reason(error: Exception) -> str:
    """First line of an error message, or the type of the error if it has no message."""
    return str(error).partition("\n")[0] or type(error).__name__
