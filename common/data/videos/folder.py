"""Anyone's own videos: files or folders of frames, anywhere under one folder."""

import functools
from pathlib import Path
from typing import Literal

import torch

from common.data.base import Split
from common.data.formats.footage import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Look, opened, videos_under
from common.data.videos.windows import Source, WindowData
from common.errors import InputError

SPLITS: tuple[Split, ...] = ("train", "val", "test")


class VideoFolder(WindowData):
    """All videos under a folder, at any depth.

    A video is a file (mp4, avi, mov, mkv, webm, gif) or a folder of numbered frames (png, jpg; in
    the order of their numbers). Sub-folders `train`, `val` and `test` of `root` hold those splits.
    A split without one is drawn from the other videos, whole videos at a time.

    At setup every frame of a split is decoded once, to count the frames and to find broken files.

    Args:
        root: The folder.
        size: Height and width of a frame, or one number for both.
        channels: 3, or 1 for grey.
        crop: `centre` cuts frames to the aspect ratio of `size`, `none` squeezes them.
        val_fraction: Part of the videos for validation, where there is no folder `val`.
        test_fraction: Part of the videos for testing, where there is no folder `test`.
        split_seed: Seed of that choice, kept apart from the training seed.
        n_frames: Frames of a training clip.
        n_eval_frames: Frames of a validation or test clip; as in training if none.
        every: Take every n-th frame. Times stay those of the video: 0, n, 2n, …
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

    def __init__(
        self,
        root: str | Path,
        size: int | tuple[int, int] = 64,
        channels: Literal[1, 3] = 3,
        crop: Literal["centre", "none"] = "centre",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
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
        super().__init__(
            n_frames,
            n_eval_frames,
            every,
            clips_per_video,
            in_memory,
            strict,
            batch_size,
            num_workers,
            flip,
            observed,
            pattern,
        )
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1:
            raise InputError(f"got size {size}; give 1 or more pixels")
        if channels not in (1, 3):
            raise InputError(f"got channels {channels}; give 3 (colour) or 1 (grey)")
        if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
            raise InputError(
                f"got val_fraction {val_fraction} and test_fraction {test_fraction}; give 0 or "
                "more each and less than 1 together"
            )
        self.root, self.look = Path(root).expanduser(), Look(height, width, channels, crop)
        self.fractions: dict[Split, float] = {"val": val_fraction, "test": test_fraction}
        self.split_seed, self.shape = split_seed, (channels, height, width)

    def sources(self, split: Split) -> list[Source]:
        return [functools.partial(opened, path, self.look) for path in self.paths(split)]

    def paths(self, split: Split) -> list[Path]:
        """The videos of a split, sorted by name.

        Raises:
            InputError: There are none.
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
        """All videos by name, sorted.

        Raises:
            InputError: There are none.
        """
        if videos := videos_under(self.root):
            return videos
        kinds = " ".join(VIDEO_SUFFIXES + IMAGE_SUFFIXES)
        raise InputError(
            f"found no video in {self.root}; put files or folders of numbered frames "
            f"there ({kinds})"
        )

    def _split(self, names: list[str]) -> dict[Split, list[str]]:
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
