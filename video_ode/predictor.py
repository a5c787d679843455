"""Interfaces of all video models, and checks of their arguments.

Frames of bytes, numpy arrays and lists are converted in one place, `VideoPredictor.checked`.
"""

import abc
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts, reason
from common.inputs import ArrayLike, as_pixels
from common.typing import ImageShape, Mask, PerSample, Times, Video, Videos, VideoTimes


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
        fields: Whether the frames are fields, floats of any range, and no pictures.
    """

    shape: ImageShape | None = None
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
            Samples `[s b k c h w]` in `[0, 1]`.

        Raises:
            InputError: Frames of another kind or size, times that aren't finite and strictly
                ascending, or that this model can't reach.
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
        given = _as_times(times, "times", frames)
        if given.shape[-1] != t:
            raise InputError(
                f"got {given.shape[-1]} times for {t} frames; give one for each frame"
            )
        targets = (
            given if target_times is None else _as_times(target_times, "target_times", frames)
        )
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
    ) -> tuple[Video, Times]:
        """Checked videos and target times, for models that step from frame to frame.

        The arguments are those of `checked`. The target times are numbers of frames after the
        first one (see `frame_units`).
        """
        asked = self.checked(video, times, target_times, n_samples, mask)
        return asked.video, frame_units(*asked[1:], type(self).__name__)

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
        return shared_times(_as_times(times, "times", samples), type(self).__name__)


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


def to_unit(frames: Tensor) -> Tensor:
    """Frames in `[0, 1]` from bytes; floats, which are fields and not pictures, stay unchanged."""
    return frames if frames.is_floating_point() else frames / 255


def to_pixels(video: Tensor) -> Tensor:
    """Frames of bytes from frames in `[0, 1]`."""
    return (video * 255).round().clamp(0, 255).to(torch.uint8)


def shared_times(times: Tensor, name: str) -> Times:
    """Times `[t]` that all videos of a batch share, for models that need shared times.

    Such models step from frame to frame, or from one time to the next one for all videos at once.
    They call this function on all times that they get.

    Args:
        times: Times `[t]` or `[b t]`.
        name: Name of the model, for the error message.

    Raises:
        InputError: The times differ between videos.
    """
    if times.ndim == 2:
        if bool((times != times[:1]).any()):
            raise InputError(
                f"{name} needs the same times for all videos of a batch; set data.batch_size 1, "
                "or use a latent ODE with a GRUEncoder, which takes times of each video"
            )
        times = times[0]
    return times


def frame_units(times: Tensor, target_times: Tensor, mask: Mask, name: str) -> Times:
    """Target times as numbers of frames after the first one.

    Args:
        times: Times of the conditioning frames.
        target_times: Ascending times of the prediction.
        mask: Mask of the observed frames.
        name: Name of the model, for the error message.

    Returns:
        Numbers of frames `[k]`, on the CPU and in double precision. Whole numbers are exact, so
        that they can be compared.

    Raises:
        InputError: Conditioning frames that are missing or unevenly spaced, times that differ
            between videos, or a target time before the first frame.
    """
    times, target_times = shared_times(times, name), shared_times(target_times, name)
    gaps = times.cpu().double().diff()
    if not bool(mask.all()) or (len(gaps) and float(gaps.max() - gaps.min()) > 1e-3):
        raise InputError(
            f"{name} steps from frame to frame and needs all of them, evenly spaced; set "
            "data.observed 1, or use a latent ODE for irregular times"
        )
    spacing = float(gaps[0]) if len(gaps) else 1.0
    units = (target_times - times[0]).cpu().double() / spacing
    units = torch.where((units - units.round()).abs() < 1e-3, units.round(), units)
    if float(units[0]) < 0:
        raise InputError(
            f"got target time {float(target_times[0]):g}, before the first conditioning frame at "
            f"{float(times[0]):g}: {name} runs forward only"
        )
    return units


def _as_times(given: ArrayLike, name: str, video: Tensor) -> Tensor:
    """Checked times, on the device of the videos and in at least single precision."""
    dtype = torch.promote_types(video.dtype, torch.float32)
    try:
        times = torch.as_tensor(given, dtype=dtype, device=video.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"got {name} that are no numbers ({reason(error)})") from error
    if times.ndim != 1 and (times.ndim != 2 or len(times) != len(video)):
        raise InputError(
            f"got {name} of shape {tuple(times.shape)} for {len(video)} videos; give (times,) or "
            f"({len(video)}, times)"
        )
    good = times.numel() and bool(times.isfinite().all()) and not bool((times.diff() <= 0).any())
    if not good:
        raise InputError(
            f"got {name} {_listed(times)}; give at least one, all finite and different, in "
            "ascending order"
        )
    return times


def _listed(times: Tensor) -> str:
    shown = ", ".join(f"{t:g}" for t in times.flatten()[:8].tolist())
    return f"[{shown}{', …' if times.numel() > 8 else ''}]"
