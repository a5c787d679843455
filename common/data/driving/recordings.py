"""Base class of the sets of recorded drives whose objects are annotated by boxes."""

import abc
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from common.data.base import Split
from common.data.driving.tracks import FrameObjects, TrackedClips
from common.data.formats.footage import Footage, FrameFolder, FrameFormat
from common.data.videos.windows import (
    VideoOpener,
    WindowData,
    Windows,
    check_val_fraction,
    videos_of_split,
)
from common.errors import InputError

SLACK = 1.0  # pixels by which a box may reach over the edge of its picture


class Recording(Footage):
    """Recorded drive with its objects.

    Args:
        frames: The frames.
        objects: Objects in each frame; boxes in pixels of the frames as they are served.
    """

    def __init__(self, frames: Footage, objects: Sequence[FrameObjects]) -> None:
        self.name, self._frames, self.objects = frames.name, frames, objects

    def __len__(self) -> int:
        return len(self._frames)

    def read(self, frames: range) -> np.ndarray:
        return self._frames.read(frames)


class RecordedDrives(WindowData):
    """Base class of the sets of recorded drives.

    Args:
        root: Folder of the set.
        size: Height and width of a frame in pixels. Frames are scaled, not cut.
        tracks: Serve a `TrackedClip`, with the boxes of the objects, in place of a `Clip`.
        val_fraction: Share of the training videos for validation.
        split_seed: Random seed of the validation videos, independent of the training seed.

    Attributes:
        classes: Names of the classes.
    """

    classes: tuple[str, ...]

    def __init__(
        self,
        root: str | Path,
        size: tuple[int, int] = (72, 128),
        tracks: bool = False,
        val_fraction: float = 0.05,
        split_seed: int = 0,
        **serving: Any,
    ) -> None:
        super().__init__(**serving)
        if min(size) < 1:
            raise InputError(f"got size {size}; give 1 or more pixels each way")
        check_val_fraction(val_fraction)
        self.root, self.size, self.tracks = Path(root).expanduser(), size, tracks
        self.val_fraction, self.split_seed = val_fraction, split_seed
        self.shape = (3, *size)

    @abc.abstractmethod
    def videos(self, split: Split) -> list[tuple[Path, Path]]:
        """Folder of frames and file of labels of the training videos, or of the test videos."""

    @abc.abstractmethod
    def labels(self, file: Path, frames: list[Path]) -> list[FrameObjects]:
        """Objects in each frame, with boxes in pixels of the original frames.

        Raises:
            InputError: The file is broken, or does not fit the frames.
        """

    def openers(self, split: Split) -> Sequence[VideoOpener]:
        videos = videos_of_split(self.videos(split), split, self.val_fraction, self.split_seed)
        return [partial(self._open, *video) for video in videos]

    def dataset(self, split: Split) -> Dataset[Any]:
        clips = self.observed(split)
        windows = clips.clips
        if not self.tracks:
            return clips
        assert isinstance(windows, Windows)
        return TrackedClips(clips, partial(_objects, windows, self.size[1]))

    def _open(self, folder: Path, file: Path) -> Recording:
        if not folder.is_dir():
            raise InputError(f"{file} labels a video, but there is no folder {folder}; copy it")
        frames = FrameFolder(folder, FrameFormat(*self.size, crop="none"))
        if not frames.files:
            raise InputError(f"{file} labels a video, but {folder} holds no pictures; copy them")
        found = self.labels(file, frames.files)
        width, height = frames.original_size
        scale = np.array([self.size[1] / width, self.size[0] / height] * 2, np.float32)
        for path, objects in zip(frames.files, found, strict=True):
            _check(objects, file, path, width, height)
        scaled = [objects._replace(boxes=objects.boxes * scale) for objects in found]
        return Recording(frames, scaled)

    def _prepared(self, video: Footage, split: Split) -> Footage:
        assert isinstance(video, Recording)
        return Recording(super()._prepared(video, split), video.objects)


def frame_objects(rows: Sequence[tuple[Sequence[float], int, int, bool]]) -> FrameObjects:
    """Objects of a frame from rows of box, class, id, and whether it is ignored."""
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    classes, ids = (np.array([row[k] for row in rows], np.int64) for k in (1, 2))
    return FrameObjects(boxes, classes, ids, np.array([row[3] for row in rows], np.bool_))


def _check(objects: FrameObjects, file: Path, frame: Path, width: int, height: int) -> None:
    for box in objects.boxes:
        left, top, right, bottom = box.tolist()
        inside = -SLACK <= left < right <= width + SLACK
        if not (inside and -SLACK <= top < bottom <= height + SLACK):
            raise InputError(
                f"{file}: the box {box.tolist()} of {frame.name} isn't inside the picture of "
                f"{width}x{height}; repair the labels"
            )


def _objects(windows: Windows, width: int, indices: list[int]) -> list[list[FrameObjects]]:
    """Objects in each frame of the clips with these numbers."""
    found = []
    for footage, frames, mirrored in windows.places(indices):
        assert isinstance(footage, Recording)
        chosen = [footage.objects[k] for k in frames]
        found.append([_mirrored(x, width) for x in chosen] if mirrored else chosen)
    return found


def _mirrored(objects: FrameObjects, width: int) -> FrameObjects:
    left, top, right, bottom = objects.boxes.T
    return objects._replace(boxes=np.stack([width - right, top, width - left, bottom], 1))
