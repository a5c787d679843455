"""Base class of the video models that separate the content of a video from its motion."""

import abc
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError, check_shares
from common.inputs import ArrayLike
from common.typing import Video, Videos
from video_ode.frames.base import Skips
from video_ode.predictor import VideoPredictor, finite


class Content(NamedTuple):
    """Static content of videos.

    Attributes:
        code: Content variable, `[b d …]`. With d = 0 the model has no content variable.
        skips: Feature maps of one frame, for the skip connections of a decoder.
    """

    code: Tensor
    skips: Skips


class SeparatingPredictor(VideoPredictor):
    """Predictor that decodes each frame from a content that is constant and a state that moves.

    So the content of one video can be joined with the motion of another one.
    """

    @abc.abstractmethod
    def content_of(self, video: ArrayLike) -> Content:
        """Content of videos.

        Args:
            video: Conditioning frames, `[b t c h w]`.
        """

    @abc.abstractmethod
    def states(
        self,
        video: ArrayLike,
        times: ArrayLike,
        target_times: ArrayLike,
        n_samples: int = 1,
        mask: ArrayLike | None = None,
    ) -> Tensor:
        """Samples of the states, `[s b k …]`; the arguments are those of `predict`."""

    @abc.abstractmethod
    def decode(self, states: Tensor, content: Content) -> Video:
        """Decoded frames `[b t c h w]` of states `[b t …]`, with a content for each video."""

    def predict(
        self,
        video: ArrayLike,
        times: ArrayLike,
        target_times: ArrayLike,
        n_samples: int = 1,
        mask: ArrayLike | None = None,
    ) -> Videos:
        content = self.content_of(video)
        return self.with_content(video, times, target_times, n_samples, content, mask)

    @finite(axis=2)
    def with_content(
        self,
        video: ArrayLike,
        times: ArrayLike,
        target_times: ArrayLike,
        n_samples: int,
        content: Content,
        mask: ArrayLike | None = None,
    ) -> Videos:
        """Samples with the motion of a video and a content, possibly that of another video.

        The arguments are those of `predict`, and a content for each video.
        """
        states = self.states(video, times, target_times, n_samples, mask)
        return torch.stack([self.decode(sample, content) for sample in states])

    def interpolate(
        self,
        video: ArrayLike,
        other: ArrayLike,
        times: ArrayLike,
        target_times: ArrayLike,
        shares: Sequence[float],
    ) -> Videos:
        """Videos `[s b k c h w]` whose states are linear interpolations between two videos.

        Franceschi et al. 2020, section 5, "Interpolation of dynamics".

        Args:
            video: Conditioning frames; all results have the content of these.
            other: Conditioning frames of the other videos.
            times: Times of the frames of both.
            target_times: Ascending times of the results.
            shares: Weights of the states of the other videos, from 0 to 1.
        """
        check_shares(shares=shares)
        a = self.states(video, times, target_times)[0]
        b = self.states(other, times, target_times)[0]
        if len(a) != len(b):
            raise InputError(f"got {len(b)} other videos for {len(a)}; give as many of both")
        content = self.content_of(video)
        return torch.stack([self.decode(torch.lerp(a, b, share), content) for share in shares])

    def repeated(self, content: Content, states: Tensor) -> Content:
        """Content of each frame, `[b·t …]`, for states `[b t …]`.

        Raises:
            InputError: Another number of contents than of videos.
        """
        b, t = states.shape[:2]
        if len(content.code) != b:
            raise InputError(f"got {len(content.code)} contents for {b} videos; give one for each")

        def every(x: Tensor) -> Tensor:
            return x[:, None].expand(-1, t, *x.shape[1:]).flatten(0, 1)

        return Content(every(content.code), [every(skip) for skip in content.skips])
