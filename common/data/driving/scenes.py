"""Videos of drives along a street, rendered when they are served."""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from common.data.base import Split
from common.data.driving.scene import EMPTY, DrivingScene
from common.data.driving.world import KINDS
from common.data.streets.lighting import DAY, NIGHT, Lighting
from common.data.videos.simulated import SEEDS, Simulated, Simulator
from common.typing import Integers, PixelVideo, Times

LIGHTINGS = {"day": DAY, "night": NIGHT}


class Tracks(NamedTuple):
    """Objects in each frame of a batch of videos, the nearest one first, as in `Objects`.

    Frames with fewer than `n` objects have boxes of zeros in the last places, and -1 as class
    and id.

    Attributes:
        boxes: Left, upper, right and lower edge in pixels, `[b t n 4]`.
        classes: Index in `OBJECT_CLASSES`, `[b t n]`.
        ids: Number of the object, the same in all frames of a video, `[b t n]`.
        visible: Share of the object's area that is seen, from 0 to 1, `[b t n]`.
    """

    boxes: torch.Tensor
    classes: torch.Tensor
    ids: torch.Tensor
    visible: torch.Tensor


class DrivingScenes(Simulated[Tracks]):
    """Drives along a street with houses, trees, moving cars and people, in colour.

    `trajectories` gives the boxes, classes and ids of cars and people, and `scene` everything
    else that is known: classes and depth of the pixels, and exact optical flow. The frames of a
    real recording at about 5 Hz move as fast.

    Args:
        size: Height and width of a frame in pixels, 16 or more each.
        lighting: Day or night.

    Raises:
        InputError: The size is too small for a scene.
    """

    def __init__(
        self,
        size: tuple[int, int] = (64, 64),
        lighting: Literal["day", "night"] = "day",
        **serving: Any,
    ) -> None:
        super().__init__(**serving)
        self.size, self.lighting = size, LIGHTINGS[lighting]
        self.shape = (3, *size)
        self.scene("train", 0)  # tells that the size is too small

    def simulator(self, split: Split) -> "DrivingSimulator":
        return DrivingSimulator(split, self.size, self.lighting)

    def scene(self, split: Split, number: int) -> DrivingScene:
        """The scene that the video with this number shows."""
        return self.simulator(split).scene(number)


class DrivingSimulator(Simulator[Tracks]):
    """Renderer of the scenes of one split.

    Args:
        split: The split.
        size: Height and width of a frame in pixels.
        lighting: Light and weather.
    """

    def __init__(self, split: Split, size: tuple[int, int], lighting: Lighting) -> None:
        super().__init__(split, len(KINDS))
        self.size, self.lighting = size, lighting

    def scene(self, number: int) -> DrivingScene:
        """The scene with this number."""
        return DrivingScene(number, SEEDS[self.split], self.size, self.lighting)

    def videos(self, numbers: Integers, times: Times) -> PixelVideo:
        self.draws(numbers, times)  # checks them
        moments = times.tolist()
        shape = (len(numbers), len(moments), 3, *self.size)
        frames = np.empty(shape, np.uint8)
        for video, number in zip(frames, numbers.tolist(), strict=True):
            scene = self.scene(number)
            for frame, time in zip(video, moments, strict=True):
                frame[:] = scene.at(time).image
        return torch.from_numpy(frames)

    def trajectories(self, numbers: Integers, times: Times) -> Tracks:
        self.draws(numbers, times)
        moments = times.tolist()
        scenes = [self.scene(number) for number in numbers.tolist()]
        found = [[scene.at(time).objects for time in moments] for scene in scenes]
        n = max((len(objects.ids) for video in found for objects in video), default=0)

        def padded(name: str, empty: int) -> torch.Tensor:
            parts = [[getattr(objects, name) for objects in video] for video in found]
            first = parts[0][0] if parts else np.empty(0, np.float32)
            shape = (len(scenes), len(moments), n, *first.shape[1:])
            whole = np.full(shape, empty, first.dtype)
            for places, video in zip(whole, parts, strict=True):
                for place, values in zip(places, video, strict=True):
                    place[: len(values)] = values
            return torch.from_numpy(whole)

        return Tracks(
            padded("boxes", 0),
            padded("classes", EMPTY),
            padded("ids", EMPTY),
            padded("visible", 0),
        )
