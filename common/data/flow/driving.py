"""Optical flow of drives along a street, rendered when they are served."""

from typing import Any

import numpy as np

from common.data.base import Split
from common.data.draws import uniform
from common.data.driving.scene import DrivingScene
from common.data.flow.base import FlowClips, FlowExample, SyntheticFlow
from common.data.streets.street import check_size
from common.data.videos.simulated import SEEDS
from common.errors import check_positive
from common.typing import Times

LATEST = 20.0  # the first frame is at a time between 0 and this one
STARTS = 5000  # seed of these times


class DrivingFlow(SyntheticFlow):
    """Short drives along a street with the exact optical flow of the scene.

    The camera moves forward, among houses, trees, moving cars and people. Each number is a scene
    of its own, seen from a random time on. The flow is unknown where a point has passed the
    camera.

    Args:
        size: Height and width of a frame in pixels, 16 or more each.
        span: Time between the first and the last frame, in frames of `DrivingScenes`.
        train_size: Height and width of the training frames. A network that takes any size trains
            faster on smaller ones. None: `size`.

    Raises:
        InputError: The size is too small for a scene, or `span` isn't above 0.
    """

    def __init__(
        self,
        size: tuple[int, int] = (64, 64),
        span: float = 1.0,
        train_size: tuple[int, int] | None = None,
        **serving: Any,
    ) -> None:
        super().__init__(flip=False, **serving)
        check_size(size)
        check_size(train_size or size)
        check_positive(span=span)
        self.size, self.span, self.shape = size, span, (3, *size)
        self.train_size = train_size or size

    def clips(self, split: Split) -> "Drives":
        size = self.train_size if split == "train" else self.size
        return Drives(split, size, self.counts[split], self.times(split, self.span))


class Drives(FlowClips):
    """Drives of one split with their optical flow.

    Args:
        split: The split.
        size: Height and width of a frame in pixels.
        count: Number of videos in an epoch.
        times: Times of the frames since the first one, `[t]`.
    """

    def __init__(self, split: Split, size: tuple[int, int], count: int, times: Times) -> None:
        super().__init__(count, times)
        self.split, self.size = split, size

    def start(self, index: int) -> float:
        """Time of the scene at the first frame of the video with this number."""
        return LATEST * float(uniform(np.array([index]), 1, STARTS + SEEDS[self.split])[0, 0])

    def scene(self, index: int) -> DrivingScene:
        """The scene that the video with this number shows."""
        return DrivingScene(index, SEEDS[self.split], self.size)

    def example(self, index: int) -> FlowExample:
        scene = self.scene(index)
        moments = [self.start(index) + time for time in self._times.tolist()]
        pictures = [scene.at(moment) for moment in moments]
        flow = scene.flow_between(pictures[0], pictures[-1], moments[0], moments[-1])
        return FlowExample(np.stack([picture.image for picture in pictures]), *flow)
