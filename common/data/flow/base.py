"""Base classes of the sets of optical flow, and the batch that they serve."""

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from common.data.base import Split
from common.data.videos.base import Clip, Clips, ObservedClips, VideoData
from common.errors import check_counts
from common.typing import FlowField, FlowMask, Integers, PixelVideo, Times


class FlowClip(NamedTuple):
    """Batch of videos with the optical flow from their first frame to their last frame.

    Attributes:
        clip: The videos, of two or more frames.
        flow: Motion of each pixel of the first frame to the right and down, in pixels, `float32
            [b 2 h w]`; 0 where it is unknown.
        valid: Where the flow is known, `bool [b h w]`.
        visible: Where it is known, and the same point is seen in the last frame too (it is not
            occluded there), `bool [b h w]`.
    """

    clip: Clip
    flow: FlowField
    valid: FlowMask
    visible: FlowMask

    def select(self, videos: slice | Sequence[int] | Integers) -> "FlowClip":
        """Batch of some of the videos."""
        chosen = videos if isinstance(videos, slice | torch.Tensor) else list(videos)
        return FlowClip(self.clip.select(chosen), *(x[chosen] for x in self[1:]))

    def to(self, device: torch.device | str) -> "FlowClip":
        """Batch with all tensors on a device."""
        moved = (x.to(device, non_blocking=x.is_pinned()) for x in self[1:])
        return FlowClip(self.clip.to(device), *moved)


class FlowExample(NamedTuple):
    """One video with its optical flow; the arrays are those of `FlowClip` for one video.

    Attributes:
        frames: `uint8 [t c h w]`.
        flow: `float32 [2 h w]`.
        valid: `bool [h w]`.
        visible: `bool [h w]`.
    """

    frames: np.ndarray
    flow: np.ndarray
    valid: np.ndarray
    visible: np.ndarray

    def inside(self) -> np.ndarray:
        """Where a point is still inside the picture after its motion, `bool [h w]`."""
        height, width = self.valid.shape
        rows, columns = np.indices((height, width))
        x, y = columns + self.flow[0], rows + self.flow[1]
        return (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)

    def mirrored(self) -> "FlowExample":
        """Mirror image, left to right; the horizontal motion changes its sign."""
        found = FlowExample(*(x[..., ::-1] for x in self))
        return found._replace(flow=np.stack([-found.flow[0], found.flow[1]]))


class FlowClips(Clips):
    """Abstract videos of one split with their optical flow; any number is a video.

    Args:
        count: Number of videos in an epoch.
        times: Times of the frames, `[t]`.
    """

    def __init__(self, count: int, times: Times) -> None:
        self.count, self._times = count, times
        # The flow of the last videos: it is asked for after their frames.
        self._last: dict[int, FlowExample] = {}

    @abc.abstractmethod
    def example(self, index: int) -> FlowExample:
        """Video with this number and its flow; the number alone determines both."""

    def __len__(self) -> int:
        return self.count

    def times(self, indices: list[int]) -> Times:
        return self._times

    def frames(self, indices: list[int]) -> PixelVideo:
        self._last = {index: self.example(index) for index in indices}
        return torch.from_numpy(np.stack([self._last[index].frames for index in indices]))

    def flows(self, indices: list[int]) -> tuple[FlowField, FlowMask, FlowMask]:
        """Flow of the videos with these numbers, where it is known, and where it is visible."""
        if any(index not in self._last for index in indices):
            self.frames(indices)
        rows = [self._last[index][1:] for index in indices]
        flow, valid, visible = (torch.from_numpy(np.stack(x)) for x in zip(*rows, strict=True))
        return flow, valid, visible


class FlowDataset(Dataset[FlowClip]):
    """Data set that adds the optical flow to clips.

    Args:
        clips: The clips.
        videos: Their videos, which know the flow.
    """

    def __init__(self, clips: ObservedClips, videos: FlowClips) -> None:
        self.clips, self.videos = clips, videos

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> FlowClip:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> FlowClip:
        return FlowClip(self.clips.__getitems__(indices), *self.videos.flows(indices))


class FlowData(VideoData):
    """Base class of the sets of optical flow.

    Each training epoch has numbers of its own, so that windows, mirror images and simulated
    videos are new ones.

    Args:
        flow: Serve a `FlowClip`. False: a `Clip`, for models that know no flow.
    """

    endless = True

    def __init__(self, flow: bool = True, **serving: Any) -> None:
        super().__init__(**serving)
        self.flow = flow

    @abc.abstractmethod
    def clips(self, split: Split) -> FlowClips:
        """Videos of a split with their flow."""

    def dataset(self, split: Split) -> Dataset[Any]:
        clips = self.observed(split)
        if not self.flow:
            return clips
        assert isinstance(clips.clips, FlowClips)
        return FlowDataset(clips, clips.clips)


class SyntheticFlow(FlowData):
    """Base class of the sets of optical flow whose videos are made when they are served.

    The frames are evenly spaced from the first to the last one, between which the flow is given:
    those between are the truth for frame interpolation.

    Args:
        n_train: Number of videos in a training epoch.
        n_val: Number of validation videos.
        n_test: Number of test videos.
        n_frames: Number of frames of a training video.
    """

    def __init__(
        self,
        n_train: int = 1000,
        n_val: int = 100,
        n_test: int = 200,
        n_frames: int = 3,
        **serving: Any,
    ) -> None:
        super().__init__(n_frames=n_frames, **serving)
        check_counts(1, n_train=n_train, n_val=n_val, n_test=n_test)
        self.counts: dict[Split, int] = {"train": n_train, "val": n_val, "test": n_test}

    def times(self, split: Split, span: float = 1.0) -> Times:
        """Times of the frames, evenly spaced from 0 to the time of the last one."""
        return torch.linspace(0, span, self.length(split))
