"""Rotating digits, simulated when they are served."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from common.data.base import Split
from common.data.images.embedded import EmbeddedDigits
from common.data.videos.simulated import START, Simulated, Simulator, whole_and_fraction
from common.errors import InputError
from common.typing import Integers, Pixels, PixelVideo, Times


class DigitRotations(NamedTuple):
    """Rotation of the digits.

    Attributes:
        angles: Angles in radians, counterclockwise, `float64 [b t]`.
        digits: Number of the digit of each video among the `images` of the split, `int64 [b]`.
    """

    angles: Tensor
    digits: Tensor


class RotatingDigits(Simulated[DigitRotations]):
    """Digits that rotate about their centre at constant speed, from a random initial angle.

    With `digits: [3]` the set is similar to the rotating MNIST of Casale et al. (2018) and Yildiz
    et al. (2019), but it takes its digits from the embedded ones: 412 threes for training, 40 for
    validation and 48 for testing. Validation and test videos show all digits once before any digit
    is shown again.

    Args:
        digits: Classes to show. None: all classes.
        speed: Angular speed in radians per frame, counterclockwise.
        n_test: Number of test videos.
        n_frames: Number of frames of a training video.
    """

    shape = (1, 28, 28)

    def __init__(
        self,
        digits: list[int] | None = None,
        speed: float = 2 * math.pi / 16,
        n_test: int = 500,
        n_frames: int = 16,
        **serving: Any,
    ) -> None:
        super().__init__(n_test=n_test, n_frames=n_frames, **serving)
        if digits is not None and not (digits and set(digits) <= set(range(10))):
            raise InputError(f"got digits {digits}; give some of 0 to 9")
        if not math.isfinite(speed):
            raise InputError(f"got speed {speed}; give radians per frame, such as 0.4")
        self.digits, self.speed = digits, speed
        self._images: dict[Split, Pixels] = {}

    def images(self, split: Split) -> Pixels:
        """Digits of a split that its videos may show."""
        if split not in self._images:
            wanted = torch.tensor(range(10) if self.digits is None else self.digits)
            shown = torch.isin(EmbeddedDigits().labels(split), wanted)
            self._images[split] = EmbeddedDigits().images(split)[shown]
        return self._images[split]

    def simulator(self, split: Split) -> "RotationSimulator":
        return RotationSimulator(split, self.images(split), self.speed)


class RotationSimulator(Simulator[DigitRotations]):
    """Renderer of the rotating digits of one split.

    Args:
        split: The split.
        images: Digits that the videos may show, `[n 1 h w]`.
        speed: Angular speed in radians per frame, counterclockwise.
    """

    def __init__(self, split: Split, images: Pixels, speed: float) -> None:
        super().__init__(split, n_objects=1)
        self.images, self.speed = images, speed

    def trajectories(self, numbers: Integers, times: Times) -> DigitRotations:
        """Exact angles of the digits at any times from 0 on."""
        draws = self.draws(numbers, times)
        first = torch.from_numpy(2 * math.pi * draws(1, START)[:, 0])
        digits = torch.from_numpy(draws.images(len(self.images))[:, 0])
        exact = torch.from_numpy(np.add(*whole_and_fraction(times.cpu().double().numpy())))
        return DigitRotations(first + self.speed * exact, digits)

    def videos(self, numbers: Integers, times: Times) -> PixelVideo:
        angles, digits = self.trajectories(numbers, times)
        return rotated(self.images[digits], angles)


def rotated(images: Pixels, angles: Tensor) -> PixelVideo:
    """Images rotated counterclockwise about their centres, with bilinear interpolation.

    Args:
        images: One image for each video, `[b 1 h h]`.
        angles: Angles in radians, `[b t]`.

    Returns:
        Videos, `[b t 1 h h]`.
    """
    side = images.shape[-1]
    centres = (2 * torch.arange(side, dtype=torch.float32) + 1) / side - 1
    y, x = centres[:, None], centres
    cos, sin = (f(angles).float()[..., None, None] for f in (torch.cos, torch.sin))
    # Each pixel takes its colour from a point of the image. The points are rotated clockwise,
    # because y points down.
    grid = torch.stack([cos * x - sin * y, sin * x + cos * y], -1)
    wide = grid.reshape(len(images), -1, side, 2)  # all frames of a video in one column
    colours = functional.grid_sample(images.float(), wide, align_corners=False)
    shape = (len(images), angles.shape[1], 1, side, side)
    return colours[:, 0].reshape(shape).round().byte()
