"""Object detectors: features of frames at several scales, and detections from these features."""

import abc
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from common.data.driving.tracks import TrackedClip, Tracks
from common.data.videos.base import VideoData
from common.errors import InputError
from common.metrics.detection import AveragePrecision, Detections, Truths
from common.typing import Times
from video_ode.objects.detection.tracking import constant_velocity
from video_ode.objects.drawing import draw_boxes
from video_ode.objects.extractor import FeatureExtractor, ReadingScores

SURE = 0.5  # score from which a detection on a true frame counts as an object, and is drawn
VELOCITY = "constant velocity"  # row of a baseline


class Detector(FeatureExtractor):
    """Abstract object detector in two parts, so that predicted features can be read as boxes.

    Attributes:
        classes: Names of the classes.
    """

    classes: tuple[str, ...]

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

    def check(self, data: VideoData) -> None:
        names = getattr(data, "classes", self.classes)
        if tuple(names) != self.classes:
            raise InputError(
                f"got data of the classes {', '.join(names)}, but {type(self).__name__} detects "
                f"{', '.join(self.classes)}; give a detector of the data's classes"
            )

    def readings(self, features: Sequence[Tensor]) -> list[Detections]:
        return self.detections(features)

    def truths(self, videos: TrackedClip, frame: int) -> list[Truths]:
        return truths_at(videos.tracks, frame)

    def scores(self) -> "DetectionScores":
        return DetectionScores()

    def drawn(self, frame: Tensor, reading: Detections | Truths) -> Tensor:
        there = ~reading.ignored if isinstance(reading, Truths) else reading.scores >= SURE
        return draw_boxes(frame, reading.boxes[there], reading.classes[there])

    def extrapolated(
        self,
        readings: Sequence[Sequence[Any]],
        times: Times,
        targets: Times,
        size: tuple[int, int],
    ) -> dict[str, list[list[Any]]]:
        """Boxes that go straight on: the baseline `constant velocity`."""
        videos = [
            constant_velocity(found, times, targets, size) for found in zip(*readings, strict=True)
        ]
        return {VELOCITY: [list(found) for found in zip(*videos, strict=True)]}


class DetectionScores(ReadingScores):
    """Mean average precision of detections, against two references.

    `map50` and `map` compare with the true boxes. `agreement50` compares with the detections in
    the true frames (those with a score of 0.5 or more), as the 11.83 % of the report (Predoc III,
    section 5.1.2) do: it doesn't tell how good the detector is.
    """

    names = ("map50", "map", "agreement50")

    def __init__(self) -> None:
        super().__init__()
        self.precision, self.agreement = AveragePrecision(), AveragePrecision()

    def update(
        self, found: Sequence[Detections], truths: Sequence[Truths], own: Sequence[Detections]
    ) -> None:
        for one, truth, seen in zip(found, truths, own, strict=True):
            self.precision.update(one, truth)
            sure = seen.scores >= SURE
            none = torch.zeros_like(seen.classes[sure], dtype=torch.bool)
            self.agreement.update(one, Truths(seen.boxes[sure], seen.classes[sure], none))

    def compute(self) -> dict[str, float]:
        found = self.precision.compute()
        agreement = self.agreement.compute()["map50"]
        return {"map50": found["map50"], "map": found["map"], "agreement50": agreement}


def truths_at(tracks: Tracks, frame: int) -> list[Truths]:
    """Annotated objects in one frame of each video."""
    truths = []
    for boxes, classes, ignored in zip(
        *(x[:, frame] for x in (tracks.boxes, tracks.classes, tracks.ignored)), strict=True
    ):
        there = classes >= 0
        truths.append(Truths(boxes[there], classes[there], ignored[there]))
    return truths
