"""Predictions of test videos at asked times, written to files."""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from common.data.videos.base import Clip, VideoData
from common.errors import InputError
from common.training.system import System
from common.typing import Times, Videos
from video_ode.evaluation.systems import Displaying, Generating, Predicting, Replaying
from video_ode.evaluation.writer import PredictionWriter

MOST_TIMES = 10_000  # of a prediction


def time_range(text: str) -> Times:
    """Times `[t]` of the text `START:STOP:STEP`, without STOP itself; the default of STEP is 1.

    Raises:
        InputError: The text is no such range, or a range without times or with too many.
    """
    try:
        full = text if text.count(":") > 1 else f"{text}:1"
        start, stop, step = (float(x) for x in full.split(":"))
        count = math.ceil(round((stop - start) / step, 6))
    except (ValueError, ZeroDivisionError, OverflowError):
        count = 0
    if count > MOST_TIMES:
        raise InputError(f"got times {text!r}, {count} times; give {MOST_TIMES} or fewer")
    if count < 1:
        raise InputError(
            f"got times {text!r}; give START:STOP:STEP, such as 0:20:0.5, or 19:-1:-1 backward"
        )
    return torch.tensor([start + i * step for i in range(count)])


def first_videos(data: VideoData, n: int) -> Iterator[Any]:
    """Batches of one video each: the first `n` test videos, or all of them if there are fewer."""
    data.prepare_data()
    data.setup("predict")
    videos = (
        batch.select([i]) for batch in data.predict_dataloader() for i in range(batch_size(batch))
    )
    return islice(videos, n)


def batch_size(batch: Any) -> int:
    """Number of videos of a batch, a `Clip` or a batch that has a `clip`."""
    clip = batch if isinstance(batch, Clip) else batch.clip
    return len(clip.frames)


def write_predicted(
    writer: PredictionWriter,
    model: Predicting,
    clips: Iterator[Clip],
    times: Times | None,
    n_samples: int,
) -> list[Path]:
    """Writes predictions of the clips, at these times or, for None, at the times of each clip."""
    paths = []
    for clip in clips:
        wanted = asked_times(clip, times)
        order = wanted.argsort()  # the model gets the times in ascending order
        samples = model.predict(clip, wanted[order].to(clip.times), n_samples)
        samples = samples[:, :, order.argsort().to(samples.device)]
        paths += writer.write(clip, model.n_cond, wanted, samples)
    return paths


def write_generated(
    writer: PredictionWriter,
    model: Generating,
    clips: Iterator[Clip],
    times: Times | None,
    numbers: Iterator[int],
    n_samples: int,
) -> list[Path]:
    """Writes generated videos, at these times or, for None, at those of the first clip."""
    for clip in clips:
        wanted = asked_times(clip, times)
        order = wanted.argsort()
        videos = [_motions(model, wanted[order], n_samples) for _ in numbers]
        return writer.write_generated(torch.cat(videos, 1)[:, :, order.argsort()], wanted)
    return []


def write_drawn(
    writer: PredictionWriter,
    model: Displaying,
    data: VideoData,
    videos: Iterator[Any],
    times: Times | None,
    n_samples: int,
) -> list[Path]:
    """Writes what a system draws of its predictions; returns the files."""
    paths = []
    for i, video in enumerate(videos):
        for found in model.draw(video, data, times, n_samples):
            paths += writer.write_scene(found, f"video_{i:05d}")
    return paths


def asked_times(clip: Clip, times: Times | None) -> Times:
    """Times of the predictions of a clip, on its device; for None those of its first video."""
    return clip.own_times()[0] if times is None else times.to(clip.times.device)


def conditioned(model: System) -> Predicting:
    """The same system, as one that predicts from conditioning frames.

    Raises:
        InputError: The system doesn't predict.
    """
    if not isinstance(model, Predicting):
        raise InputError(
            f"{type(model).__name__} predicts no videos from conditioning frames; give it a "
            "method predict(clip, target_times, n_samples)"
        )
    return model


def _motions(model: Generating, times: Times, n_samples: int) -> Videos:
    """Motions `[s 1 t c h w]` of one generated video; one motion if the system can't replay."""
    if isinstance(model, Replaying):
        return model.replay(1, times, n_samples)
    return model.generate(1, times)[None]
