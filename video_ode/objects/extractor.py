"""Feature extractors: networks that turn frames into feature maps, and read what these mean."""

import abc
import hashlib
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from common.data.driving.tracks import TrackedClip
from common.data.videos.base import VideoData
from common.errors import InputError
from common.typing import Image, ImageShape, Times


class ReadingScores(nn.Module, abc.ABC):
    """Scores of what an extractor reads from predicted features, at one time.

    Attributes:
        names: Names of the scores; larger ones are better.
    """

    names: tuple[str, ...]

    @abc.abstractmethod
    def update(self, found: Sequence[Any], truths: Sequence[Any], own: Sequence[Any]) -> None:
        """Adds frames.

        Args:
            found: Readings of predicted features, one a frame.
            truths: Truth of each frame, from `FeatureExtractor.truths`.
            own: Readings of the features of the true frames.
        """

    @abc.abstractmethod
    def compute(self) -> dict[str, float]:
        """Scores over all frames that were added, by name; NaN where nothing counts."""


class FeatureExtractor(nn.Module, abc.ABC):
    """Abstract network from frames to feature maps at several scales, which it can read.

    A reading is what the rest of the network says about a frame: its detected objects, or the
    class of each pixel. So features that were predicted can be read without a frame.

    Attributes:
        channels: Number of channels of the features at each scale, finest first.
        strides: Pixels of a frame for a place of the features at each scale, finest first.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def shape_at(self, scale: int, shape: ImageShape) -> ImageShape:
        """Channels, height and width of the features of frames at one scale.

        Args:
            scale: Number of the scale, finest first.
            shape: Channels, height and width of a frame.

        Raises:
            InputError: There is no such scale.
        """
        if not 0 <= scale < len(self.strides):
            raise InputError(
                f"got scale {scale}; give 0 to {len(self.strides) - 1}, the finest scale first"
            )
        stride = self.strides[scale]
        return self.channels[scale], shape[1] // stride, shape[2] // stride

    def check(self, data: VideoData) -> None:
        """Checks that the network can be compared with the truth of a data set; by default it can.

        Raises:
            InputError: It can't.
        """

    def check_size(self, frames: Image) -> None:
        """Raises an `InputError` if the coarsest stride doesn't divide the sides of frames."""
        h, w = frames.shape[-2:]
        if h % self.strides[-1] or w % self.strides[-1]:
            raise InputError(
                f"got frames of {h}x{w}; {type(self).__name__} needs sides that "
                f"{self.strides[-1]} divides"
            )

    @abc.abstractmethod
    def features(self, frames: Image) -> list[Tensor]:
        """Feature maps `[n c h/s w/s]` of frames in `[0, 1]`, finest scale first."""

    @abc.abstractmethod
    def readings(self, features: Sequence[Tensor]) -> list[Any]:
        """Readings of feature maps: detections or a class map, for example, for each frame."""

    @abc.abstractmethod
    def reading_loss(self, features: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """Loss of what the network reads from features, a scalar.

        Args:
            features: Feature maps `[n c h w]`, finest first.
            wanted: Feature maps that should be read alike.
        """

    @abc.abstractmethod
    def truths(self, videos: TrackedClip, frame: int) -> list[Any]:
        """Truth that readings are compared with, for one frame of each video.

        Raises:
            InputError: The videos come without it.
        """

    @abc.abstractmethod
    def scores(self) -> ReadingScores:
        """New, empty scores of readings."""

    @abc.abstractmethod
    def drawn(self, frame: Tensor, reading: Any) -> Tensor:
        """Picture of a reading, drawn on its frame.

        Args:
            frame: Frame `uint8 [3 h w]`.
            reading: Reading, or truth, of the frame.

        Returns:
            Picture `uint8 [3 2h 2w]`: the frame is enlarged.
        """

    def extrapolated(
        self,
        readings: Sequence[Sequence[Any]],
        times: Times,
        targets: Times,
        size: tuple[int, int],
    ) -> dict[str, list[list[Any]]]:
        """Readings at later times by simple methods, by the method's name.

        Args:
            readings: Readings of the given frames; for each frame, those of all videos.
            times: Times of the given frames, `[t]`.
            targets: Later times, `[k]`.
            size: Height and width of a frame in pixels.

        Returns:
            For each method and each of the `k` times, the readings of all videos. Empty: there is
            no such method.
        """
        return {}


def fingerprint(module: nn.Module) -> str:
    """Hash of the class and of all weights and buffers of a network."""
    code = hashlib.sha256(type(module).__qualname__.encode())
    for name, value in module.state_dict().items():
        code.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        code.update(value.detach().cpu().contiguous().numpy().tobytes())
    return code.hexdigest()
