"""Moving MNIST from the published test files."""

import functools
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.data.base import Split
from common.data.formats.arrays import loaded, mapped, member
from common.data.videos.base import Clip, Clips, VideoData
from common.data.videos.digit_motion import MOTIONS
from common.data.videos.moving_mnist import render
from common.errors import InputError
from common.typing import Integers, PixelVideo, Times


class Sequences(Clips):
    """Whole grey videos of one array with the time axis first, `uint8 [t n h w]`."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return self.pixels.shape[1]

    def times(self, indices: list[int]) -> Times:
        return torch.arange(len(self.pixels)).float()

    def frames(self, indices: list[int]) -> PixelVideo:
        videos = np.moveaxis(self.pixels[:, indices], 0, 1)
        return torch.from_numpy(np.ascontiguousarray(videos)).unsqueeze(2)


class MovingMNISTFile(VideoData):
    """Moving MNIST test set (Srivastava et al. 2015): 10,000 videos of `mnist_test_seq.npy`.

    A video has 20 frames of two digits. By convention all of them are test videos, so the set has
    nothing to train or validate on: train on `MovingDigits`. The file is mapped, not read into
    memory.

    Args:
        path: The file, `uint8 [20, n, 64, 64]`.
        n_frames: Number of frames to serve, from the first frame of a video on.
    """

    shape = (1, 64, 64)

    def __init__(self, path: str | Path, n_frames: int = 20, **serving: Any) -> None:
        super().__init__(n_frames=n_frames, n_eval_frames=None, flip=False, **serving)
        self.path = Path(path).expanduser()

    def clips(self, split: Split) -> Sequences:
        if split != "test":
            raise InputError(
                f"{self.path} holds test videos only, none for {split}; fit on other data, such "
                "as MovingDigits, and test on this file"
            )
        return Sequences(self._checked(self._sequences()))

    def _sequences(self) -> np.ndarray:
        """Array of the videos in the file."""
        return mapped(self.path)

    def _checked(self, pixels: np.ndarray) -> np.ndarray:
        """First `n_frames` frames of an array of videos, `uint8 [t n 64 64]`."""
        if pixels.ndim == 5 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[2:] != (64, 64):
            raise InputError(
                f"{self.path} holds {pixels.dtype} of shape {pixels.shape}, but videos of moving "
                "digits are uint8 (frames, videos, 64, 64); give another data.path"
            )
        if len(pixels) < self.n_frames:
            raise InputError(
                f"{self.path} holds videos of {len(pixels)} frames, but data.n_frames asks for "
                f"{self.n_frames}; lower it"
            )
        return pixels[: self.n_frames]


class SRVPTestSet(MovingMNISTFile):
    """Test set of SRVP's moving digits: `smmnist_test_2digits_64.npz` and similar files.

    It has 5,000 videos, of 25 frames in the stochastic set and of 100 frames in the deterministic
    set (`mmnist_…`). The script `preprocessing/mmnist/make_test_set.py` of
    github.com/edouardelasalles/srvp makes the files.

    Args:
        path: The file, with `sequences` `uint8 [t, n, 64, 64]` and, for content swaps, `latents`
            `[t, n, digits, 4]` and `digits` `uint8 [n, digits, 28, 28]`.
        n_frames: Number of frames to serve, from the first frame of a video on.
    """

    def __init__(self, path: str | Path, n_frames: int = 25, **serving: Any) -> None:
        super().__init__(path=path, n_frames=n_frames, **serving)

    def latents(self) -> np.ndarray:
        """Row, column and velocities of each digit, `[n t digits 4]`, in px and px per frame."""
        return np.moveaxis(self._array("latents")[: self.n_frames], 0, 1)

    def swapped(self, clip: Clip, content: Integers) -> Tensor:
        """Videos with the digits of other videos, in all orders, as Donà et al. (2021) test it.

        They are drawn from the positions and the digits in the file.
        """
        latents, digits = self._made
        rows, motion = clip.number.cpu().numpy(), MOTIONS["srvp"](36, 4.0)
        corners = motion.pixels(latents[rows][..., :2].astype(float))
        pictures = digits[content.cpu().numpy()]
        orders = map(list, permutations(range(pictures.shape[1])))
        videos = [render(pictures[:, order], corners, 64, motion.overlap) for order in orders]
        return torch.from_numpy(np.stack(videos)).unsqueeze(3).to(clip.frames.device)

    @functools.cached_property
    def _made(self) -> tuple[np.ndarray, np.ndarray]:
        """Latents `[n t digits 4]`, and pictures of the digits `[n digits h h]`."""
        latents, digits = self.latents(), self._array("digits")
        n, _, n_digits, _ = latents.shape
        if digits.dtype != np.uint8 or digits.ndim != 4 or digits.shape[:2] != (n, n_digits):
            raise InputError(
                f"{self.path} holds digits of {digits.dtype} {digits.shape} for latents of "
                f"{latents.shape}; make it again"
            )
        return latents, digits

    def _sequences(self) -> np.ndarray:
        return self._array("sequences")

    def _array(self, key: str) -> np.ndarray:
        return loaded(self.path, lambda: member(self.path, key))
