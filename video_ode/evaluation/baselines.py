"""Baselines of video prediction: still videos made of the conditioning frames."""

import torch
from torch import Tensor

from common.typing import Mask, Video

COPY, MEAN = "copy of last given", "mean of given"  # rows of tables


def still_videos(truth: Video, mask: Mask) -> dict[str, Video]:
    """Still videos of the last conditioning frame and of the mean conditioning frame.

    Args:
        truth: True videos, `[b t c h w]`; the results have the same shape.
        mask: Mask of the observed conditioning frames, `[b t']`.

    Returns:
        Videos by the name of the baseline; empty if there is no conditioning frame.
    """
    if not mask.shape[1]:
        return {}
    seen = mask[:, :, None, None, None]
    mean = (truth[:, : mask.shape[1]] * seen).sum(1) / seen.sum(1)
    last = truth[torch.arange(len(truth), device=truth.device), last_seen(mask)]
    return {
        row: frame[:, None].expand_as(truth) for row, frame in {COPY: last, MEAN: mean}.items()
    }


def last_seen(mask: Mask) -> Tensor:
    """Index of the last observed frame of each video, `[b]`."""
    return (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1)
