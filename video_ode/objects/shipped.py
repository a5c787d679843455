"""Training of the small networks that ship with the project, on driving scenes."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.data.base import Split
from common.data.driving.scenes import DrivingScenes
from common.errors import check_counts
from common.metrics.detection import Truths
from common.progress import Progress
from common.typing import Image, Times
from video_ode.objects.detection.detector import truths_at

SIZE = (128, 128)
FRAMES = 4  # of each scene, at random times up to LAST
LAST = 40.0


class LabelledFrames(NamedTuple):
    """Frames of driving scenes with all that is known about them.

    Attributes:
        frames: Frames `[n c h w]` in `[0, 1]`.
        truths: Objects in each frame.
        labels: Class of each pixel, `int64 [n h w]`.
    """

    frames: Image
    truths: list[Truths]
    labels: Tensor


def train_on_scenes(
    network: nn.Module,
    loss: Callable[[LabelledFrames], Tensor],
    steps: int,
    batch_size: int,
    lr: float,
    clip: float | None = None,
) -> None:
    """Trains a network by AdamW with a one-cycle schedule, each step on scenes of its own.

    Args:
        network: The network.
        loss: From labelled frames to the loss.
        steps: Number of steps.
        batch_size: Number of frames in a step, a multiple of 4.
        lr: Highest learning rate.
        clip: Largest norm of a gradient. None: no clipping.
    """
    check_counts(1, steps=steps, batch_size=batch_size)
    data = DrivingScenes(SIZE)
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=0.001)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=0.1)
    n_scenes = max(1, batch_size // FRAMES)
    bar = Progress(range(steps), "Training")
    for step in bar:
        numbers = list(range(step * n_scenes, (step + 1) * n_scenes))
        value = loss(labelled_frames(data, "train", numbers, LAST * torch.rand(FRAMES)))
        optimizer.zero_grad()
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        schedule.step()
        bar.note = f"loss {value.item():.3f}"


def labelled_frames(
    data: DrivingScenes, split: Split, numbers: list[int], times: Times
) -> LabelledFrames:
    """Frames of the scenes with these numbers at these times, scene by scene."""
    simulator = data.simulator(split)  # one for all, so that each picture is rendered once
    frames = simulator.videos(torch.tensor(numbers), times).flatten(0, 1) / 255
    tracks = simulator.trajectories(torch.tensor(numbers), times)
    truths = zip(*(truths_at(tracks, k) for k in range(len(times))), strict=True)
    labels = simulator.labels(times, numbers).flatten(0, 1).long()
    return LabelledFrames(frames, [truth for scene in truths for truth in scene], labels)


def held_out_scenes(n: int) -> Iterator[LabelledFrames]:
    """One frame of each of `n` test scenes."""
    check_counts(1, n=n)
    data = DrivingScenes(SIZE)
    for number in range(n):
        yield labelled_frames(data, "test", [number], torch.tensor([LAST * number / n]))
