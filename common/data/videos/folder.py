"""Folders of videos: files or folders of frames, at any depth under one folder."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from common.data.base import SPLITS, Split, check_fractions
from common.data.formats.footage import Footage, FrameFormat
from common.data.formats.video_files import open_video
from common.data.formats.video_paths import IMAGE_SUFFIXES, VIDEO_SUFFIXES, videos_under
from common.data.videos.windows import VideoOpener, WindowData
from common.errors import InputError


class VideoFolder(WindowData):
    """All videos under a folder, at any depth.

    A video is a file (mp4, m4v, avi, mov, mkv, webm, gif, mpg, ts, flv, 3gp, wmv) or a folder of
    numbered frames (png, jpg, webp, bmp, tif, pgm; in the order of their numbers; `left1` and
    `right1` are frames of two videos). The sub-folders `train`, `val` and `test` of `root` hold
    the splits of these names. If there is no folder `val` or `test`, that split is a random
    choice of the other videos; a video always belongs to one split.

    `setup` decodes every frame of a split once, to count the frames and to find broken files.

    Args:
        root: Folder of the videos.
        size: Height and width of a frame in px, or one number for both.
        channels: 3: colour; 1: grey.
        crop: `centre`: cut frames to the aspect ratio of `size`; `none`: keep whole frames and
            change their aspect ratio.
        timing: Times of the frames of a file. `stamps`: those of its time stamps, in units of the
            usual distance between two frames; where frames are unevenly spaced, each video of a
            batch has times of its own. `frames`: 0, 1, 2 and so on.
        val_fraction: Share of the videos for validation, if there is no folder `val`.
        test_fraction: Share of the videos for testing, if there is no folder `test`.
        split_seed: Random seed of the random splits, independent of the training seed.
    """

    def __init__(
        self,
        root: str | Path,
        size: int | tuple[int, int] = 64,
        channels: Literal[1, 3] = 3,
        crop: Literal["centre", "none"] = "centre",
        timing: Literal["stamps", "frames"] = "stamps",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        **serving: Any,
    ) -> None:
        super().__init__(**serving)
        self.frame_format = FrameFormat.checked(size, channels, crop)
        check_fractions(val_fraction, test_fraction)
        self.root, self.timing = Path(root).expanduser(), timing
        self.fractions: dict[Split, float] = {"val": val_fraction, "test": test_fraction}
        self.split_seed, self.shape = split_seed, self.frame_format.shape

    def openers(self, split: Split) -> Sequence[VideoOpener]:
        return [functools.partial(self._open, path) for path in self.paths(split)]

    def _open(self, path: Path) -> Footage:
        video = open_video(path, self.frame_format)
        if self.timing == "frames":
            video.stamps = None
        return video

    def paths(self, split: Split) -> list[Path]:
        """Paths of the videos of a split, sorted by name.

        Raises:
            InputError: The split has no video.
        """
        videos = self.videos()
        names = self._split(list(videos))[split]
        if not names:
            raise InputError(
                f"none of the {len(videos)} videos in {self.root} is left for {split}; add "
                f"videos, put some in {self.root / split}, or change data.val_fraction and "
                "data.test_fraction"
            )
        return [videos[name] for name in names]

    def videos(self) -> dict[str, Path]:
        """Paths of the videos of all splits by their names, sorted by name.

        Raises:
            InputError: There is no video.
        """
        if videos := videos_under(self.root):
            return videos
        kinds = " ".join(VIDEO_SUFFIXES + IMAGE_SUFFIXES)
        raise InputError(
            f"found no video in {self.root}; put files or folders of numbered frames "
            f"there ({kinds})"
        )

    def _split(self, names: list[str]) -> dict[Split, list[str]]:
        """Names of the videos of each split."""
        inside = {split: [n for n in names if n.split("/")[0] == split] for split in SPLITS}
        pool = [n for n in names if n not in inside["val"] + inside["test"]]
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(self.split_seed))
        drawn = [pool[k] for k in order.tolist()]
        for split, fraction in self.fractions.items():
            if not inside[split] and fraction:
                n = max(1, round(fraction * len(pool)))
                inside[split], drawn = sorted(drawn[:n]), drawn[n:]
        inside["train"] = sorted(drawn)
        return inside
