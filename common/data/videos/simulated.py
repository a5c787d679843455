"""Videos simulated on the fly: what such sets share.

A video depends on its split and number alone, so the training set never ends, nothing is stored,
and its state at any time, between frames too, is known exactly.
"""

import abc
import functools
import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from common.data.base import Split
from common.data.videos.base import Clips, VideoData, uniform
from common.errors import InputError, check_counts
from common.typing import Integers, PixelVideo, Times

SEEDS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
CHOICE, START, REDRAWN = 0, 1, 2  # streams of random numbers: which digits, first state, later

State = tuple[np.ndarray, np.ndarray]  # positions and velocities, each [b d 2] as (y, x)


class Draws:
    """Random numbers for `n_objects` objects in each of a batch of videos."""

    BLOCK, EVENTS = 16, 2**16

    def __init__(self, split: Split, numbers: np.ndarray, n_objects: int) -> None:
        self.split, self.numbers, self.n_objects = split, numbers, n_objects
        self._blocks: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, each: int, stream: int) -> np.ndarray:
        """Uniform in [0, 1), `[b d each]`; an object's lie one behind the other."""
        drawn = uniform(self.numbers, self.n_objects * each, SEEDS[self.split], stream)
        return drawn.reshape(-1, self.n_objects, each)

    def later(self, each: int, frame: int, event: int) -> np.ndarray:
        """Those for the event of that number (below 65536) after that frame, `[b d each]`."""
        # Drawing costs by the call, so it is done for several frames in advance.
        block, place = divmod(frame, self.BLOCK)
        if (block, event) not in self._blocks:
            drawn = self(self.BLOCK * each, REDRAWN + self.EVENTS * block + event)
            self._blocks[block, event] = drawn
        return self._blocks[block, event][..., place * each : (place + 1) * each]


class Motion(abc.ABC):
    """How objects start and move, all those of a batch at once."""

    @abc.abstractmethod
    def start(self, draws: Draws) -> State:
        """The state at time 0."""

    @abc.abstractmethod
    def travel(self, state: State, duration: float, frame: int, draws: Draws) -> State:
        """The state `duration` (0 to 1) after that at time `frame`."""

    def path(self, draws: Draws, times: np.ndarray) -> State:
        """Positions and velocities `[b t d 2]` at any times from 0 on.

        What happens after a frame is computed from the state there, so that the states at whole
        times are the same to the bit whatever other times are asked for.
        """
        frames, parts = (numbers.tolist() for numbers in frames_and_parts(times))
        wanted: dict[int, list[int]] = {frame: [] for frame in range(max(frames) + 1)}
        for k, frame in enumerate(frames):
            wanted[frame].append(k)
        state = self.start(draws)
        states: list[State] = [state] * len(times)
        for frame, places in wanted.items():
            state = self.travel(state, 1.0, frame - 1, draws) if frame else state
            for k in places:
                part = parts[k]
                states[k] = self.travel(state, part, frame, draws) if part else state
        positions, velocities = zip(*states, strict=True)
        return np.stack(positions, 1), np.stack(velocities, 1)


class Simulated(VideoData):
    """Base of the sets made on the fly.

    In training, epoch `e` shows the videos `e n_train … e n_train + n_train - 1`.

    Args:
        n_train: Videos of an epoch.
        n_val: Videos for validation.
        n_test: Videos for testing.
        frame_step: Time between two frames of a validation or test video, in training frames.
        n_frames: Frames of a training video.
        n_eval_frames: Frames of a validation or test video; as in training if none.
        batch_size: Videos per device and step.
        num_workers: Loader processes.
        observed: Share of the frames that a model may see.
        pattern: Which: `random` ones, other in each video, or `regular`, evenly spaced.
    """

    endless = True

    def __init__(
        self,
        n_train: int = 10000,
        n_val: int = 500,
        n_test: int = 1000,
        frame_step: float = 1.0,
        n_frames: int = 20,
        n_eval_frames: int | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        observed: float = 1.0,
        pattern: Literal["random", "regular"] = "random",
    ) -> None:
        super().__init__(
            n_frames, n_eval_frames, batch_size, num_workers, False, observed, pattern
        )
        self.counts: dict[Split, int] = {"train": n_train, "val": n_val, "test": n_test}
        check_counts(1, n_train=n_train, n_val=n_val, n_test=n_test)
        if not 0 < frame_step < math.inf:
            raise InputError(f"got frame_step {frame_step}; give a time above 0, e.g. 0.25")
        self.frame_step = frame_step

    @abc.abstractmethod
    def videos(self, split: Split, numbers: Integers, times: Times) -> PixelVideo:
        """The videos of these numbers at any times from 0 on."""

    def times(self, split: Split) -> Times:
        """Times of the frames that are served."""
        step = 1.0 if split == "train" else self.frame_step
        return torch.from_numpy(np.arange(self.length(split)) * step).float()

    def clips(self, split: Split) -> "Simulation":
        return Simulation(self, split)


class Simulation(Clips):
    """The videos of one split of a simulated set."""

    def __init__(self, data: Simulated, split: Split) -> None:
        self.data, self.split = data, split

    def __len__(self) -> int:
        return self.data.counts[self.split]

    def frames(self, indices: list[int]) -> PixelVideo:
        return self.data.videos(self.split, torch.tensor(indices), self.times)

    @property
    def times(self) -> Times:
        return self.data.times(self.split)


def straight_on(positions: Tensor, velocities: Tensor, times: Times, n_cond: int) -> Tensor:
    """Positions `[b t d 2]` that keep the velocity of the last of `n_cond` frames."""
    if not 1 <= n_cond <= len(times):
        raise InputError(f"got n_cond {n_cond} of {len(times)} frames; give 1 to {len(times)}")
    last = n_cond - 1
    ahead = (times - times[last]).cpu().double()[:, None, None]
    return positions[:, last, None] + velocities[:, last, None] * ahead


def chosen(draws: Draws, n_images: int) -> np.ndarray:
    """Which images each video shows, `int64 [b d]`.

    Any in training; in validation and testing all once before any is shown again.
    """
    if draws.split == "train":
        return (draws(1, CHOICE)[..., 0] * n_images).astype(np.int64)
    shown = draws.numbers[:, None] * draws.n_objects + np.arange(draws.n_objects)
    rounds, places = np.divmod(shown, n_images)
    for k in np.unique(rounds):
        now = rounds == k
        places[now] = _order(n_images, SEEDS[draws.split], int(k))[places[now]]
    return places


def checked(numbers: Integers, times: Times) -> np.ndarray:
    """The numbers as an array.

    Raises:
        InputError: There is no such video or time.
    """
    if len(numbers) and numbers.min() < 0:
        raise InputError(f"got video number {int(numbers.min())}; they start at 0")
    if not len(times) or not (times.min() >= 0 and times.max() < math.inf):
        raise InputError(f"got times {times.tolist()}; give one or more, from 0 on")
    return numbers.cpu().numpy()


def frames_and_parts(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last frame before each time, and the part of a frame gone by since."""
    # Ten times 0.1 may be a little less than 1: what is that close to a frame is the frame.
    frames = np.floor(times + 1e-5).astype(np.int64)
    parts = times - frames
    return frames, np.where(parts < 1e-5, 0.0, parts)


def directions(angles: np.ndarray) -> np.ndarray:
    """Unit vectors (y, x), `[… 2]`."""
    return np.stack([np.sin(angles), np.cos(angles)], -1)


@functools.cache
def _order(n_images: int, seed: int, turn: int) -> np.ndarray:
    return uniform(np.arange(n_images), 1, seed, CHOICE + 2**40 + turn)[:, 0].argsort()
