"""Times of frames: checks, and conversion to numbers of frames."""

import torch
from torch import Tensor

from common.errors import InputError, reason
from common.inputs import ArrayLike
from common.typing import Mask, Times


def as_times(given: ArrayLike, name: str, video: Tensor) -> Tensor:
    """Checked times, on the device of the videos and in at least single precision."""
    dtype = torch.promote_types(video.dtype, torch.float32)
    try:
        times = torch.as_tensor(given, dtype=dtype, device=video.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"got {name} that are no numbers ({reason(error)}); give a tensor, an array or a list "
            "of numbers"
        ) from error
    if times.ndim != 1 and (times.ndim != 2 or len(times) != len(video)):
        raise InputError(
            f"got {name} of shape {tuple(times.shape)} for {len(video)} videos; give (times,) or "
            f"({len(video)}, times)"
        )
    good = times.numel() and bool(times.isfinite().all()) and not bool((times.diff() <= 0).any())
    if not good:
        raise InputError(
            f"got {name} {_listed(times)}; give at least one, all finite and different, in "
            "ascending order"
        )
    return times


def shared_times(times: Tensor, name: str) -> Times:
    """Times `[t]` that all videos of a batch share, for models that need shared times.

    Such models step from frame to frame, or from one time to the next one for all videos at once.
    They call this function on all times that they get.

    Args:
        times: Times `[t]` or `[b t]`.
        name: Name of the model, for the error message.

    Raises:
        InputError: The times differ between videos.
    """
    if times.ndim == 2:
        if bool((times != times[:1]).any()):
            raise InputError(
                f"{name} needs the same times for all videos of a batch; set data.batch_size 1, "
                "or use a latent ODE with a GRUEncoder, which takes them; for video "
                "files, data.timing frames ignores the time stamps"
            )
        times = times[0]
    return times


def frame_units(
    times: Tensor, target_times: Tensor, mask: Mask, name: str, backward: bool = False
) -> Times:
    """Target times as numbers of frames after the first one.

    Args:
        times: Times of the conditioning frames.
        target_times: Ascending times of the prediction.
        mask: Mask of the observed frames.
        name: Name of the model, for the error message.
        backward: Whether the model can go back before the first frame.

    Returns:
        Numbers of frames `[k]`, on the CPU and in double precision. Whole numbers are exact, so
        that they can be compared.

    Raises:
        InputError: Conditioning frames that are missing or unevenly spaced, times that differ
            between videos, or a target time before the first frame that the model can't reach.
    """
    times, target_times = shared_times(times, name), shared_times(target_times, name)
    gaps = times.cpu().double().diff()
    if not bool(mask.all()) or (len(gaps) and float(gaps.max() - gaps.min()) > 1e-3):
        raise InputError(
            f"{name} steps from frame to frame and needs all of them, evenly spaced; set "
            "data.observed 1 (and timing frames for video files), or use a latent ODE for "
            "irregular times"
        )
    spacing = float(gaps[0]) if len(gaps) else 1.0
    units = (target_times - times[0]).cpu().double() / spacing
    units = torch.where((units - units.round()).abs() < 1e-3, units.round(), units)
    if float(units[0]) < 0 and not backward:
        raise InputError(
            f"got target time {float(target_times[0]):g}, before the first conditioning frame at "
            f"{float(times[0]):g}: {name} runs forward only"
        )
    return units


def _listed(times: Tensor) -> str:
    shown = ", ".join(f"{t:g}" for t in times.flatten()[:8].tolist())
    return f"[{shown}{', …' if times.numel() > 8 else ''}]"
