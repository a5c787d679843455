"""Object detectors: features of frames at three scales, and detections from these features."""

import abc
from collections.abc import Sequence

from torch import Tensor, nn

from common.metrics.detection import Detections
from common.typing import Image


class Detector(nn.Module, abc.ABC):
    """Abstract object detector in two parts, so that predicted features can be read as boxes.

    Attributes:
        classes: Names of the classes.
        channels: Number of channels of the features at each scale, finest first.
        strides: Pixels of a frame for a place of the features at each scale, finest first.
    """

    classes: tuple[str, ...]
    channels: tuple[int, int, int]
    strides: tuple[int, int, int]

    @abc.abstractmethod
    def features(self, frames: Image) -> list[Tensor]:
        """Feature maps `[n c h/s w/s]` of frames in `[0, 1]`, finest scale first."""

    @abc.abstractmethod
    def detections(
        self, features: Sequence[Tensor], score: float = 0.05, overlap: float = 0.5
    ) -> list[Detections]:
        """Detections in each frame, after non-maximum suppression.

        Args:
            features: Feature maps of the frames, finest scale first.
            score: Smallest score of a detection.
            overlap: Greatest intersection over union of two detections of a class.
        """
