"""Clips cut out of longer videos: at random places in training, at fixed ones in evaluation."""

import abc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_warn
from tqdm import tqdm

from common.data.base import Split
from common.data.formats.footage import Footage, Held
from common.data.videos.base import Clips, VideoData, uniform
from common.errors import InputError
from common.typing import PixelVideo, Times

Source = Callable[[], Footage]  # opens one video, or raises an InputError that names it
Place = tuple[int, int | None]  # number of a video, first frame; none: at random
SRVP_CLIPS = 1000  # of its test sets of KTH and Human3.6M


class Windows(Clips):
    """Clips at given places of videos.

    A place without a first frame is an endless supply: each number is another random clip.

    Args:
        footage: The videos.
        places: Of the clips of one epoch.
        n_frames: Of a clip.
        every: Take every n-th frame.
        unit: Frames between two whole times.
        flip: Mirror half of the random clips.
    """

    def __init__(
        self,
        footage: list[Footage],
        places: list[Place],
        n_frames: int,
        every: int = 1,
        unit: int = 1,
        flip: bool = False,
    ) -> None:
        self.footage, self.places = footage, places
        self.n_frames, self.every, self.unit, self.flip = n_frames, every, unit, flip

    def __len__(self) -> int:
        return len(self.places)

    @property
    def times(self) -> Times:
        return torch.arange(self.n_frames) * (self.every / self.unit)

    def frames(self, indices: list[int]) -> PixelVideo:
        draws = uniform(np.asarray(indices), 2, seed=3000)
        clips = [
            self._clip(i, *chances) for i, chances in zip(indices, draws.tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack(clips))

    def _clip(self, index: int, chance: float, side: float) -> np.ndarray:
        video, start = self.places[index % len(self)]
        footage, span = self.footage[video], span_of(self.n_frames, self.every)
        if start is not None:
            return footage.read(range(start, start + span, self.every))
        start = int(chance * (len(footage) - span + 1))
        clip = footage.read(range(start, start + span, self.every))
        return clip[..., ::-1] if self.flip and side < 0.5 else clip


class WindowData(VideoData):
    """Base of the sets of longer videos.

    Training clips begin at random frames, other ones in each epoch; those of evaluation are fixed.

    Args:
        n_frames: Frames of a training clip.
        n_eval_frames: Frames of a validation or test clip; as in training if none.
        every: Take every n-th frame.
        clips_per_video: Clips of a video in an epoch, in evaluation evenly spaced from its first
            frame to its last; if none, as many as it holds without overlap.
        in_memory: Keep all frames, scaled, in memory: much faster where they fit.
        strict: Stop at a video that is broken or too short; otherwise name and skip it.
        batch_size: Clips per device and step.
        num_workers: Loader processes.
        flip: Mirror training clips left to right at random.
        observed: Share of the frames that a model may see.
        pattern: Which: `random` or `regular` ones.
    """

    endless = True
    unit = 1

    def __init__(
        self,
        n_frames: int = 20,
        n_eval_frames: int | None = None,
        every: int = 1,
        clips_per_video: int | None = None,
        in_memory: bool = False,
        strict: bool = True,
        batch_size: int = 32,
        num_workers: int = 0,
        flip: bool = False,
        observed: float = 1.0,
        pattern: Literal["random", "regular"] = "random",
    ) -> None:
        super().__init__(n_frames, n_eval_frames, batch_size, num_workers, flip, observed, pattern)
        if every < 1:
            raise InputError(f"got every {every}; give 1 (all frames) or more")
        if clips_per_video is not None and clips_per_video < 1:
            raise InputError(f"got clips_per_video {clips_per_video}; give 1 or more, or null")
        self.every, self.clips_per_video = every, clips_per_video
        self.in_memory, self.strict = in_memory, strict

    @abc.abstractmethod
    def sources(self, split: Split) -> list[Source]:
        """The videos of that split, in an order that never changes, not yet opened."""

    def places(self, split: Split, footage: list[Footage]) -> list[Place]:
        """Where the clips of an epoch lie."""
        span = span_of(self.length(split), self.every)
        starts = [spread(len(video), span, self.clips_per_video) for video in footage]
        if split == "train":
            return [(k, None) for k, found in enumerate(starts) for _ in found]
        return [(k, start) for k, found in enumerate(starts) for start in sorted(set(found))]

    def clips(self, split: Split) -> Windows:
        footage = self._opened(split)
        flip = self.flip and split == "train"
        places = self.places(split, footage)
        return Windows(footage, places, self.length(split), self.every, self.unit, flip)

    def _opened(self, split: Split) -> list[Footage]:
        def attempt(source: Source) -> Footage | InputError:
            try:
                return self._checked(source(), split)
            except InputError as error:
                return error

        sources = self.sources(split)
        with ThreadPoolExecutor() as pool:
            # Lazily, so that the first broken video stops a strict set at once.
            found = []
            for video in tqdm(
                pool.map(attempt, sources), f"Reading {split} videos", len(sources), False, delay=1
            ):
                if self.strict and isinstance(video, InputError):
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise InputError(f"{video} (data.strict false leaves out all such videos)")
                found.append(video)
        return self._whole(split, found)

    def _whole(self, split: Split, found: list[Footage | InputError]) -> list[Footage]:
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

    def _checked(self, video: Footage, split: Split) -> Footage:
        n_frames = self.length(split)
        if len(video) < span_of(n_frames, self.every):
            name = "n_frames" if n_frames == self.n_frames else "n_eval_frames"
            raise InputError(
                f"{video.name} has {len(video)} frames, data.{name} {n_frames} with data.every "
                f"{self.every} needs {span_of(n_frames, self.every)}; lower them or leave this "
                "file out"
            )
        return Held(video.name, video.read(range(len(video)))) if self.in_memory else video


def span_of(n_frames: int, every: int) -> int:
    """Frames of the video from the first to the last of a clip."""
    return (n_frames - 1) * every + 1


def spread(length: int, span: int, count: int | None) -> list[int]:
    """First frames of `count` clips, evenly from the start of a video to its end."""
    count = length // span if count is None else count
    return [(length - span) * k // max(1, count - 1) for k in range(count)]


def held_out(count: int, fraction: float, seed: int) -> set[int]:
    """Which of so many videos a fixed choice sets aside: at least one if `fraction` isn't 0."""
    n = max(1, round(count * fraction)) if fraction else 0
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return set(order[:n].tolist())


def srvp_draws() -> Callable[[int], int]:
    """The drawing of whole numbers below n by which SRVP chose its test clips."""
    # The legacy generator, because SRVP's test clips came from it.
    return np.random.RandomState(42).randint


def share(val_fraction: float) -> float:
    """Checked to be one."""
    if not 0 <= val_fraction < 1:
        raise InputError(f"got val_fraction {val_fraction}; give 0 or more and less than 1")
    return val_fraction


def part(videos: list[Any], split: Split, fraction: float, seed: int) -> list[Any]:
    """Those of the training videos that are for training, or for validation; all for testing."""
    if split == "test":
        return videos
    val = held_out(len(videos), fraction, seed)
    mine = [video for k, video in enumerate(videos) if (k in val) == (split == "val")]
    if not mine:
        raise InputError(
            f"got val_fraction {fraction} of {len(videos)} videos, which leaves none for {split}; "
            "change data.val_fraction"
        )
    return mine
