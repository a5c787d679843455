"""Interfaces of all video models, and checks of their arguments."""

import abc
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.typing import ImageShape, Mask, PerSample, Times, Video, Videos, VideoTimes


class VideoPredictor(nn.Module, abc.ABC):
    """Video model that predicts: a distribution over videos, given some of their frames.

    Attributes:
        shape: Channels, height and width of the frames. None: any.
    """

    shape: ImageShape | None = None

    @abc.abstractmethod
    def predict(
        self,
        video: Video,
        times: Times | VideoTimes,
        target_times: Times | VideoTimes,
        n_samples: int = 1,
        mask: Mask | None = None,
    ) -> Videos:
        """Samples of the frames at other times.

        Args:
            video: Conditioning frames, `[b t c h w]` in `[0, 1]`.
            times: Times of these frames, ascending, `[t]` or `[b t]`.
            target_times: Any ascending times, `[k]` or `[b k]`: before, between and after the
                times of the conditioning frames.
            n_samples: Number of samples of each video.
            mask: Mask of the observed conditioning frames, `[b t]`. None: all are observed.

        Returns:
            Samples `[s b k c h w]` in `[0, 1]`.

        Raises:
            InputError: Times that aren't finite and strictly ascending, or that this model can't
                reach.
        """


class TrainablePredictor(VideoPredictor):
    """Predictor that is trained by a loss of its own."""

    @abc.abstractmethod
    def loss(
        self,
        video: Video,
        times: Times | VideoTimes,
        mask: Mask,
        n_cond: int,
        progress: float,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss, a scalar, and its parts by name.

        Args:
            video: Training videos, `[b t c h w]` in `[0, 1]`.
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
    def generate(self, n: int, times: Times) -> Video:
        """Samples `[n t c h w]` in `[0, 1]`.

        Args:
            n: Number of samples.
            times: Ascending times of the frames, `[t]`.
        """


@runtime_checkable
class Scoring(Protocol):
    """Model with a likelihood, or with a bound of its likelihood, such as the ELBO."""

    def scores(
        self, video: Video, times: Times | VideoTimes, mask: Mask, n_cond: int
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


def check_request(
    video: Tensor,
    times: Tensor,
    target_times: Tensor | None = None,
    n_samples: int = 1,
    mask: Tensor | None = None,
) -> None:
    """Checks the arguments of a video model; every `predict`, `loss` and `scores` calls it first.

    Args:
        video: Frames `[b t c h w]`, at least one of each video.
        times: Times of the frames, `[t]` or `[b t]`.
        target_times: Times of a prediction, `[k]` or `[b k]`. None: no prediction.
        n_samples: Number of samples.
        mask: Mask of the observed frames. None: all are observed.

    Raises:
        InputError: Times that aren't finite and strictly ascending, lengths that differ, no frame,
            or no sample.
    """
    if video.ndim != 5 or not video.shape[1]:
        raise InputError(
            f"got frames of shape {tuple(video.shape)}; give (videos, times, channels, height, "
            "width), with at least one frame"
        )
    b, t = video.shape[:2]
    _check_times(times, "times", b)
    if times.shape[-1] != t:
        raise InputError(f"got {times.shape[-1]} times for {t} frames; give one for each frame")
    if target_times is not None:
        _check_times(target_times, "target_times", b)
    if mask is not None and mask.shape != (b, t):
        raise InputError(
            f"got a mask of shape {tuple(mask.shape)} for frames of shape {tuple(video.shape)}; "
            f"give ({b}, {t})"
        )
    if n_samples < 1:
        raise InputError(f"got n_samples {n_samples}; give 1 or more")


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


def frame_units(times: Tensor, target_times: Tensor, mask: Mask | None, name: str) -> Times:
    """Target times as numbers of frames after the first one, for models that step frame by frame.

    Args:
        times: Times of the conditioning frames.
        target_times: Ascending times of the prediction.
        mask: Mask of the observed frames. None: all are observed.
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
    complete = mask is None or bool(mask.all())
    if not complete or (len(gaps) and float(gaps.max() - gaps.min()) > 1e-3):
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


def _check_times(times: Tensor, name: str, n_videos: int) -> None:
    flat = times.ndim == 1
    if not flat and (times.ndim != 2 or len(times) != n_videos):
        raise InputError(
            f"got {name} of shape {tuple(times.shape)} for {n_videos} videos; give (times,) or "
            f"({n_videos}, times)"
        )
    good = times.numel() and bool(times.isfinite().all()) and not bool((times.diff() <= 0).any())
    if not good:
        raise InputError(
            f"got {name} {_listed(times)}; give at least one, all finite, in ascending order"
        )


def _listed(times: Tensor) -> str:
    shown = ", ".join(f"{t:g}" for t in times.flatten()[:8].tolist())
    return f"[{shown}{', …' if times.numel() > 8 else ''}]"
