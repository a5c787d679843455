"""Rotating digits, simulated on the fly."""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from common.data.base import Split
from common.data.images.embedded import EmbeddedDigits
from common.data.videos.simulated import (
    START,
    Draws,
    Simulated,
    checked,
    chosen,
    frames_and_parts,
)
from common.errors import InputError
from common.typing import Integers, Pixels, PixelVideo, Times


class Rotations(NamedTuple):
    """How digits are turned.

    Attributes:
        angles: `float64 [b t]`, in radians, counterclockwise.
        digits: `int64 [b]`: which of the split's `images` is shown.
    """

    angles: Tensor
    digits: Tensor


class RotatingDigits(Simulated):
    """Digits turned about their centre at constant speed from a random angle on.

    With `digits: [3]` much like the rotating MNIST of Casale et al. (2018) and Yildiz et al.
    (2019), but of the embedded digits: 412 threes for training, 40 for validation, 48 for testing.

    Args:
        digits: Classes to show; all if none.
        speed: Radians a frame, counterclockwise.
        n_train: Videos of an epoch.
        n_val: Videos for validation, of other digits as long as there are.
        n_test: Videos for testing, of other digits as long as there are.
        frame_step: Time between two frames of a validation or test video, in training frames.
        n_frames: Frames of a training video.
        n_eval_frames: Frames of a validation or test video; as in training if none.
        batch_size: Videos per device and step.
        num_workers: Loader processes.
        observed: Share of the frames that a model may see.
        pattern: Which: `random` ones, other in each video, or `regular`, evenly spaced.
    """

    shape = (1, 28, 28)

    def __init__(
        self,
        digits: list[int] | None = None,
        speed: float = 2 * math.pi / 16,
        n_train: int = 10000,
        n_val: int = 500,
        n_test: int = 500,
        frame_step: float = 1.0,
        n_frames: int = 16,
        n_eval_frames: int | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        observed: float = 1.0,
        pattern: Literal["random", "regular"] = "random",
    ) -> None:
        super().__init__(
            n_train, n_val, n_test, frame_step, n_frames, n_eval_frames,
            batch_size, num_workers, observed, pattern,
        )  # fmt: skip
        if digits is not None and not (digits and set(digits) <= set(range(10))):
            raise InputError(f"got digits {digits}; give some of 0 to 9")
        self.digits, self.speed = digits, speed
        self._images: dict[Split, Pixels] = {}

    def images(self, split: Split) -> Pixels:
        """The digits of that split that may be shown."""
        if split not in self._images:
            wanted = torch.tensor(range(10) if self.digits is None else self.digits)
            shown = torch.isin(EmbeddedDigits().labels(split), wanted)
            self._images[split] = EmbeddedDigits().images(split)[shown]
        return self._images[split]

    def trajectories(
        self, split: Split, numbers: Integers, times: Times | None = None
    ) -> Rotations:
        """The exact angles, at the times that are served if none are given."""
        times = self.times(split) if times is None else times
        draws = Draws(split, checked(numbers, times), 1)
        first = torch.from_numpy(2 * math.pi * draws(1, START)[:, 0])
        digits = torch.from_numpy(chosen(draws, len(self.images(split)))[:, 0])
        exact = torch.from_numpy(np.add(*frames_and_parts(times.cpu().double().numpy())))
        return Rotations(first + self.speed * exact, digits)

    def videos(self, split: Split, numbers: Integers, times: Times) -> PixelVideo:
        angles, digits = self.trajectories(split, numbers, times)
        return turned(self.images(split)[digits], angles)


def turned(images: Pixels, angles: Tensor) -> PixelVideo:
    """Images turned counterclockwise about their centre, bilinearly; `angles` are `[b t]`."""
    side = images.shape[-1]
    centres = (2 * torch.arange(side, dtype=torch.float32) + 1) / side - 1
    y, x = centres[:, None], centres
    cos, sin = (f(angles).float()[..., None, None] for f in (torch.cos, torch.sin))
    # Where a pixel's colour comes from: y points down, so this turns the grid clockwise.
    grid = torch.stack([cos * x - sin * y, sin * x + cos * y], -1)
    wide = grid.reshape(len(images), -1, side, 2)  # the frames below one another
    colours = functional.grid_sample(images.float(), wide, align_corners=False)
    shape = (len(images), angles.shape[1], 1, side, side)
    return colours[:, 0].reshape(shape).round().byte()
