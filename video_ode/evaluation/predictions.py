"""Predictions of test videos at asked times, written to files."""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from common.data.videos.base import Clip, VideoData
from common.errors import InputError
from common.progress import Progress
from common.training.system import System
from common.typing import Times, Videos
from video_ode.evaluation.files.writer import PredictionWriter, observed
from video_ode.evaluation.systems import (
    Displaying,
    Generating,
    Predicting,
    Replaying,
    Watching,
)

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
        batch.select([i])
        for batch in data.predict_dataloader()
        for i in range(len(clip_of(batch).frames))
    )
    return islice(videos, n)


def clip_of(batch: Any) -> Clip:
    """Clip of a batch, which is a `Clip` or has a `clip`."""
    return batch if isinstance(batch, Clip) else batch.clip


def write_test_videos(
    writer: PredictionWriter,
    model: System,
    data: VideoData,
    n: int,
    times: Times | None,
    n_samples: int,
) -> list[Path]:
    """Writes predictions of test videos, or generated videos, and prints the files.

    Args:
        writer: Writer of the files.
        model: System that predicts, draws or generates.
        data: Data set.
        n: Number of videos, the first ones of the test set.
        times: Times of the predictions. None: those of the videos.
        n_samples: Number of samples of each video.
    """
    videos = (video.to(model.device) for video in first_videos(data, n))
    if isinstance(model, Generating):
        numbers = iter(Progress(range(n), "Generating videos"))
        paths = write_generated(writer, model, videos, times, numbers, n_samples)
    else:
        shown = iter(Progress(videos, "Predicting videos", n))
        if isinstance(model, Displaying):
            paths = write_drawn(writer, model, data, shown, times, n_samples)
        else:
            paths = write_predicted(writer, conditioned(model), shown, times, n_samples)
    print("\n".join(f"prediction: {path}" for path in paths))
    return paths


def write_predicted(
    writer: PredictionWriter,
    model: Predicting,
    clips: Iterator[Clip],
    times: Times | None,
    n_samples: int,
    name: str | None = None,
) -> list[Path]:
    """Writes predictions of the clips, at these times or, for None, at the times of each clip.

    The files are named `name`, or, for None, by the numbers of the clips.
    """
    paths = []
    for clip in clips:
        wanted = asked_times(clip, times)
        order = wanted.argsort()  # the model gets the times in ascending order
        samples = model.predict(clip, wanted[order].to(clip.times), n_samples)
        samples = samples[:, :, order.argsort().to(samples.device)]
        paths += writer.write(clip, model.n_cond, wanted, samples, name)
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
    data: VideoData | None,
    videos: Iterator[Any],
    times: Times | None,
    n_samples: int,
    name: str | None = None,
) -> list[Path]:
    """Writes what a system draws of its predictions; returns the files, named as predictions."""
    paths = []
    for i, video in enumerate(videos):
        clip = clip_of(video)
        arrays = {"times": asked_times(clip, times)}
        if isinstance(model, Watching) and model.given_frames().between:
            given = torch.zeros_like(clip.mask[0])
            given[[0, -1]] = True
            arrays |= observed(clip, 0, given)
        for found in model.draw(video, data, times, n_samples):
            arrays["samples"] = found.samples[0].frames[None]
            paths += writer.write_scene(found, name or f"video_{i:05d}", arrays)
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
