"""Interfaces of all video models, and checks of their arguments.

Frames of bytes, numpy arrays and lists are converted in one place, `VideoPredictor.checked`.
"""

import abc
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

from common.errors import InputError, RunError, check_counts
from common.inputs import ArrayLike, as_pixels
from common.ode.evaluations import SolveError
from common.typing import ImageShape, Mask, PerSample, Times, Video, Videos, VideoTimes
from video_ode.times import as_times, frame_units, shared_times

Prediction = TypeVar("Prediction", bound=Callable[..., Tensor])


class Request(NamedTuple):
    """Checked arguments of a video model, as tensors on its device.

    Attributes:
        video: Videos `[b t c h w]` in `[0, 1]`, of the type of the model's weights.
        times: Times of the frames, `[t]` or `[b t]`.
        target_times: Times of the prediction, `[k]` or `[b k]`; `times` if there is none.
        mask: Mask of the observed frames, `[b t]`.
    """

    video: Video
    times: Times | VideoTimes
    target_times: Times | VideoTimes
    mask: Mask


class VideoPredictor(nn.Module, abc.ABC):
    """Video model that predicts: a distribution over videos, given some of their frames.

    Attributes:
        shape: Channels, height and width of the frames. None: any.
        channels: Number of channels, where `shape` is None.
        fields: Whether the frames are fields, floats of any range, and no pictures.
    """

    shape: ImageShape | None = None
    channels: int = 3
    fields: bool = False

    @abc.abstractmethod
    def predict(
        self,
        video: ArrayLike,
        times: ArrayLike,
        target_times: ArrayLike,
        n_samples: int = 1,
        mask: ArrayLike | None = None,
    ) -> Videos:
        """Samples of the frames at other times.

        All arrays may be tensors, numpy arrays or lists. Frames are bytes (`uint8`) from 0 to 255,
        or floats from 0 to 1; other floats are refused.

        Args:
            video: Conditioning frames, `[b t c h w]`.
            times: Times of these frames, ascending, `[t]` or `[b t]`.
            target_times: Any ascending times, `[k]` or `[b k]`: before, between and after the
                times of the conditioning frames.
            n_samples: Number of samples of each video.
            mask: Mask of the observed conditioning frames, `[b t]`. None: all are observed.

        Returns:
            Samples `[s b k c h w]` in `[0, 1]`, or fields in values like those given.

        Raises:
            InputError: Frames of another kind or size, times that aren't finite and strictly
                ascending, or that this model can't reach.
            RunError: Frames that become NaN or infinite.
        """

    def checked(
        self,
        video: ArrayLike,
        times: ArrayLike,
        target_times: ArrayLike | None = None,
        n_samples: int = 1,
        mask: ArrayLike | None = None,
    ) -> Request:
        """Checked and converted arguments; every `predict`, `loss` and `scores` calls it first.

        Args:
            video: Frames `[b t c h w]`, at least one of each video.
            times: Times of the frames, `[t]` or `[b t]`.
            target_times: Times of a prediction, `[k]` or `[b k]`. None: no prediction.
            n_samples: Number of samples.
            mask: Mask of the observed frames. None: all are observed.

        Raises:
            InputError: Frames that are no pictures of the model's size (see
                `common.inputs.as_pixels`), times that aren't finite and strictly ascending,
                lengths that differ, a video without an observed frame, or no sample.
        """
        frames = self.as_frames(video)
        b, t = frames.shape[:2]
        given = as_times(times, "times", frames)
        if given.shape[-1] != t:
            raise InputError(
                f"got {given.shape[-1]} times for {t} frames; give one for each frame"
            )
        targets = given if target_times is None else as_times(target_times, "target_times", frames)
        seen = torch.ones(b, t, dtype=torch.bool) if mask is None else torch.as_tensor(mask)
        if seen.shape != (b, t) or seen.dtype != torch.bool or not bool(seen.any(1).all()):
            raise InputError(
                f"got a mask of shape {tuple(seen.shape)} and type {seen.dtype} for frames of "
                f"shape {tuple(frames.shape)}; give booleans of shape ({b}, {t}), with at least "
                "one observed frame of each video"
            )
        if n_samples < 1:
            raise InputError(f"got n_samples {n_samples}; give 1 or more")
        return Request(frames, given, targets, seen.to(frames.device))

    def framewise(
        self,
        video: ArrayLike,
        times: ArrayLike,
        target_times: ArrayLike | None = None,
        n_samples: int = 1,
        mask: ArrayLike | None = None,
        backward: bool = False,
    ) -> tuple[Video, Times]:
        """Checked videos and target times, for models that step from frame to frame.

        The arguments are those of `checked`. The target times are numbers of frames after the
        first one (see `frame_units`), below 0 only for models that go `backward`.
        """
        asked = self.checked(video, times, target_times, n_samples, mask)
        return asked.video, frame_units(*asked[1:], type(self).__name__, backward)

    def as_frames(self, video: ArrayLike) -> Video:
        """Videos `[b t c h w]` in `[0, 1]`, on the model's device (see `as_pixels`)."""
        return as_pixels(video, 5, self.shape, next(self.parameters(), None), self.fields)


class TrainablePredictor(VideoPredictor):
    """Predictor that is trained by a loss of its own."""

    @abc.abstractmethod
    def loss(
        self, video: ArrayLike, times: ArrayLike, mask: ArrayLike, n_cond: int, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss, a scalar, and its parts by name.

        Args:
            video: Training videos, `[b t c h w]`: bytes from 0 to 255, or floats from 0 to 1.
            times: Times of the frames, ascending, `[t]` or `[b t]`.
            mask: Mask of the observed frames, `[b t]`; the model must not use other frames.
            n_cond: Number of conditioning frames in the evaluation, the first frames.
            progress: Share of the training that is done, in `[0, 1]`.
        """


class VideoGenerator(nn.Module, abc.ABC):
    """Video model that generates: a distribution over videos, without any conditioning frames.

    Attributes:
        shape: Channels, height and width of the frames. None: any.
    """

    shape: ImageShape | None = None

    @abc.abstractmethod
    def generate(self, n: int, times: ArrayLike) -> Video:
        """Samples `[n t c h w]` in `[0, 1]`.

        Args:
            n: Number of samples.
            times: Ascending times of the frames, `[t]`.

        Raises:
            InputError: No sample, or times that aren't finite and strictly ascending.
        """

    def checked(self, n: int, times: ArrayLike) -> Times:
        """Checked times, on the model's device; every `generate` calls it first."""
        check_counts(1, n=n)
        samples = next(self.parameters(), torch.zeros(())).new_zeros(n)
        return shared_times(as_times(times, "times", samples), type(self).__name__)


@runtime_checkable
class Scoring(Protocol):
    """Model with a likelihood, or with a bound of its likelihood, such as the ELBO."""

    def scores(
        self, video: ArrayLike, times: ArrayLike, mask: ArrayLike, n_cond: int
    ) -> dict[str, PerSample]:
        """Scores of each video by name, `[b]` each, such as `nll` and `kl` in nats.

        They are logged in validation and test. The arguments are those of
        `TrainablePredictor.loss`.
        """


def finite(axis: int) -> Callable[[Prediction], Prediction]:
    """Decorator of a model's method that predicts states or frames: they must be finite.

    Args:
        axis: Axis of the times in the result.

    Returns:
        Decorator. The method then raises a `RunError` that says from which time on the result is
        NaN or infinite, and what to do, also where a solver fails before.
    """

    def decorated(method: Prediction) -> Prediction:
        @functools.wraps(method)
        def checked(self: nn.Module, *args: Any, **options: Any) -> Tensor:
            try:
                found = method(self, *args, **options)
            except RuntimeError as error:
                if isinstance(error, RunError) or not (
                    isinstance(error, SolveError) or _broken(self)
                ):
                    raise
                where = str(error).partition(":")[0]
                raise RunError(_unstable(self, where)) from error
            good = found.isfinite().movedim(axis, 0).flatten(1).all(1).tolist()
            if not all(good):
                first = f"the frames are NaN or infinite from number {good.index(False) + 1}"
                raise RunError(_unstable(self, f"{first} of {len(good)} on"))
            return found

        return cast(Prediction, checked)

    return decorated


def to_unit(frames: Tensor) -> Tensor:
    """Inputs of a model: frames in `[0, 1]` from bytes; floats, which are fields, unchanged."""
    return frames if frames.is_floating_point() else frames / 255


def to_pixels(video: Tensor) -> Tensor:
    """Pictures of bytes from frames `[… c h w]` in `[0, 1]`, such as those of `Clip.unit_range`.

    Frames of neither 1 nor 3 channels, such as fields of two quantities, become grey: the mean
    over their channels.
    """
    if video.shape[-3] not in (1, 3):
        video = video.mean(-3, keepdim=True)
    return (video * 255).round().clamp(0, 255).to(torch.uint8)


def _broken(model: nn.Module) -> bool:
    return not all(bool(weight.isfinite().all()) for weight in model.parameters())


def _unstable(model: nn.Module, what: str) -> str:
    if _broken(model):
        return f"the weights of {type(model).__name__} are NaN or infinite; take other ones"
    return (
        f"{type(model).__name__} can't predict these times: {what}; its dynamics are unstable "
        "over so long a time: give earlier target times, take smaller steps of the dynamics, or "
        "train on longer videos"
    )
