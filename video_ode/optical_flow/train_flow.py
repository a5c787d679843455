"""Training of the small model of optical flow that ships with the project.

`python -m video_ode.optical_flow.train_flow` trains it on frames alone, of real clips, photographs
on a moving plane and driving scenes, and replaces the weights. It takes 8 minutes of one core
(seed 0, 2026-11-28): middle frames of test clips 35.34 dB, where blends of their neighbours have
34.66 dB.
"""

from collections.abc import Iterator
from itertools import cycle

import torch
from torch import Tensor, nn

from common.data.flow.driving import DrivingFlow
from common.data.flow.homographies import HomographyFlow
from common.data.videos.base import VideoData
from common.data.videos.embedded_clips import EmbeddedClips
from common.errors import check_counts
from common.metrics.frames import psnr
from common.nn.shipped import write_weights
from common.progress import Progress
from common.training.cli import run_command
from video_ode.optical_flow.estimator import WEIGHTS, FlowEstimator, blended
from video_ode.predictor import to_unit

SIZE = 96
TIMES = torch.tensor([0.0, 0.5, 1.0])


def train(
    steps: int = 1000,
    batch_size: int = 4,
    lr: float = 0.002,
    seed: int = 0,
    out: str = str(WEIGHTS),
) -> None:
    """Trains the model and writes its weights in half precision.

    Args:
        steps: Number of optimiser steps.
        batch_size: Number of videos in a step. Half of the steps show real clips.
        lr: Highest learning rate of the one-cycle schedule.
        seed: Random seed of the first weights.
        out: File to write.
    """
    check_counts(1, steps=steps, batch_size=batch_size)
    torch.manual_seed(seed)
    model = FlowEstimator()
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=0.1)
    videos, bar = _videos(batch_size), Progress(range(steps), "Training")
    for step in bar:
        video = next(videos)
        seen = torch.ones(video.shape[:2], dtype=torch.bool)
        loss, _ = model.loss(to_unit(video), TIMES, seen, 2, step / steps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.note = f"loss {loss.item():.3f}"
    write_weights(model, out)
    print(f"weights: {out}; {_middle_frames(model.eval())}")


def _videos(batch_size: int) -> Iterator[Tensor]:
    """Endless batches of videos of three frames, `uint8 [b 3 3 h w]`."""
    clips = EmbeddedClips(size=SIZE, n_frames=3, batch_size=batch_size, flip=True)
    planes = HomographyFlow((SIZE, SIZE), most=10.0, flow=False, batch_size=batch_size)
    drives = DrivingFlow((SIZE, SIZE), flow=False, batch_size=batch_size)
    real = _served(clips)
    for batches in cycle((real, _served(planes), real, _served(drives))):
        yield next(batches)


def _served(data: VideoData) -> Iterator[Tensor]:
    """Frames of all batches of a set, again and again."""
    data.setup("fit")
    loader = data.train_dataloader()
    while True:
        for clip in loader:
            yield clip.frames


@torch.no_grad()
def _middle_frames(model: FlowEstimator) -> str:
    """Result on held-out middle frames of real clips, as text."""
    data = EmbeddedClips(size=SIZE, n_frames=3)
    video = to_unit(data.clips("test").frames(list(range(data.eval_clips))))
    scores = []
    for method in (model.between, blended):
        parts = [method(x[:, 0], x[:, 2], TIMES[1:2]) for x in video.split(10)]
        scores.append(float(psnr(torch.cat(parts), video[:, 1:2]).mean()))
    return f"middle frames of test clips: {scores[0]:.2f} dB, of blends {scores[1]:.2f} dB"


if __name__ == "__main__":
    run_command([train])
