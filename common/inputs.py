"""Conversion and checks of the pictures that users give to a model; every public entry calls it.

The convention of the project: pictures are bytes (`uint8`) from 0 to 255, or floats from 0 to 1,
with the channels before height and width.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError, reason
from common.typing import ImageShape

ArrayLike = Tensor | np.ndarray | Sequence[Any]  # what users may give, before it is checked
TOLERANCE = 1e-3  # rounding errors of floats beyond 0 and 1, less than half a grey level
AXES = {
    4: "(images, channels, height, width), with at least one image",
    5: "(videos, times, channels, height, width), with at least one video of at least one frame",
}


def as_pixels(
    x: ArrayLike,
    ndim: int,
    shape: ImageShape | None = None,
    like: Tensor | None = None,
    fields: bool = False,
) -> Tensor:
    """Pictures as floats in `[0, 1]`, from what a user gave.

    Bytes are divided by 255, and floats must be in `[0, 1]` already (rounding errors of up to
    1e-3 are clamped). Half precision becomes single precision. Labels beside the pictures, as in
    a batch `(pictures, labels)`, are dropped.

    Args:
        x: Tensor, numpy array, or list of them or of numbers: `uint8` from 0 to 255, or floats
            from 0 to 1.
        ndim: Number of axes: 4 for images `[b c h w]`, 5 for videos `[b t c h w]`.
        shape: Channels, height and width that the model was built for. None: any.
        like: A weight of the model: the result has its type and must be on its device; numpy
            arrays and lists are moved there. None: any type and device.
        fields: The floats are no pictures and may have any range.

    Raises:
        InputError: Another number of axes, size, type, range or device; NaN or infinite numbers;
            or no picture at all.
    """
    given = _without_labels(x, ndim)
    pixels = _tensor(given)
    _check_shape(tuple(pixels.shape), ndim, shape)
    if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
        raise InputError(
            f"got pictures of type {pixels.dtype}; give bytes (uint8) from 0 to 255, or floats "
            "from 0 to 1"
        )
    if like is not None and isinstance(given, Tensor) and pixels.device != like.device:
        raise InputError(
            f"got pictures on {pixels.device}, but the model is on {like.device}; move one of "
            "them with .to(device)"
        )
    pixels = pixels / 255 if pixels.dtype == torch.uint8 else _checked_floats(pixels, fields)
    return pixels if like is None else pixels.to(like)


def as_bytes(
    x: ArrayLike, ndim: int, shape: ImageShape | None = None, like: Tensor | None = None
) -> Tensor:
    """Pictures as bytes, from what a user gave: grey levels, for models of grey levels.

    Floats in `[0, 1]` are grey levels divided by 255. The arguments are those of `as_pixels`.

    Raises:
        InputError: Floats between the grey levels, or an error of `as_pixels`.
    """
    levels = 255 * as_pixels(x, ndim, shape, like)
    grey = levels.round()
    if bool(((levels - grey).abs() > 0.2).any()):
        raise InputError(
            "got floats between the grey levels 0, 1/255, 2/255, … 1; give bytes (uint8), such as "
            "(255 * x).round().to(torch.uint8)"
        )
    return grey.to(torch.uint8)


def check_flow(flow: Tensor, valid: Tensor | None = None) -> None:
    """Checks the shapes and types of an optical flow and of the mask of its known pixels.

    Raises:
        InputError: The flow isn't float `[... 2 h w]` of at least one pixel, or the mask isn't
            bool `[... h w]`.
    """
    shape = list(flow.shape)
    if flow.ndim < 3 or shape[-3] != 2 or 0 in shape or not flow.is_floating_point():
        raise InputError(
            f"got a flow of {flow.dtype} {shape}; give float [... 2 h w] of at least one pixel"
        )
    pixels = shape[:-3] + shape[-2:]
    if valid is not None and (list(valid.shape) != pixels or valid.dtype != torch.bool):
        raise InputError(
            f"got a mask of {valid.dtype} {list(valid.shape)} for a flow of {shape}; give bool "
            f"{pixels}"
        )


def _without_labels(x: ArrayLike, ndim: int) -> ArrayLike:
    """Pictures of a batch `(pictures, labels, …)`; anything else unchanged."""
    if not isinstance(x, list | tuple) or not x or getattr(x[0], "ndim", 0) != ndim:
        return x
    if any(getattr(rest, "ndim", 0) == ndim for rest in x[1:]):
        raise InputError(
            f"got {len(x)} batches of pictures in one {type(x).__name__}; give one tensor"
        )
    return x[0]


def _tensor(x: ArrayLike) -> Tensor:
    if isinstance(x, Tensor):
        return x
    try:
        if isinstance(x, list | tuple) and any(isinstance(e, Tensor | np.ndarray) for e in x):
            return torch.stack([_tensor(entry) for entry in x])
        return torch.tensor(np.ascontiguousarray(x))  # a view with negative strides is copied
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"got a {type(x).__name__} that is no array of numbers ({reason(error)}); give a "
            "tensor, a numpy array, or a list of pictures of equal size"
        ) from error


def _check_shape(found: tuple[int, ...], ndim: int, shape: ImageShape | None) -> None:
    got = f"got pictures of shape {found}"
    if len(found) != ndim or 0 in found:
        raise InputError(f"{got}; give {AXES[ndim]}")
    channels = (1, 3) if shape is None else shape[:1]
    if found[-1] in channels and found[-3] not in channels:
        raise InputError(
            f"{got}, with the channels last; give them before height and width, as by "
            "x.movedim(-1, -3)"
        )
    if shape is not None and found[-3:] != tuple(shape):
        wanted = " x ".join(map(str, shape))
        raise InputError(
            f"{got}, but the model is for {wanted} (channels x height x width); change the "
            "pictures or the model's shape"
        )


def _checked_floats(pixels: Tensor, fields: bool) -> Tensor:
    """Floats in at least single precision, clamped to `[0, 1]`."""
    pixels = pixels.to(torch.promote_types(pixels.dtype, torch.float32))
    low, high = (float(end) for end in pixels.detach().aminmax())
    if not math.isfinite(low + high):
        raise InputError("got pictures with NaN or infinite numbers; give finite ones")
    if fields:
        return pixels
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise InputError(
            f"got floats from {low:g} to {high:g}; give floats from 0 to 1, or bytes (uint8) from "
            "0 to 255"
        )
    # Not always: newer torch gives a pixel of exactly 0 or 1 no gradient through `clamp`.
    return pixels if low >= 0 and high <= 1 else pixels.clamp(0, 1)
