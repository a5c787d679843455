"""Base classes of the sets whose videos are simulated when they are served.

Split and number determine a video completely. So the training set never ends, nothing is stored,
and the state of a video is known exactly at all times, also between frames.
"""

import abc
import functools
import math
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from common.data.base import Split
from common.data.draws import uniform
from common.data.videos.base import Clips, VideoData
from common.errors import InputError, check_counts
from common.typing import Frames, Integers, Times

SEEDS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
# Streams of random numbers: images to show, state at time 0, draws at later times.
CHOICE, START, REDRAWN = 0, 1, 2
Trajectories = TypeVar("Trajectories")


class VideoDraws:
    """Random numbers of the `n_objects` objects in each video of a batch.

    Args:
        split: Split of the videos.
        numbers: Numbers of the videos, `[b]`.
        n_objects: Number of objects in a video.
    """

    BLOCK, EVENTS = 16, 2**16

    def __init__(self, split: Split, numbers: np.ndarray, n_objects: int) -> None:
        self.split, self.numbers, self.n_objects = split, numbers, n_objects
        self._blocks: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, each: int, stream: int) -> np.ndarray:
        """Numbers uniform in [0, 1), `[b d each]`: `each` consecutive draws for every object."""
        drawn = uniform(self.numbers, self.n_objects * each, SEEDS[self.split], stream)
        return drawn.reshape(-1, self.n_objects, each)

    def later(self, each: int, frame: int, event: int) -> np.ndarray:
        """Numbers for an event after a frame, uniform in [0, 1), `[b d each]`.

        Args:
            each: Number of draws for every object.
            frame: Number of the frame.
            event: Number of the event after that frame, below 65536.
        """
        # Each call of `uniform` has a fixed cost, so one call draws for several frames.
        block, place = divmod(frame, self.BLOCK)
        if (block, event) not in self._blocks:
            drawn = self(self.BLOCK * each, REDRAWN + self.EVENTS * block + event)
            self._blocks[block, event] = drawn
        return self._blocks[block, event][..., place * each : (place + 1) * each]

    def images(self, n_images: int) -> np.ndarray:
        """Numbers of the images that the objects show, `int64 [b d]`, below `n_images`.

        Training videos draw any images. Validation and test videos show all images once before
        any image is shown again.
        """
        if self.split == "train":
            return (self(1, CHOICE)[..., 0] * n_images).astype(np.int64)
        shown = self.numbers[:, None] * self.n_objects + np.arange(self.n_objects)
        rounds, places = np.divmod(shown, n_images)
        for k in np.unique(rounds):
            now = rounds == k
            places[now] = _image_order(n_images, SEEDS[self.split], int(k))[places[now]]
        return places


class MotionState(NamedTuple):
    """State of all moving objects.

    Attributes:
        positions: As (y, x) in px, `[b d 2]` at one time or `[b t d 2]` at several times.
        velocities: As (y, x) in px per frame, of the same shape.
    """

    positions: np.ndarray
    velocities: np.ndarray


class Motion(abc.ABC):
    """Abstract law of motion for all objects of a batch of videos."""

    @abc.abstractmethod
    def start(self, draws: VideoDraws) -> MotionState:
        """State at time 0."""

    @abc.abstractmethod
    def travel(
        self, state: MotionState, duration: float, frame: int, draws: VideoDraws
    ) -> MotionState:
        """State at time `frame + duration`.

        Args:
            state: State at time `frame`.
            duration: Time to travel, from 0 to 1 frame.
            frame: Number of the frame.
            draws: Random numbers of the videos.
        """

    def path(self, draws: VideoDraws, times: np.ndarray) -> MotionState:
        """States `[b t d 2]` at any times from 0 on.

        The state between two frames is computed from the state at the frame before. So the states
        at whole times are bit-identical whatever other times are requested.
        """
        frames, fractions = (numbers.tolist() for numbers in whole_and_fraction(times))
        wanted: dict[int, list[int]] = {frame: [] for frame in range(max(frames) + 1)}
        for k, frame in enumerate(frames):
            wanted[frame].append(k)
        state = self.start(draws)
        states: list[MotionState] = [state] * len(times)
        for frame, places in wanted.items():
            state = self.travel(state, 1.0, frame - 1, draws) if frame else state
            for k in places:
                rest = fractions[k]
                states[k] = self.travel(state, rest, frame, draws) if rest else state
        positions, velocities = zip(*states, strict=True)
        return MotionState(np.stack(positions, 1), np.stack(velocities, 1))


class Simulator(abc.ABC, Generic[Trajectories]):
    """Abstract renderer of the videos of one split.

    Args:
        split: The split.
        n_objects: Number of objects in a video.
    """

    def __init__(self, split: Split, n_objects: int) -> None:
        self.split, self.n_objects = split, n_objects

    @abc.abstractmethod
    def trajectories(self, numbers: Integers, times: Times) -> Trajectories:
        """Exact motion of the objects at any times from 0 on.

        Raises:
            InputError: A number or a time is negative.
        """

    @abc.abstractmethod
    def videos(self, numbers: Integers, times: Times) -> Frames:
        """Frames of the videos with these numbers at any times from 0 on, `[b t c h w]`.

        Raises:
            InputError: A number or a time is negative.
        """

    def draws(self, numbers: Integers, times: Times) -> VideoDraws:
        """Random numbers of these videos.

        Raises:
            InputError: A number or a time is negative, or there is no time.
        """
        if len(numbers) and numbers.min() < 0:
            raise InputError(f"got video number {int(numbers.min())}; give 0 or more")
        if not len(times) or not (times.min() >= 0 and times.max() < math.inf):
            raise InputError(f"got times {times.tolist()}; give one or more, from 0 on")
        return VideoDraws(self.split, numbers.cpu().numpy(), self.n_objects)


class Simulated(VideoData, Generic[Trajectories]):
    """Base class of the simulated sets.

    Training epoch `e` shows the videos `e n_train … e n_train + n_train - 1`, so no training video
    is ever shown twice.

    Args:
        n_train: Number of videos in a training epoch.
        n_val: Number of validation videos.
        n_test: Number of test videos.
        frame_step: Time between two frames of a validation or test video; the unit is the time
            between two training frames.
    """

    endless = True

    def __init__(
        self,
        n_train: int = 10000,
        n_val: int = 500,
        n_test: int = 1000,
        frame_step: float = 1.0,
        **serving: Any,
    ) -> None:
        super().__init__(flip=False, **serving)
        self.counts: dict[Split, int] = {"train": n_train, "val": n_val, "test": n_test}
        check_counts(1, n_train=n_train, n_val=n_val, n_test=n_test)
        if not 0 < frame_step < math.inf:
            raise InputError(f"got frame_step {frame_step}; give a time above 0, e.g. 0.25")
        self.frame_step = frame_step

    @abc.abstractmethod
    def simulator(self, split: Split) -> Simulator[Trajectories]:
        """Renderer of the videos of a split."""

    def videos(self, split: Split, numbers: Integers, times: Times) -> Frames:
        """Frames of the videos with these numbers at any times from 0 on, `[b t c h w]`."""
        return self.simulator(split).videos(numbers, times)

    def trajectories(
        self, split: Split, numbers: Integers, times: Times | None = None
    ) -> Trajectories:
        """Exact motion of the objects.

        Args:
            split: Split of the videos.
            numbers: Numbers of the videos, `[b]`.
            times: Times from 0 on, `[t]`. None: the times that are served.
        """
        times = self.times(split) if times is None else times
        return self.simulator(split).trajectories(numbers, times)

    def times(self, split: Split) -> Times:
        """Times of the frames that are served."""
        step = 1.0 if split == "train" else self.frame_step
        return torch.from_numpy(np.arange(self.length(split)) * step).float()

    def clips(self, split: Split) -> "Simulation":
        return Simulation(self.simulator(split), self.counts[split], self.times(split))


class Simulation(Clips):
    """Videos of one split of a simulated set.

    Args:
        simulator: Renderer of the videos.
        count: Number of videos in an epoch.
        times: Times of the frames, `[t]`.
    """

    def __init__(self, simulator: Simulator[Any], count: int, times: Times) -> None:
        self.simulator, self.count, self._times = simulator, count, times

    def __len__(self) -> int:
        return self.count

    def frames(self, indices: list[int]) -> Frames:
        return self.simulator.videos(torch.tensor(indices), self._times)

    def times(self, indices: list[int]) -> Times:
        return self._times


def straight_on(positions: Tensor, velocities: Tensor, times: Times, n_cond: int) -> Tensor:
    """Positions `[b t d 2]` at constant velocity: that of the last conditioning frame.

    Args:
        positions: True positions, `[b t d 2]`.
        velocities: True velocities, `[b t d 2]`.
        times: Times of the frames, `[t]`.
        n_cond: Number of conditioning frames.

    Raises:
        InputError: `n_cond` is below 1 or above the number of frames.
    """
    if not 1 <= n_cond <= len(times):
        raise InputError(f"got n_cond {n_cond} of {len(times)} frames; give 1 to {len(times)}")
    last = n_cond - 1
    ahead = (times - times[last]).cpu().double()[:, None, None]
    return positions[:, last, None] + velocities[:, last, None] * ahead


def whole_and_fraction(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of the last frame before each time, and the time since that frame (from 0 to 1)."""
    # Rounding errors: ten times 0.1 may be below 1. A time that close to a frame is the frame.
    frames = np.floor(times + 1e-5).astype(np.int64)
    fractions = times - frames
    return frames, np.where(fractions < 1e-5, 0.0, fractions)


def directions(angles: np.ndarray) -> np.ndarray:
    """Unit vectors (y, x) of angles in radians, `[… 2]`."""
    return np.stack([np.sin(angles), np.cos(angles)], -1)


@functools.cache
def _image_order(n_images: int, seed: int, turn: int) -> np.ndarray:
    """Order in which evaluation videos show the images in their pass number `turn`."""
    return uniform(np.arange(n_images), 1, seed, CHOICE + 2**40 + turn)[:, 0].argsort()
