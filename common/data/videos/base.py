"""Base class of the video sets, and the batch that they serve.

A batch holds the frames, their times, and a mask of the frames that a model may see.
"""

import abc
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from common.data.base import Data, Split
from common.data.draws import uniform
from common.errors import InputError
from common.typing import Frames, Integers, Mask, Times, VideoTimes


class FieldScale(NamedTuple):
    """Scale of fields, which are served, predicted and trained on in values of any range.

    Attributes:
        low: Value of each video that pictures show as black, `[b]`; PSNR and SSIM take it as 0.
        high: Value of each video that pictures show as white, `[b]`; PSNR and SSIM take it as 1.
        error: Factor from errors of the served values to errors in the field's own unit, such as
            °C, `[b t c h w]`, with length 1 along axes where it does not change. It is 0 in cells
            that don't count, and larger in the others by the root of all cells over counted
            cells, so that mean squares over all cells are those over the counted ones.
    """

    low: Tensor
    high: Tensor
    error: Tensor


class Clip(NamedTuple):
    """Batch of videos of equal length.

    Times are real numbers in frames of the original video: a set that takes every second frame
    has the times 0, 2, 4, …; in a file of uneven time stamps, a frame is the usual distance. They
    ascend, and all videos of a batch have the same first time (0 in all sets of this project).
    Where all videos share all times (regular frame rate), `times` is `[t]`. Where each video has
    its own times (time stamps of real recordings), it is `[b t]`.

    Attributes:
        frames: `[b t c h w]`: pictures are `uint8`; fields that are no pictures are `float32` and
            served, predicted and scored as they are, without rounding.
        times: Times of the frames, `[t]` or `[b t]`.
        mask: `[b t]`: true for the frames that a model may see. The other frames serve the
            evaluation only.
        number: `[b]`: number of each video in its split.
        scale: Scale of fields. None: pictures, or fields from 0 to 1.
    """

    frames: Frames
    times: Times | VideoTimes
    mask: Mask
    number: Integers
    scale: FieldScale | None = None

    def select(self, videos: slice | Sequence[int] | Integers) -> "Clip":
        """Clip of some of the videos.

        Args:
            videos: Positions in this batch, as a slice or as a sequence of integers.
        """
        chosen = videos if isinstance(videos, slice | torch.Tensor) else list(videos)
        times = self.times if self.times.ndim == 1 else self.times[chosen]
        scale = None if self.scale is None else FieldScale(*(x[chosen] for x in self.scale))
        return Clip(self.frames[chosen], times, self.mask[chosen], self.number[chosen], scale)

    def to(self, device: torch.device | str) -> "Clip":
        """Clip with all tensors on a device."""

        # Lightning moves a batch that has this method by calling it, without non_blocking.
        def moved(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=x.is_pinned())

        frames, times, mask, number, scale = self
        scale = None if scale is None else FieldScale(*map(moved, scale))
        return Clip(moved(frames), moved(times), moved(mask), moved(number), scale)

    def unit_range(self, video: Tensor) -> Tensor:
        """Videos of this batch from 0 (black) to 1 (white), for pictures, PSNR and SSIM.

        Args:
            video: True or predicted videos `[… b t c h w]`: bytes, or floats as they are served.
        """
        if not video.is_floating_point():
            return video / 255
        if self.scale is None:
            return video
        low, high = (x[:, None, None, None, None].to(video) for x in self.scale[:2])
        return (video - low) / (high - low)

    def own_unit(self, video: Tensor) -> Tensor:
        """Videos of this batch in values whose differences are in the field's own unit.

        Args:
            video: True or predicted videos `[… b t c h w]`: bytes (their unit is the whole range),
                or floats as they are served.
        """
        if self.scale is None or not video.is_floating_point():
            return self.unit_range(video)
        return video * self.scale.error.to(video)

    def own_times(self) -> VideoTimes:
        """Times of each video, `[b t]`, also where the videos share them."""
        return self.times.expand(len(self.frames), -1)

    @staticmethod
    def join(clips: Sequence["Clip"]) -> "Clip":
        """One clip of all videos of several clips, in the same order.

        The times of the result are `[t]` if all videos share them, otherwise `[b t]`.

        Raises:
            InputError: There is no clip, or the clips differ in their number of frames.
        """
        lengths = {clip.frames.shape[1] for clip in clips}
        if len(lengths) != 1:
            raise InputError(
                f"got {len(clips)} clips with {sorted(lengths)} frames; give one or more clips of "
                "equal length"
            )
        first = clips[0].times
        shared = all(clip.times.ndim == 1 and torch.equal(clip.times, first) for clip in clips)
        times = first if shared else torch.cat([clip.own_times() for clip in clips])
        rows = [(clip.frames, clip.mask, clip.number) for clip in clips]
        frames, masks, numbers = map(torch.cat, zip(*rows, strict=True))
        scales = [clip.scale for clip in clips if clip.scale is not None]
        scale = FieldScale(*map(torch.cat, zip(*scales, strict=True))) if scales else None
        return Clip(frames, times, masks, numbers, scale)


class Observation(NamedTuple):
    """Rule that selects the frames of a video that a model may see.

    Attributes:
        share: Share of the frames, above 0 and at most 1.
        pattern: `random`: other frames in each video; `regular`: evenly spaced frames. The first
            frame is always seen.
    """

    share: float = 1.0
    pattern: Literal["random", "regular"] = "random"

    def mask(self, indices: list[int], n_frames: int, seed: int) -> Mask:
        """Mask of the seen frames, `[b t]`; the number of a video and the seed determine it.

        Args:
            indices: Numbers of the videos.
            n_frames: Number of frames of a video.
            seed: Seed of the split.
        """
        kept = max(1, round(self.share * n_frames))
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


class Clips(Dataset[Clip], abc.ABC):
    """Videos of one split, all of equal length."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def frames(self, indices: list[int]) -> Frames:
        """Frames of the videos with these numbers, `[b t c h w]`.

        In an endless set a number may exceed the length of the set.
        """

    @abc.abstractmethod
    def times(self, indices: list[int]) -> Times | VideoTimes:
        """Times of the frames of the videos with these numbers, ascending.

        `[t]` if all videos of the set share their times; `[b t]` if each video has its own.
        """

    def scale(self, indices: list[int]) -> FieldScale | None:
        """Scale of the fields with these numbers. None: pictures, or fields from 0 to 1."""
        return None


class ObservedClips(Dataset[Clip]):
    """Data set that serves clips with times and masks, and mirror images of them.

    In a set of `n` videos that is not endless, index `n + i` is the mirror image of video `i`.

    Args:
        clips: The videos.
        observation: Rule for the frames that a model may see.
        seed: Seed of the masks.
        endless: Whether an index beyond the length of the set is a new video.
    """

    def __init__(self, clips: Clips, observation: Observation, seed: int, endless: bool) -> None:
        self.clips, self.observation, self.seed, self.endless = clips, observation, seed, endless

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Clip:
        n = len(self)
        numbers = indices if self.endless else [i % n for i in indices]
        frames = self.clips.frames(numbers)
        times, scale = self.clips.times(numbers), self.clips.scale(numbers)
        if not self.endless:
            mirrored = [k for k, i in enumerate(indices) if i >= n]
            for fields in (frames,) if scale is None else (frames, scale.error):
                fields[mirrored] = fields[mirrored].flip(-1)
        mask = self.observation.mask(numbers, frames.shape[1], self.seed)
        return Clip(frames, times, mask, torch.tensor(numbers), scale)


class VideoData(Data):
    """Base class of the video sets; a batch is a `Clip`.

    Args:
        n_frames: Number of frames of a training video.
        n_eval_frames: Number of frames of a validation or test video. None: `n_frames`.
        observed: Share of the frames that a model may see, above 0 and at most 1.
        pattern: Choice of the seen frames. `random`: other frames in each video; `regular`: evenly
            spaced frames. The first frame is always seen.
        batch_size: Number of videos per device and step.
    """

    examples = "videos"

    def __init__(
        self,
        n_frames: int = 20,
        n_eval_frames: int | None = None,
        observed: float = 1.0,
        pattern: Literal["random", "regular"] = "random",
        batch_size: int = 32,
        **serving: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **serving)
        n_eval_frames = n_frames if n_eval_frames is None else n_eval_frames
        if min(n_frames, n_eval_frames) < 2:
            raise InputError(
                f"got n_frames {n_frames} and n_eval_frames {n_eval_frames}; "
                "a video needs 2 or more"
            )
        if not 0 < observed <= 1:
            raise InputError(f"got observed {observed}; give a share above 0 and at most 1")
        self.n_frames, self.n_eval_frames = n_frames, n_eval_frames
        self.observation = Observation(observed, pattern)

    @abc.abstractmethod
    def clips(self, split: Split) -> Clips:
        """Videos of a split, of `length(split)` frames each."""

    def length(self, split: Split) -> int:
        """Number of frames of a video of a split."""
        return self.n_frames if split == "train" else self.n_eval_frames

    def dataset(self, split: Split) -> Dataset[Any]:
        return self.observed(split)

    def observed(self, split: Split) -> ObservedClips:
        """Videos of a split with their times and masks."""
        seed = ("train", "val", "test").index(split)
        return ObservedClips(self.clips(split), self.observation, seed, self.endless)

    def baselines(self, clip: Clip, n_cond: int) -> dict[str, Frames]:
        """Predictions of simple methods that know how the videos of this set are made.

        Args:
            clip: Test batch.
            n_cond: Number of conditioning frames: the methods know the first `n_cond` frames.

        Returns:
            Videos as long as those of the clip, by the name of the method, for example
            `constant velocity`. Empty: the set has no such method.
        """
        return {}

    def swapped(self, clip: Clip, content: Integers) -> Tensor | None:
        """True videos with the motion of one video and the content of another one.

        Args:
            clip: Test batch, whose videos give the motion.
            content: Numbers of the test videos that give the content, `[b]`.

        Returns:
            Videos `[p b t c h w]`, as long as those of the clip, for all `p` ways to give the
            contents to the moving things. None: the videos of this set can't be made again.
        """
        return None
