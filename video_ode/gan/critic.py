"""Critics (discriminators) of videos: what they see, their base classes, and a sparse one."""

import abc
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.typing import ImageShape, Integers, Times, Video
from video_ode.frames.base import halvings


class View(NamedTuple):
    """View of a clip: those of its frames that the critics see, at one resolution.

    Attributes:
        video: Frames `[b k c h w]` in `[0, 1]`.
        times: Times of these frames, `[k]`.
        places: Positions of these frames in the clip, `[k]`.
    """

    video: Video
    times: Times
    places: Integers


class Critic(nn.Module, abc.ABC):
    """Critic (discriminator): scores of videos, high for real ones.

    Attributes:
        n_frames: Number of frames of a clip that it looks at. None: all.
    """

    n_frames: int | None = None

    @abc.abstractmethod
    def forward(self, views: Sequence[View]) -> Tensor:
        """Scores `[n …]` of the views of a clip, coarsest first."""


class ClipCritic(Critic):
    """Base of critics of one view, the finest; a subclass writes `score`."""

    @abc.abstractmethod
    def score(self, video: Video, times: Times) -> Tensor:
        """Scores `[n …]`.

        Args:
            video: Frames `[b k c h w]` from -1 to 1.
            times: Their times, `[k]`.
        """

    def forward(self, views: Sequence[View]) -> Tensor:
        video, times, _ = views[-1]
        if self.n_frames is not None and self.n_frames < video.shape[1]:
            chosen = some_frames(video.shape[1], self.n_frames, video.device)
            video, times = video[:, chosen], times[chosen]
        return self.score(2 * video - 1, times)


class WholeClipCritic(ClipCritic):
    """Base of critics of clips with a fixed number of frames; a subclass makes `net`.

    Attributes:
        clip: Number of frames of a clip.
        net: Network from videos `[n c t h w]` to scores `[n …]`.
    """

    clip: int
    net: nn.Module

    def score(self, video: Video, times: Times) -> Tensor:
        if video.shape[1] != self.clip:
            raise InputError(
                f"got clips of {video.shape[1]} frames, but {type(self).__name__} takes "
                f"{self.clip}: change its clip or data.n_frames"
            )
        return self.net(video.transpose(1, 2)).flatten(1)


class SparseCritic(ClipCritic):
    """Critic of a few frames at random real times (Skorokhodov et al. 2022, StyleGAN-V).

    The features of the frames, from shared 2-D convolutions, are joined and compared with an
    embedding of the distances between their times. The generator renders these frames only.

    Args:
        shape: Channels, height and width of a frame.
        n_frames: Number of frames, two or more.
        width: Number of channels of the first convolution; each further one has twice as many.
        features: Length of the joined features, and of the embedding.
        frame_scores: Score each frame by itself as well, from the same convolutions. Pictures
            then become sharp in fewer steps.

    Raises:
        InputError: Numbers below their minimum, or frames that can't be halved.
    """

    def __init__(
        self,
        shape: ImageShape,
        n_frames: int = 3,
        width: int = 32,
        features: int = 128,
        frame_scores: bool = False,
    ) -> None:
        super().__init__()
        check_counts(2, n_frames=n_frames)
        check_counts(1, width=width, features=features)
        self.n_frames = n_frames
        widths, (h, w) = halvings(shape, width)
        channels, blocks = shape[0], list[nn.Module]()
        for wider in widths:
            blocks += [nn.Conv2d(channels, wider, 4, 2, 1), nn.LeakyReLU(0.2)]
            channels = wider
        self.frame = nn.Sequential(*blocks, nn.Flatten())
        size = channels * h * w
        self.joined = nn.Sequential(nn.Linear(n_frames * size, features), nn.LeakyReLU(0.2))
        self.single = nn.Linear(size, 1) if frame_scores else None
        waves = 8  # frequencies of the embedding, from 1/2 to 1/256 cycles a frame
        self.rates: Tensor
        self.register_buffer("rates", 2 * torch.pi * 0.5 ** torch.arange(1, waves + 1))
        self.embed = nn.Sequential(
            nn.Linear(2 * waves * (n_frames - 1), features),
            nn.LeakyReLU(0.2),
            nn.Linear(features, features),
        )
        self.head = nn.Linear(features, 1)

    def score(self, video: Video, times: Times) -> Tensor:
        if len(times) != self.n_frames:
            raise InputError(
                f"got {len(times)} frames, but SparseCritic compares {self.n_frames}; lower "
                "n_frames or give longer videos"
            )
        angles = (times.diff()[:, None] * self.rates).flatten()
        embedded = self.embed(torch.cat([angles.sin(), angles.cos()]).to(video))
        frames = self.frame(video.flatten(0, 1)).unflatten(0, video.shape[:2])
        features = self.joined(frames.flatten(1))
        scores = self.head(features) + (features @ embedded / len(embedded) ** 0.5)[:, None]
        return (
            scores if self.single is None else torch.cat([scores, self.single(frames)[..., 0]], 1)
        )


def some_frames(t: int, n: int, device: torch.device) -> Tensor:
    """Positions `[n]` of random frames of `t`, in ascending order."""
    return torch.randperm(t, device=device)[:n].sort().values
