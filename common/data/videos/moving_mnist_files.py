"""Moving digits from the files that everyone tests on."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from common.data.base import Split
from common.data.formats.arrays import loaded, member
from common.data.videos.base import Clips, VideoData
from common.errors import InputError
from common.typing import PixelVideo, Times


class Sequences(Clips):
    """Whole grey videos of one array, time first: `uint8 [t n h w]`."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return self.pixels.shape[1]

    @property
    def times(self) -> Times:
        return torch.arange(len(self.pixels)).float()

    def frames(self, indices: list[int]) -> PixelVideo:
        chosen = np.moveaxis(self.pixels[:, indices], 0, 1)
        return torch.from_numpy(np.ascontiguousarray(chosen)).unsqueeze(2)


class MovingMNISTFile(VideoData):
    """The 10,000 videos of `mnist_test_seq.npy` (Srivastava et al. 2015), 20 frames of two digits.

    All are test videos by convention, so there is nothing to train or validate on: train on
    generated digits. The file is mapped, not read into memory.

    Args:
        path: The file, `uint8 [20, n, 64, 64]`.
        n_frames: The first so many frames of each.
        batch_size: Videos per step.
        num_workers: Loader processes.
        observed: Share of the frames that a model may see.
        pattern: Which: `random` or `regular` ones.
    """

    shape = (1, 64, 64)

    def __init__(
        self,
        path: str | Path,
        n_frames: int = 20,
        batch_size: int = 32,
        num_workers: int = 0,
        observed: float = 1.0,
        pattern: Literal["random", "regular"] = "random",
    ) -> None:
        super().__init__(n_frames, None, batch_size, num_workers, False, observed, pattern)
        self.path = Path(path).expanduser()

    def clips(self, split: Split) -> Sequences:
        if split != "test":
            raise InputError(
                f"{self.path} holds test videos only, none for {split}; fit on other data, such "
                "as moving digits made on the fly, and test on this file"
            )
        return Sequences(self._first(self._sequences()))

    def _sequences(self) -> np.ndarray:
        return loaded(self.path, lambda: np.load(self.path, mmap_mode="r", allow_pickle=False))

    def _first(self, pixels: np.ndarray) -> np.ndarray:
        if pixels.ndim == 5 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[2:] != (64, 64):
            raise InputError(
                f"{self.path} holds {pixels.dtype} of shape {pixels.shape}, videos of moving "
                "digits are uint8 (frames, videos, 64, 64); give another data.path"
            )
        if len(pixels) < self.n_frames:
            raise InputError(
                f"{self.path} holds videos of {len(pixels)} frames, data.n_frames asks for "
                f"{self.n_frames}; lower it"
            )
        return pixels[: self.n_frames]


class SRVPTestSet(MovingMNISTFile):
    """The test videos of SRVP's moving digits: `smmnist_test_2digits_64.npz` and its like.

    5,000 videos, of 25 frames in the stochastic set, 100 in the deterministic one (mmnist_…). See
    `preprocessing/mmnist/make_test_set.py` of github.com/edouardelasalles/srvp.

    Args:
        path: The file, with `sequences` `uint8 [t, n, 64, 64]` and `latents` `[t, n, digits, 4]`.
        n_frames: The first so many frames of each.
        batch_size: Videos per step.
        num_workers: Loader processes.
        observed: Share of the frames that a model may see.
        pattern: Which: `random` or `regular` ones.
    """

    def __init__(
        self,
        path: str | Path,
        n_frames: int = 25,
        batch_size: int = 32,
        num_workers: int = 0,
        observed: float = 1.0,
        pattern: Literal["random", "regular"] = "random",
    ) -> None:
        super().__init__(path, n_frames, batch_size, num_workers, observed, pattern)

    def latents(self) -> np.ndarray:
        """Row, column and their velocities of each digit, in pixels a frame: `[n t digits 4]`."""
        return np.moveaxis(self._array("latents")[: self.n_frames], 0, 1)

    def _sequences(self) -> np.ndarray:
        return self._array("sequences")

    def _array(self, key: str) -> np.ndarray:
        return loaded(self.path, lambda: member(self.path, key))
