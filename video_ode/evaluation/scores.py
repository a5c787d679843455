"""Scores of all test videos: the best samples, and those of all processes together."""

from typing import Any

import torch
from torch import Tensor

from video_ode.evaluation.report import VideoScores


def best_of(scores: Tensor, n_cond: int, lower: bool = False) -> Tensor:
    """Scores of the best sample of each video, chosen once for each of the two parts.

    The parts are the conditioning frames and the predicted frames.

    Args:
        scores: Scores `[s b t]`.
        n_cond: Number of conditioning frames, the first ones.
        lower: Whether lower scores are better.

    Returns:
        Scores `[b t]`.
    """
    chosen = []
    for part in (scores[..., :n_cond], scores[..., n_cond:]):
        if part.shape[-1]:
            means = part.mean(-1)
            index = means.argmin(0) if lower else means.argmax(0)
            chosen.append(part[index, torch.arange(part.shape[1], device=part.device)])
    return torch.cat(chosen, 1)


def gathered(batches: list[VideoScores]) -> VideoScores:
    """Scores of all videos from all processes, in the order of the videos, each video once.

    If the number of videos isn't a multiple of the number of processes, some videos are evaluated
    twice.
    """
    parts = [part for share in of_every_process(batches) for part in share]
    scores = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    _, place = torch.unique(scores["number",], return_inverse=True)
    first = torch.full((int(place.max()) + 1,), len(place))
    first = first.scatter_reduce(0, place, torch.arange(len(place)), "amin")
    return {key: x[first] for key, x in scores.items()}


def of_every_process(value: Any) -> list[Any]:
    """The value of each process, in the order of their ranks."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
