"""Base classes of the sets of long videos, of which clips are cut out.

Training clips begin at random frames; the clips of validation and testing are fixed.
"""

import abc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_warn

from common.data.base import Split
from common.data.draws import uniform
from common.data.formats.footage import Footage, MemoryVideo
from common.data.videos.base import Clips, FieldScale, VideoData
from common.errors import InputError, check_counts
from common.progress import Progress
from common.typing import Frames, Times, VideoTimes

T = TypeVar("T")
VideoOpener = Callable[[], Footage]  # opens one video, or raises an InputError that names it
SRVP_CLIPS = 1000  # number of clips in SRVP's test sets of KTH and Human3.6M


class ClipStart(NamedTuple):
    """Position of a clip in the videos.

    Attributes:
        video: Number of the video.
        frame: First frame of the clip. None: a random frame, another one for each index.
    """

    video: int
    frame: int | None


class Windows(Clips):
    """Clips that begin at given positions in videos.

    A position without a first frame is an endless supply of clips: each index is another random
    clip.

    Args:
        footage: The videos.
        starts: Positions of the clips of one epoch.
        n_frames: Number of frames of a clip.
        every: Take every `every`-th frame.
        unit: Number of video frames in one unit of time.
        flip: Mirror half of the random clips.
    """

    def __init__(
        self,
        footage: list[Footage],
        starts: Sequence[ClipStart],
        n_frames: int,
        every: int = 1,
        unit: int = 1,
        flip: bool = False,
    ) -> None:
        self.footage, self.starts = footage, starts
        self.even = all(video.stamps is None for video in footage)
        self.n_frames, self.every, self.unit, self.flip = n_frames, every, unit, flip

    def __len__(self) -> int:
        return len(self.starts)

    def times(self, indices: list[int]) -> Times | VideoTimes:
        if self.even:
            return torch.arange(self.n_frames) * (self.every / self.unit)
        rows = [footage.times(frames) for footage, frames, _ in self.places(indices)]
        return torch.from_numpy(np.stack(rows) / self.unit).float()

    def frames(self, indices: list[int]) -> Frames:
        clips = []
        for index, (footage, frames, mirrored) in zip(indices, self.places(indices), strict=True):
            clip = self.cut(footage.read(frames), index)
            clips.append(clip[..., ::-1] if mirrored else clip)
        return torch.from_numpy(np.stack(clips))

    def cut(self, clip: np.ndarray, index: int) -> np.ndarray:
        """Part of the frames `[t c h w]` that the clip of this number shows: all of them."""
        return clip

    def scale(self, indices: list[int]) -> FieldScale | None:
        rows = []
        for footage, frames, mirrored in self.places(indices):
            if (scale := footage.scale(frames)) is None:
                return None
            error = scale.error[..., ::-1] if mirrored else scale.error
            rows.append((scale.low, scale.high, error))
        return FieldScale(
            *(torch.from_numpy(np.stack(x)).float() for x in zip(*rows, strict=True))
        )

    def places(self, indices: list[int]) -> Iterator[tuple[Footage, range, bool]]:
        """Video, frames, and whether they are mirrored, of each clip."""
        draws = uniform(np.asarray(indices), 2, seed=3000).tolist()
        for index, (chance, side) in zip(indices, draws, strict=True):
            video, fixed = self.starts[index % len(self)]
            footage, span = self.footage[video], span_of(self.n_frames, self.every)
            start = int(chance * (len(footage) - span + 1)) if fixed is None else fixed
            mirrored = fixed is None and self.flip and side < 0.5
            yield footage, range(start, start + span, self.every), mirrored


class WindowData(VideoData):
    """Base class of the sets of long videos.

    Training clips begin at random frames, other ones in each epoch. Validation and test clips are
    evenly spaced from the first frame of a video to its last.

    Args:
        every: Take every `every`-th frame of a video.
        clips_per_video: Number of clips of a video in an epoch. None: as many as the video holds
            without overlap.
        in_memory: Keep all frames in memory, in their final size: much faster if they fit.
        strict: Stop at a video that is broken or too short. Otherwise such videos are left out
            with a warning that names them.

    Attributes:
        unit: Number of video frames in one unit of time.
    """

    endless = True
    unit = 1

    def __init__(
        self,
        every: int = 1,
        clips_per_video: int | None = None,
        in_memory: bool = False,
        strict: bool = True,
        **serving: Any,
    ) -> None:
        super().__init__(**serving)
        check_counts(1, every=every, clips_per_video=clips_per_video)
        self.every, self.clips_per_video = every, clips_per_video
        self.in_memory, self.strict = in_memory, strict

    @abc.abstractmethod
    def openers(self, split: Split) -> Sequence[VideoOpener]:
        """Functions that open the videos of a split, in an order that never changes."""

    def clip_starts(self, split: Split, footage: list[Footage]) -> list[ClipStart]:
        """Positions of the clips of an epoch in the opened videos of a split."""
        span = span_of(self.length(split), self.every)
        starts = [evenly_spaced(len(video), span, self.clips_per_video) for video in footage]
        if split == "train":
            return [ClipStart(k, None) for k, found in enumerate(starts) for _ in found]
        return [
            ClipStart(k, start) for k, found in enumerate(starts) for start in sorted(set(found))
        ]

    def clips(self, split: Split) -> Windows:
        footage = self._opened(split)
        flip = self.flip and split == "train"
        starts = self.clip_starts(split, footage)
        return Windows(footage, starts, self.length(split), self.every, self.unit, flip)

    def _opened(self, split: Split) -> list[Footage]:
        """Opened videos of a split."""

        def attempt(opener: VideoOpener) -> Footage | InputError:
            try:
                return self._prepared(opener(), split)
            except InputError as error:
                return error

        openers = self.openers(split)
        with ThreadPoolExecutor() as pool:
            # The results are taken one by one, so the first broken video stops a strict set.
            found = []
            for video in Progress(
                pool.map(attempt, openers), f"Reading {split} videos", len(openers)
            ):
                if self.strict and isinstance(video, InputError):
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise InputError(f"{video} (data.strict false leaves out all such videos)")
                found.append(video)
        return self._usable(split, found)

    def _usable(self, split: Split, found: list[Footage | InputError]) -> list[Footage]:
        """Videos that could be opened, with a warning about the others."""
        broken = [str(video) for video in found if isinstance(video, InputError)]
        whole = [video for video in found if isinstance(video, Footage)]
        if not whole:
            told = "; ".join(broken[:3])
            raise InputError(
                f"none of the {len(found)} {split} videos can be used"
                + (f": {told}" if told else "; give some")
            )
        if broken:
            rank_zero_warn(
                f"left out {len(broken)} of {len(found)} {split} videos: " + "; ".join(broken)
            )
        return whole

    def _prepared(self, video: Footage, split: Split) -> Footage:
        """Video that is long enough for a clip, held in memory if wanted."""
        n_frames = self.length(split)
        if len(video) < span_of(n_frames, self.every):
            name = "n_frames" if n_frames == self.n_frames else "n_eval_frames"
            raise InputError(
                f"{video.name} has {len(video)} frames, data.{name} {n_frames} with data.every "
                f"{self.every} needs {span_of(n_frames, self.every)}; lower them or leave this "
                "video out"
            )
        if not self.in_memory:
            return video
        frames = range(len(video))
        return MemoryVideo(video.name, video.read(frames), video.stamps, video.scale(frames))


def span_of(n_frames: int, every: int) -> int:
    """Number of video frames from the first frame of a clip to its last."""
    return (n_frames - 1) * every + 1


def evenly_spaced(length: int, span: int, count: int | None) -> list[int]:
    """First frames of clips that are evenly spaced from the start of a video to its end.

    Args:
        length: Number of frames of the video.
        span: Number of video frames of a clip.
        count: Number of clips. None: as many as fit without overlap.
    """
    count = length // span if count is None else count
    return [(length - span) * k // max(1, count - 1) for k in range(count)]


def held_out(count: int, fraction: float, seed: int) -> set[int]:
    """Numbers of the videos that a seeded random choice holds out for validation.

    Args:
        count: Number of videos to choose from.
        fraction: Share to hold out. At least one video is held out if it is not 0.
        seed: Random seed of the choice.
    """
    n = max(1, round(count * fraction)) if fraction else 0
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return set(order[:n].tolist())


def srvp_random_integers() -> Callable[[int], int]:
    """Random generator of SRVP's test clips: a function that draws an integer from 0 to n - 1."""
    # numpy's legacy generator, because SRVP used it.
    return np.random.RandomState(42).randint


def check_val_fraction(val_fraction: float) -> None:
    """Raises an `InputError` if a share is below 0, or is 1 or more."""
    if not 0 <= val_fraction < 1:
        raise InputError(f"got val_fraction {val_fraction}; give 0 or more and less than 1")


def videos_of_split(videos: Sequence[T], split: Split, fraction: float, seed: int) -> list[T]:
    """Videos of a split, after a random part of the training videos is held out for validation.

    Args:
        videos: Test videos if the split is `test`, otherwise all training videos.
        split: The split.
        fraction: Share of the training videos for validation.
        seed: Random seed of that part.

    Raises:
        InputError: The split has no video.
    """
    if split == "test":
        return list(videos)
    val = held_out(len(videos), fraction, seed)
    mine = [video for k, video in enumerate(videos) if (k in val) == (split == "val")]
    if not mine:
        raise InputError(
            f"got val_fraction {fraction} of {len(videos)} videos, which leaves none for {split}; "
            "change data.val_fraction"
        )
    return mine
