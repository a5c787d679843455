"""Pictures of swapped contents, and of motions between two motions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.data.videos.base import Clip
from common.errors import InputError
from common.training.system import System
from video_ode.content import SeparatingPredictor
from video_ode.evaluation.pictures import strip
from video_ode.evaluation.rows import Kind, Row
from video_ode.evaluation.systems import Swapping
from video_ode.predictor import VideoPredictor, to_pixels, to_unit


def swapped(system: System, clip: Clip, n_cond: int) -> Tensor:
    """Picture of videos with the motion of one video and the content of the next one.

    There are three rows for each video: the video that gives the motion, the video that gives the
    content, and the prediction with both.

    Args:
        system: System with a model that separates content and motion, such as `SRVP` or
            `Separation`.
        clip: Two or more true videos.
        n_cond: Number of conditioning frames, the first ones.

    Returns:
        Picture `[3 h w]` of bytes.

    Raises:
        InputError: Another system, or fewer than two videos.
    """
    _check_two(clip)
    if not isinstance(system, Swapping):
        raise InputError(
            f"{type(system).__name__} can't swap contents; give it a method swap(clip, content)"
        )
    content = clip.select(torch.arange(len(clip.frames)).roll(-1))
    mixed = system.swap(clip, content)[0]
    shown = clip.unit_range(clip.frames)
    rows = zip(shown, shown.roll(-1, 0), clip.unit_range(mixed), strict=True)
    names = ("motion", "content", "prediction")
    kinds: tuple[Kind, ...] = ("true", "true", "predicted")
    groups = [list(zip(kinds, names, videos, strict=True)) for videos in rows]
    return _picture(groups, clip, n_cond)


def interpolated(model: VideoPredictor, clip: Clip, n_cond: int, n: int = 5) -> Tensor:
    """Picture of videos between the motion of each video and the motion of the next one.

    Args:
        model: Model that separates content and motion, such as `SRVP` or `Separation`.
        clip: Two or more true videos.
        n_cond: Number of conditioning frames, the first ones.
        n: Number of rows for each video, the two ends included.

    Returns:
        Picture `[3 h w]` of bytes.

    Raises:
        InputError: Another model, fewer than two videos, or fewer than two rows.
    """
    if n < 2:
        raise InputError(f"got {n} rows; give 2 or more, the two ends included")
    _check_two(clip)
    separating, video = _separating(model), to_unit(clip.frames)[:, :n_cond]
    shares = torch.linspace(0, 1, n).tolist()
    mixed = separating.interpolate(
        video, video.roll(-1, 0), clip.times[..., :n_cond], clip.times, shares
    )
    shown = clip.unit_range(mixed).transpose(0, 1)
    names = [f"{share:.0%}" for share in shares]
    predicted: list[Kind] = ["predicted"] * n
    groups = [list(zip(predicted, names, rows, strict=True)) for rows in shown]
    return _picture(groups, clip, n_cond)


def _separating(model: VideoPredictor) -> SeparatingPredictor:
    if not isinstance(model, SeparatingPredictor):
        raise InputError(
            f"got {type(model).__name__}, which doesn't separate content and motion; give the "
            "configuration and the checkpoint of an SRVP or Separation model"
        )
    return model


def _check_two(clip: Clip) -> None:
    if len(clip.frames) < 2:
        raise InputError(f"got {len(clip.frames)} video; give 2 or more")


def _picture(
    groups: Sequence[Sequence[tuple[Kind, str, Tensor]]], clip: Clip, n_cond: int
) -> Tensor:
    """Picture of groups of videos, one video a row, with the kind of its frames and a label."""
    times = clip.own_times()[0].tolist()
    pictures = []
    for group in groups:
        rows = []
        for kind, label, video in group:
            given: Kind = "given" if kind == "predicted" else kind
            kinds = [given if t < n_cond else kind for t in range(len(video))]
            rows.append(Row(to_pixels(video).cpu(), kinds, label))
        pictures.append(strip(rows, times=times))
    return torch.cat(pictures, -2)
