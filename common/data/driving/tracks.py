"""Boxes of the objects in videos, and the batch that serves them beside the frames."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from common.data.videos.base import Clip, ObservedClips
from common.typing import Integers

EMPTY = -1  # class and id of places without an object


class Tracks(NamedTuple):
    """Objects in each frame of a batch of videos.

    A frame with fewer than `n` objects has boxes of zeros in its last places, and -1 as class and
    id.

    Attributes:
        boxes: Left, upper, right and lower edge in pixels of the frame, `float32 [b t n 4]`.
        classes: Number of the class, `int64 [b t n]`.
        ids: Number of the object, the same in all frames of a video, `int64 [b t n]`.
        ignored: Whether the box counts neither as right nor as wrong: an object that is nearly
            hidden, a crowd, or an area without labels, `bool [b t n]`.
    """

    boxes: Tensor
    classes: Tensor
    ids: Tensor
    ignored: Tensor

    def select(self, videos: slice | Sequence[int] | Integers) -> "Tracks":
        """Tracks of some of the videos."""
        chosen = videos if isinstance(videos, slice | Tensor) else list(videos)
        return Tracks(*(x[chosen] for x in self))

    def to(self, device: torch.device | str) -> "Tracks":
        """Tracks with all tensors on a device."""
        return Tracks(*(x.to(device, non_blocking=x.is_pinned()) for x in self))


class FrameObjects(NamedTuple):
    """Objects in one frame; the arrays are those of `Tracks` for one frame."""

    boxes: np.ndarray
    classes: np.ndarray
    ids: np.ndarray
    ignored: np.ndarray


def stacked(videos: Sequence[Sequence[FrameObjects]]) -> Tracks:
    """Tracks of videos, given the objects in each of their frames."""
    n = max((len(frame.ids) for video in videos for frame in video), default=0)
    shape = (len(videos), len(videos[0]) if videos else 0, n)
    tracks = FrameObjects(
        np.zeros((*shape, 4), np.float32),
        np.full(shape, EMPTY, np.int64),
        np.full(shape, EMPTY, np.int64),
        np.zeros(shape, np.bool_),
    )
    for b, video in enumerate(videos):
        for t, frame in enumerate(video):
            for whole, values in zip(tracks, frame, strict=True):
                whole[b, t, : len(values)] = values
    return Tracks(*map(torch.from_numpy, tracks))


# From the numbers of videos to the objects in each of their frames.
ObjectsOf = Callable[[list[int]], Sequence[Sequence[FrameObjects]]]


class TrackedClip(NamedTuple):
    """Batch of videos with the boxes of their objects, and perhaps the classes of all pixels.

    Attributes:
        clip: The videos.
        tracks: Their objects.
        labels: Number of the class of each pixel, `uint8 [b t h w]`. None: the videos
            come without labels.
    """

    clip: Clip
    tracks: Tracks
    labels: Tensor | None = None

    def select(self, videos: slice | Sequence[int] | Integers) -> "TrackedClip":
        """Batch of some of the videos."""
        chosen = videos if isinstance(videos, slice | Tensor) else list(videos)
        labels = None if self.labels is None else self.labels[chosen]
        return TrackedClip(self.clip.select(chosen), self.tracks.select(chosen), labels)

    def to(self, device: torch.device | str) -> "TrackedClip":
        """Batch with all tensors on a device."""
        labels = self.labels
        if labels is not None:
            labels = labels.to(device, non_blocking=labels.is_pinned())
        return TrackedClip(self.clip.to(device), self.tracks.to(device), labels)


class TrackedClips(Dataset[TrackedClip]):
    """Data set that adds the tracks of objects to clips.

    Args:
        clips: The clips, in a set without mirror images of its own.
        objects: Function from the numbers of videos to the objects in each of their frames.
        labels: Function from the numbers of videos to the classes of their pixels,
            `uint8 [b t h w]`. None: batches come without labels.
    """

    def __init__(
        self,
        clips: ObservedClips,
        objects: ObjectsOf,
        labels: Callable[[list[int]], Tensor] | None = None,
    ) -> None:
        self.clips, self.objects, self.labels = clips, objects, labels

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> TrackedClip:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> TrackedClip:
        clips, tracks = self.clips.__getitems__(indices), stacked(self.objects(indices))
        return TrackedClip(clips, tracks, None if self.labels is None else self.labels(indices))
