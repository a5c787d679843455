"""Interfaces of systems, as the evaluation and the command line see them."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from pytorch_lightning import LightningModule

from common.data.videos.base import Clip, VideoData
from common.errors import InputError
from common.typing import Times, Video, Videos, VideoTimes
from video_ode.evaluation.pictures import Scene


@runtime_checkable
class Predicting(Protocol):
    """System that predicts videos from their first `n_cond` frames."""

    n_cond: int

    def predict(self, clip: Clip, target_times: Times | VideoTimes, n_samples: int) -> Videos:
        """Samples `[s b k c h w]` in `[0, 1]` at these times.

        Args:
            clip: True videos, of which only the first `n_cond` frames may be used.
            target_times: Ascending times of the prediction, `[k]` or `[b k]`.
            n_samples: Number of samples of each video.
        """


@runtime_checkable
class Swapping(Protocol):
    """System that predicts the motion of videos with the content of others."""

    def swap(self, clip: Clip, content: Clip) -> Videos:
        """Samples `[s b t c h w]` at the times of the clip, with the content of other clips."""


@runtime_checkable
class Generating(Protocol):
    """System that generates videos without any conditioning frames."""

    def generate(self, n: int, times: Times) -> Video:
        """Samples `[n t c h w]` in `[0, 1]` at these times."""


@runtime_checkable
class Replaying(Protocol):
    """Generating system that plays a generated video again, with other random motions."""

    def replay(self, n: int, times: Times, n_samples: int) -> Videos:
        """Motions `[s n t c h w]` of `n` videos: each has one content and one first state."""


@runtime_checkable
class Displaying(Protocol):
    """System whose predictions are no videos: it evaluates itself in `test`, and draws them."""

    def draw(
        self, batch: Any, data: VideoData | None, times: Times | None, n_samples: int
    ) -> list[Scene]:
        """Scenes that show the predictions for each video of a test batch.

        Args:
            batch: Test batch.
            data: Data set of the batch. None: only the frames of the batch are known.
            times: Times of the predictions, in the order in which to show them. None: the times of
                the videos.
            n_samples: Number of samples of each video, if the prediction is random.
        """


class GivenFrames(NamedTuple):
    """Frames of a video that a system predicts from.

    Attributes:
        n: Number of given frames.
        channels: 3: colour; 1: grey.
        size: Height and width of the frames in px. None: any.
        between: Whether the frames between the given ones are predicted, not those after them.
    """

    n: int
    channels: int
    size: tuple[int, int] | None
    between: bool = False


@runtime_checkable
class Watching(Protocol):
    """System that predicts from the frames of any video, such as a file of the user."""

    def given_frames(self) -> GivenFrames:
        """Frames that the system needs.

        Raises:
            InputError: The frames are no pictures that a video could have.
        """


def not_a_video_system(module: LightningModule) -> InputError:
    """Error for a system that is neither `Predicting` nor `Generating`."""
    return InputError(
        f"{type(module).__name__} neither predicts nor generates videos; give it a method "
        "predict(clip, target_times, n_samples) or generate(n, times)"
    )
