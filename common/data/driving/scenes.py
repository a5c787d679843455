"""Videos of drives along a street, rendered when they are served."""

from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from common.data.base import Split
from common.data.driving.scene import OBJECT_CLASSES, DrivingScene, Objects
from common.data.driving.tracks import FrameObjects, TrackedClips, Tracks, stacked
from common.data.driving.world import KINDS
from common.data.streets.lighting import DAY, NIGHT, Lighting
from common.data.streets.street import check_size
from common.data.videos.simulated import SEEDS, Simulated, Simulation, Simulator
from common.errors import check_shares
from common.typing import Integers, PixelVideo, Times

LIGHTINGS = {"day": DAY, "night": NIGHT}


class DrivingScenes(Simulated[Tracks]):
    """Drives along a street with houses, trees, moving cars and people, in colour.

    `scene` gives everything that is known: classes and depth of the pixels, boxes, and exact
    optical flow at any time.

    Args:
        size: Height and width of a frame in pixels, 16 or more each.
        lighting: Day or night.
        tracks: Serve a `TrackedClip`, with the boxes of cars and people, in place of a `Clip`.
        labels: Serve a `TrackedClip` that also has the class of each pixel, as an index in
            `STREET_CLASSES`; `tracks` need not be set.
        min_visible: Share of an object that must be seen; others are ignored.

    Raises:
        InputError: The size is too small for a scene, or `min_visible` isn't a share.
    """

    classes = OBJECT_CLASSES

    def __init__(
        self,
        size: tuple[int, int] = (64, 64),
        lighting: Literal["day", "night"] = "day",
        tracks: bool = False,
        labels: bool = False,
        min_visible: float = 0.25,
        **serving: Any,
    ) -> None:
        super().__init__(**serving)
        check_size(size)
        check_shares(min_visible=min_visible)
        self.tracks, self.labels, self.min_visible = tracks or labels, labels, min_visible
        self.size, self.lighting = size, LIGHTINGS[lighting]
        self.shape = (3, *size)

    def simulator(self, split: Split) -> "DrivingSimulator":
        return DrivingSimulator(split, self.size, self.lighting, self.min_visible)

    def dataset(self, split: Split) -> Dataset[Any]:
        clips = self.observed(split)
        if not self.tracks:
            return clips
        assert isinstance(clips.clips, Simulation)
        simulator = clips.clips.simulator  # that of the frames, which knows their objects
        assert isinstance(simulator, DrivingSimulator)
        times = self.times(split)
        labels = partial(simulator.labels, times) if self.labels else None
        return TrackedClips(clips, partial(simulator.objects, times), labels)

    def scene(self, split: Split, number: int) -> DrivingScene:
        """The scene that the video with this number shows."""
        return self.simulator(split).scene(number)


class DrivingSimulator(Simulator[Tracks]):
    """Renderer of the scenes of one split.

    Args:
        split: The split.
        size: Height and width of a frame in pixels.
        lighting: Light and weather.
        min_visible: Share of an object that must be seen; others are ignored.
    """

    def __init__(
        self, split: Split, size: tuple[int, int], lighting: Lighting, min_visible: float
    ) -> None:
        super().__init__(split, len(KINDS))
        self.size, self.lighting, self.min_visible = size, lighting, min_visible
        # Objects and classes of the pixels in the pictures of the last videos, by number and time:
        # they are asked for next.
        self._known: dict[tuple[int, float], tuple[Objects, np.ndarray]] = {}

    def scene(self, number: int) -> DrivingScene:
        """The scene with this number."""
        return DrivingScene(number, SEEDS[self.split], self.size, self.lighting)

    def videos(self, numbers: Integers, times: Times) -> PixelVideo:
        self.draws(numbers, times)  # checks them
        moments = times.tolist()
        shape = (len(numbers), len(moments), 3, *self.size)
        frames = np.empty(shape, np.uint8)
        self._known = {}
        for video, number in zip(frames, numbers.tolist(), strict=True):
            scene = self.scene(number)
            for frame, time in zip(video, moments, strict=True):
                picture = scene.at(time)
                frame[:] = picture.image
                self._known[number, time] = picture.objects, picture.labels
        return torch.from_numpy(frames)

    def trajectories(self, numbers: Integers, times: Times) -> Tracks:
        self.draws(numbers, times)
        return stacked(self.objects(times, numbers.tolist()))

    def objects(self, times: Times, numbers: list[int]) -> list[list[FrameObjects]]:
        """Objects in each frame of the videos with these numbers."""
        pictures = self._pictures(times, numbers)
        return [[self._seen(objects) for objects, _ in video] for video in pictures]

    def labels(self, times: Times, numbers: list[int]) -> Tensor:
        """Class of each pixel of the videos with these numbers, `uint8 [b t h w]`."""
        videos = [[labels for _, labels in video] for video in self._pictures(times, numbers)]
        return torch.from_numpy(np.array(videos, np.uint8))

    def _pictures(
        self, times: Times, numbers: list[int]
    ) -> list[list[tuple[Objects, np.ndarray]]]:
        """Objects and classes of the pixels in each frame, from the last videos if possible."""
        moments = times.tolist()
        if any((number, time) not in self._known for number in numbers for time in moments):
            self.videos(torch.tensor(numbers), times)
        return [[self._known[number, time] for time in moments] for number in numbers]

    def _seen(self, objects: Objects) -> FrameObjects:
        ignored = objects.visible < self.min_visible
        return FrameObjects(objects.boxes, objects.classes, objects.ids, ignored)
