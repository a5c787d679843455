"""UCF101: actions in videos from the web, the usual set of video GANs."""

import functools
import hashlib
import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from common.data.base import Split
from common.data.cache import cache_path, cached
from common.data.draws import uniform
from common.data.formats.footage import Footage
from common.data.formats.video_streams import decoded_images
from common.data.videos.windows import (
    VideoOpener,
    WindowData,
    Windows,
    check_val_fraction,
    videos_of_split,
)
from common.errors import InputError, check_words
from common.files import written_whole
from common.progress import Progress

MARGIN = 4  # columns at each side that random crops never show (TGANv2)
BLOCK = 32  # videos decoded at once: all of them might fill the memory
FRAMES, LENGTHS = "frames.bin", "lengths.json"  # files of decoded frames
Crop = Literal["centre", "random"]


class UCF101(WindowData):
    """UCF101 (Soomro et al. 2012): 13,320 videos of 101 actions, 320×240 px, 25 frames/s.

    Needs the videos (`v_Action_gXX_cYY.avi`, in one folder or in a folder for each action) and the
    official lists `trainlist01.txt` and `testlist01.txt`, both anywhere under `root`. Validation
    videos are whole groups of training videos, because the videos of a group are cut from one
    recording.

    All frames of a list are decoded once, scaled to 64×85 px (192×256) by OpenCV's cubic
    interpolation (`INTER_CUBIC`, as in TGAN and TGANv2), and kept on the disk as bytes: about
    29 GB for the training list at 64×85, nine times more at 192×256. A missing or broken video
    always stops this.

    A clip is a square of the height of a frame. By default an epoch shows one clip of each video:
    16 consecutive frames from a random place.

    Args:
        root: Folder of the videos and the lists.
        size: Height and width of a clip in px, 64 or 192.
        crop: Columns of training clips. `centre`: always the middle, columns 10 to 73 of 85
            (TGAN); `random`: any columns but the outer 4 (TGANv2, which has `flip: true` too).
            Validation and test clips show the middle.
        fold: Number of the official split, 1 to 3; papers on video GANs use 1.
        val_fraction: Share of the groups of training videos for validation.
        split_seed: Random seed of the validation groups, independent of the training seed.
        cache: Folder of the decoded frames. None: the folder `dynamical_vision` in
            `$XDG_CACHE_HOME` or in `~/.cache`.
        n_frames: Number of frames of a training video; the shortest video has 29.
        clips_per_video: Number of clips of a video in an epoch. None: as many as the video holds
            without overlap.
    """

    def __init__(
        self,
        root: str | Path,
        size: Literal[64, 192] = 64,
        crop: Crop = "centre",
        fold: Literal[1, 2, 3] = 1,
        val_fraction: float = 0.02,
        split_seed: int = 0,
        cache: str | Path | None = None,
        n_frames: int = 16,
        clips_per_video: int | None = 1,
        **serving: Any,
    ) -> None:
        super().__init__(n_frames=n_frames, clips_per_video=clips_per_video, **serving)
        if size not in (64, 192) or fold not in (1, 2, 3):
            raise InputError(f"got size {size} and fold {fold}; give 64 or 192, and 1, 2 or 3")
        check_words((crop, Crop))
        check_val_fraction(val_fraction)
        self.root, self.crop, self.fold = Path(root).expanduser(), crop, fold
        self.val_fraction, self.split_seed, self.cache = val_fraction, split_seed, cache
        self.shape = (3, size, size)

    def prepare_data(self) -> None:
        for name in ("train", "test"):
            self.folder(name)

    def folder(self, name: Literal["train", "test"]) -> Path:
        """Folder of the decoded frames of a list; it is made if there is none."""
        videos = self.videos(name)
        sizes = json.dumps([(path.name, path.stat().st_size) for path in videos])
        path = cache_path(
            self.cache,
            "ucf101",
            version=1,  # another one as soon as the same parameters give other bytes
            videos=hashlib.sha256(sizes.encode()).hexdigest(),
            size=self.frame_size,
        )
        return cached(path, lambda: self._lengths(path), lambda: self._write(path, videos))

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the decoded frames."""
        return self.shape[1], round(self.shape[1] * 4 / 3)

    def videos(self, name: Literal["train", "test"]) -> list[Path]:
        """Paths of the videos of a list, in its order.

        Raises:
            InputError: The list or one of its videos is missing.
        """
        title = f"{name}list{self.fold:02}.txt"
        lists = sorted(self.root.rglob(title))
        if not lists:
            raise InputError(
                f"found no {title} in {self.root}; unpack "
                "UCF101TrainTestSplits-RecognitionTask.zip there"
            )
        lines = lists[0].read_text(encoding="utf-8").splitlines()
        names = [Path(line.split()[0]).name for line in lines if line.strip()]
        found = {path.name: path for path in self.root.rglob("*.avi")}
        missing = [video for video in names if video not in found]
        if missing or not names:
            raise InputError(
                f"{lists[0]} has {len(names)} videos, of which {len(missing)} aren't in "
                f"{self.root}" + (f", such as {missing[0]}" if missing else "") + "; unpack "
                "UCF101.rar there"
            )
        return [found[video] for video in names]

    def openers(self, split: Split) -> Sequence[VideoOpener]:
        name: Literal["train", "test"] = "test" if split == "test" else "train"
        folder, paths = self.folder(name), self.videos(name)
        groups: dict[str, list[VideoOpener]] = {}
        start = 0
        for path, length in zip(paths, self._lengths(folder), strict=True):
            shape = (length, 3, *self.frame_size)
            opener = functools.partial(StoredVideo, folder / FRAMES, path.name, start, shape)
            groups.setdefault(path.stem.rpartition("_c")[0], []).append(opener)
            start += math.prod(shape)
        mine = videos_of_split(list(groups), split, self.val_fraction, self.split_seed)
        return [opener for group in mine for opener in groups[group]]

    def clips(self, split: Split) -> "Squares":
        whole, training = super().clips(split), split == "train"
        margin = MARGIN if training and self.crop == "random" else None
        return Squares(whole, self.shape[1], margin)

    def _write(self, folder: Path, videos: list[Path]) -> None:
        decode = functools.partial(decoded, size=self.frame_size)
        lengths = []
        with written_whole(folder / FRAMES) as new, new.open("wb") as file:
            blocks = [videos[k : k + BLOCK] for k in range(0, len(videos), BLOCK)]
            for block in Progress(blocks, "Decoding UCF101"):
                with ThreadPoolExecutor() as pool:
                    for frames in pool.map(decode, block):
                        file.write(frames.data)
                        lengths.append(len(frames))
        # Last, because it says that the frames are complete.
        with written_whole(folder / LENGTHS) as new:
            new.write_text(json.dumps(lengths))

    def _lengths(self, folder: Path) -> list[int]:
        """Numbers of frames of the videos in a folder of decoded frames.

        Raises:
            InputError: The folder is incomplete.
        """
        try:
            lengths = json.loads((folder / LENGTHS).read_text())
            size, wanted = (
                (folder / FRAMES).stat().st_size,
                sum(lengths) * 3 * math.prod(self.frame_size),
            )
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{folder} holds no decoded videos; delete it") from error
        if size != wanted:
            raise InputError(f"{folder} has {size} bytes of frames, not {wanted}; delete it")
        return lengths


class Squares(Windows):
    """Windows that show a square of the frames, as high as these.

    Args:
        whole: Windows of the whole frames.
        side: Height and width of the square.
        margin: Number of columns at each side that random squares never show. None: the square is
            always in the middle.
    """

    def __init__(self, whole: Windows, side: int, margin: int | None) -> None:
        super().__init__(
            whole.footage, whole.starts, whole.n_frames, whole.every, whole.unit, whole.flip
        )
        self.side, self.margin = side, margin

    def cut(self, clip: np.ndarray, index: int) -> np.ndarray:
        room = clip.shape[-1] - self.side
        left = room // 2
        if self.margin is not None:
            chance = float(uniform(np.array([index]), 1, seed=6000)[0, 0])
            left = self.margin + int(chance * (room + 1 - 2 * self.margin))
        return clip[..., left : left + self.side]


class StoredVideo(Footage):
    """Video in a file of raw bytes, which is opened for each clip.

    Args:
        path: The file.
        name: Name of the video.
        offset: Position of its first byte in the file.
        shape: Frames, channels, height and width.
    """

    def __init__(
        self, path: Path, name: str, offset: int, shape: tuple[int, int, int, int]
    ) -> None:
        self.path, self.name, self.offset, self.shape = path, name, offset, shape

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, frames: range) -> np.ndarray:
        try:
            stored = np.memmap(self.path, np.uint8, "r", self.offset, self.shape)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path} can't be read ({error}); delete its folder, and the videos are "
                "decoded again"
            ) from error
        return np.array(stored[frames.start : frames.stop : frames.step])


def decoded(path: Path, size: tuple[int, int]) -> np.ndarray:
    """All frames of a video file, `uint8 [t 3 h w]`, scaled by OpenCV's cubic interpolation.

    OpenCV's `INTER_CUBIC` does not smooth frames that it makes smaller, as PyTorch's does not.

    Raises:
        InputError: The file can't be decoded, or has no frame.
    """
    frames = []
    for image in decoded_images(path):
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
        small = functional.interpolate(pixels.float(), size, mode="bicubic", align_corners=False)
        frames.append(small[0].round().clamp(0, 255).byte().numpy())
    if not frames:
        raise InputError(f"{path} holds no frame; copy it again")
    return np.stack(frames)
