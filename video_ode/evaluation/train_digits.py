"""Training of the classifier of moving digits whose features measure generated videos.

`python -m video_ode.evaluation.train_digits` trains it and replaces the weights that ship with
the project. It takes 4 minutes on one core.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.data.base import Split
from common.data.images.embedded import EmbeddedDigits
from common.data.videos.moving_mnist import DigitSimulator, MovingDigits
from common.files import written_whole
from common.metrics.digits import WEIGHTS, DigitFeatures, DigitNetwork
from common.progress import Progress
from common.training.cli import run_command
from common.typing import Integers, PixelVideo

# Motions of the three generators; digits and canvas as in the small configurations.
MOTIONS: tuple[dict[str, Any], ...] = (
    {"generator": "toronto"},
    {"generator": "svg"},
    {"generator": "srvp"},
    {"generator": "srvp", "stochastic": True},
)


def train(
    steps: int = 1500,
    batch_size: int = 64,
    lr: float = 0.004,
    seed: int = 0,
    out: str = str(WEIGHTS),
) -> None:
    """Trains the classifier of moving digits and writes its weights in half precision.

    Args:
        steps: Number of optimiser steps.
        batch_size: Number of videos in a step.
        lr: Highest learning rate of the one-cycle schedule.
        seed: Random seed of the first weights and of the lengths of the videos.
        out: File to write.
    """
    torch.manual_seed(seed)
    network = DigitNetwork(DigitFeatures.num_features, DigitFeatures.n_classes)
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    bar = Progress(range(steps), "Training")
    for step in bar:
        n_frames = int(torch.randint(8, 17, ()))
        numbers = torch.arange(step * batch_size, (step + 1) * batch_size)
        video, classes = labelled_videos("train", numbers, n_frames, step % len(MOTIONS))
        loss = cross_entropy(network(video), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.note = f"loss {loss.item():.3f}"
    state = {
        name: x.half() if x.is_floating_point() else x for name, x in network.state_dict().items()
    }
    with written_whole(out) as file:
        torch.save(state, file)
    network.eval()
    shares = [f"{_accuracy(network, motion):.1%}" for motion in range(len(MOTIONS))]
    print(f"weights: {out}; right on test videos of the motions: {', '.join(shares)}")


def labelled_videos(
    split: Split, numbers: Integers, n_frames: int, motion: int
) -> tuple[PixelVideo, Tensor]:
    """Videos of one moving digit, with their classes.

    Args:
        split: Split of the embedded digits.
        numbers: Numbers of the videos.
        n_frames: Number of frames.
        motion: Number of the motion among `MOTIONS`.

    Returns:
        Videos `[b t 1 32 32]` and classes `[b]`: 4 times the digit, plus 2 if it ends below its
        first place, plus 1 if it ends to the right of it.
    """
    simulator, times = _simulator(split, motion), torch.arange(float(n_frames))
    true = simulator.trajectories(numbers, times)
    way = true.corners[:, -1, 0] - true.corners[:, 0, 0]  # down, right
    digits = EmbeddedDigits().labels(split)[true.digits[:, 0]]
    classes = 4 * digits + 2 * (way[:, 0] > 0) + (way[:, 1] > 0)
    return simulator.drawn(true.digits, true.corners, simulator.canvas), classes


@torch.no_grad()
def _accuracy(network: DigitNetwork, motion: int) -> float:
    """Share of 500 test videos of 12 frames whose class is found."""
    video, classes = labelled_videos("test", torch.arange(500), 12, motion)
    return float((network(video).argmax(1) == classes).float().mean())


@functools.cache
def _simulator(split: Split, motion: int) -> DigitSimulator:
    data = MovingDigits(n_digits=1, canvas=32, digit=14, **MOTIONS[motion])
    return data.simulator(split)


if __name__ == "__main__":
    run_command([train])
