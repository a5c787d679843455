"""Safe reading of files with the weights of standard networks."""

from pathlib import Path

from torch import Tensor

from common.errors import InputError
from common.files import is_file, is_ordinary, read_torch, shown


def existing_file(path: str | Path, need: str) -> Path:
    """Path of a file, with `~` expanded.

    Args:
        path: Path that the user gave.
        need: Part of the error message: which file is needed, and where it comes from.

    Raises:
        InputError: There is no such file.
    """
    found = Path(path).expanduser()
    if not is_file(found):
        raise InputError(f"found no file {shown(found)}; {need}")
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
        state = read_torch(path)
    except InputError as error:
        raise InputError(f"{error}; {need}") from error
    # A copy, because the methods of an OrderedDict may lie.
    state = dict(dict.items(state)) if isinstance(state, dict) else {"": state}
    if not all(isinstance(name, str) and is_ordinary(x) for name, x in state.items()):
        raise InputError(f"{path} isn't a file of weights; {need}")
    return state
