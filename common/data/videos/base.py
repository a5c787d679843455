"""Videos served as bytes, with the times of their frames and which of them a model may see."""

import abc
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from common.data.base import Data, Split
from common.errors import InputError
from common.typing import Integers, Mask, PixelVideo, Times


class Clip(NamedTuple):
    """A batch of videos.

    Attributes:
        frames: `uint8 [b t c h w]`.
        times: `[t]`, ascending, in frames of the original video.
        mask: `[b t]`: which frames a model may see. The others are there to judge it by.
        number: `[b]`: the videos' places in their split.
    """

    frames: PixelVideo
    times: Times
    mask: Mask
    number: Integers


class Clips(Dataset[Clip], abc.ABC):
    """The videos of a split, all of equal length."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def frames(self, indices: list[int]) -> PixelVideo:
        """The videos of these numbers, which of an endless set may exceed its length."""

    @property
    @abc.abstractmethod
    def times(self) -> Times:
        """Times of the frames, ascending."""


class _Observed(Dataset[Clip]):
    """Adds times and masks; serves mirror images."""

    def __init__(self, clips: Clips, data: "VideoData", seed: int) -> None:
        self.clips, self.data, self.seed = clips, data, seed

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Clip:
        n = len(self)
        wanted = indices if self.data.endless else [i % n for i in indices]
        frames = self.clips.frames(wanted)
        if not self.data.endless:
            mirrored = [k for k, i in enumerate(indices) if i >= n]
            frames[mirrored] = frames[mirrored].flip(-1)
        mask = self.data.mask(wanted, frames.shape[1], self.seed)
        return Clip(frames, self.clips.times, mask, torch.tensor(wanted))


class VideoData(Data):
    """Base of the video sets; a batch is a `Clip`.

    Args:
        n_frames: Frames of a training video.
        n_eval_frames: Frames of a validation or test video; as in training if none.
        batch_size: Videos per device and step.
        num_workers: Loader processes.
        flip: Mirror training videos left to right at random.
        observed: Share of the frames that a model may see.
        pattern: Which: `random` ones, other in each video, or `regular`, evenly spaced. The first
            frame is always seen.
    """

    examples = "videos"

    def __init__(
        self,
        n_frames: int = 20,
        n_eval_frames: int | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        flip: bool = False,
        observed: float = 1.0,
        pattern: Literal["random", "regular"] = "random",
    ) -> None:
        super().__init__(batch_size, num_workers, flip)
        n_eval_frames = n_frames if n_eval_frames is None else n_eval_frames
        if min(n_frames, n_eval_frames) < 2:
            raise InputError(
                f"got n_frames {n_frames} and n_eval_frames {n_eval_frames}; a video needs 2"
            )
        if not 0 < observed <= 1:
            raise InputError(f"got observed {observed}; give a share above 0 and at most 1")
        self.n_frames, self.n_eval_frames = n_frames, n_eval_frames
        self.observed, self.pattern = observed, pattern

    @abc.abstractmethod
    def clips(self, split: Split) -> Clips:
        """The videos of that split, of `length(split)` frames."""

    def length(self, split: Split) -> int:
        """Frames of a video of that split."""
        return self.n_frames if split == "train" else self.n_eval_frames

    def dataset(self, split: Split) -> _Observed:
        return _Observed(self.clips(split), self, seed=("train", "val", "test").index(split))

    def baselines(self, clip: Clip, n_cond: int) -> dict[str, PixelVideo]:
        """Predictions that cost nothing but need to know how this set's videos are made.

        Args:
            clip: A test batch.
            n_cond: The first so many frames are known.

        Returns:
            By name, e.g. `constant velocity`, videos as long as the clip's.
        """
        return {}

    def mask(self, indices: list[int], n_frames: int, seed: int) -> Mask:
        """Which frames may be seen; fixed by a video's number."""
        kept = max(1, round(self.observed * n_frames))
        if kept == n_frames:
            return torch.ones(len(indices), n_frames, dtype=torch.bool)
        if self.pattern == "regular":
            ranks = np.floor(np.arange(kept) * n_frames / kept).astype(int)
            mask = np.zeros(n_frames, bool)
            mask[ranks] = True
            return torch.from_numpy(mask).expand(len(indices), -1).clone()
        scores = uniform(np.asarray(indices), n_frames, seed=seed + 1000)
        scores[:, 0] = -1  # the first frame is always seen
        return torch.from_numpy(scores.argsort(1).argsort(1) < kept)


def uniform(index: np.ndarray, draws: int, seed: int = 0, stream: int = 0) -> np.ndarray:
    """Integers uniform in [0, 1), `float64 [n draws]`, each fixed by its video's number alone.

    A hash of (seed, stream, index, draw) by the mixing function of SplitMix64 (Steele et al.
    2014), so that a whole batch is drawn at once, and no draw depends on what else is in it.
    """
    with np.errstate(over="ignore"):
        x = _mixed(np.uint64(seed) + np.uint64(1))
        x = _mixed(x + np.uint64(stream))
        x = _mixed(x + np.asarray(index, np.uint64)[:, None])
        x = _mixed(x + np.arange(draws, dtype=np.uint64))
    return (x >> np.uint64(11)) * 2.0**-53


def _mixed(x: Any) -> Any:
    x = np.asarray(x + np.uint64(0x9E3779B97F4A7C15))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
