"""Checks of what users give: channels as tensors or numpy arrays, and labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import InputError

Numbers = Tensor | NDArray[Any] | Sequence[Any]


class OddBatchError(InputError):
    """Error in one batch that says nothing of the next, such as a last batch of one image."""


def as_tensor(values: Numbers, name: str) -> Tensor:
    """Tensor of a tensor or a numpy array.

    Raises:
        InputError: It is neither, or holds no real numbers.
    """
    if not isinstance(values, Tensor | np.ndarray):
        raise InputError(
            f"got {name} as a {type(values).__name__}; give one tensor or numpy array, with "
            "nothing beside it"
        )
    if isinstance(values, np.ndarray) and values.dtype.kind not in "biuf":
        raise InputError(f"got {name} of {values.dtype}; give real numbers")
    return torch.as_tensor(values)


def as_channels(z: Numbers, name: str = "channels", axes: int = 2) -> Tensor:
    """Tensor of floating point, of a tensor or a numpy array `[n c …]` of real numbers.

    Raises:
        InputError: Neither of the two, other numbers, or fewer axes.
    """
    tensor = as_tensor(z, name)
    if tensor.ndim < axes or 0 in tensor.shape or tensor.is_complex():
        raise InputError(
            f"got {name} of shape {list(tensor.shape)}, {tensor.dtype}; give real numbers "
            f"{'[n c …]' if axes > 1 else '[n …]'}"
        )
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def check_labels(labels: Tensor, n_classes: int) -> None:
    """Raises an `InputError` if there are labels outside 0 … n_classes - 1."""
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise InputError(
            f"got labels from {int(labels.min())} to {int(labels.max())}; with n_classes "
            f"{n_classes} they must be 0 to {n_classes - 1}"
        )
