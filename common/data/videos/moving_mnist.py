"""Moving MNIST: digits that move about a canvas, by the rules of three generators."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from PIL.Image import Resampling, fromarray
from torch import Tensor

from common.data.base import Split
from common.data.images.embedded import EmbeddedDigits
from common.data.images.files import MNIST
from common.data.videos.base import Clip
from common.data.videos.digit_motion import MOTIONS
from common.data.videos.simulated import Draws, Simulated, Simulation, checked, chosen, straight_on
from common.errors import InputError, check_counts
from common.typing import Integers, Pixels, PixelVideo, Times

Overlap = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Trajectories(NamedTuple):
    """Where digits are; the first two are `float64 [b t d 2]` as (y, x), in px and px a frame.

    Attributes:
        corners: Their upper left corners, before any rounding.
        velocities: Just after a collision, if there is one.
        digits: `int64 [b d]`: which of the split's `images` are shown.
    """

    corners: Tensor
    velocities: Tensor
    digits: Tensor


class MovingDigits(Simulated):
    """Moving MNIST, made on the fly.

    Training digits move in training and (5 % of them) in validation, test digits in testing;
    training videos draw them at random, validation and test videos use each once before any twice.

    Args:
        generator: Whose rules: `toronto` (Srivastava et al. 2015; clamped at the border,
            brightest digit in front), `svg` (Denton and Fergus 2018; clamped, digits added) or
            `srvp` (Franceschi et al. 2020; reflected exactly, digits added).
        stochastic: Draw a new velocity at each collision (not for `toronto`).
        n_digits: Digits in a video.
        canvas: Height and width of a frame.
        digit: Height and width of a digit; if none the generator's: 28, `svg` 32.
        speed: For `toronto` the part of the way between the borders that a digit goes each frame
            (0.1 if none); for the others the most px that it goes along either axis, a whole
            number (4 on a canvas of 64 if none, on others in proportion).
        root: Folder of the files of MNIST; the embedded digits if none.
        subpixel: Draw at fractions of a pixel, bilinearly, not at whole ones as the originals do.
        n_train: Videos of an epoch.
        n_val: Videos for validation.
        n_test: Videos for testing.
        frame_step: Time between two frames of a validation or test video, in training frames.
        n_frames: Frames of a training video.
        n_eval_frames: Frames of a validation or test video; as in training if none.
        batch_size: Videos per device and step.
        num_workers: Loader processes.
        observed: Share of the frames that a model may see.
        pattern: Which: `random` ones, other in each video, or `regular`, evenly spaced.
    """

    def __init__(
        self,
        generator: Literal["toronto", "svg", "srvp"] = "srvp",
        stochastic: bool = False,
        n_digits: int = 2,
        canvas: int = 64,
        digit: int | None = None,
        speed: float | None = None,
        root: str | Path | None = None,
        subpixel: bool = False,
        n_train: int = 10000,
        n_val: int = 500,
        n_test: int = 1000,
        frame_step: float = 1.0,
        n_frames: int = 20,
        n_eval_frames: int | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        observed: float = 1.0,
        pattern: Literal["random", "regular"] = "random",
    ) -> None:
        super().__init__(
            n_train, n_val, n_test, frame_step, n_frames, n_eval_frames,
            batch_size, num_workers, observed, pattern,
        )  # fmt: skip
        if generator not in MOTIONS:
            raise InputError(f"got generator {generator}; choose one of {', '.join(MOTIONS)}")
        kind = MOTIONS[generator]
        self.digit = kind.side if digit is None else digit
        if not 0 < self.digit < canvas:
            raise InputError(
                f"got a digit of {self.digit} px on a canvas of {canvas}; "
                "set data.digit to less than data.canvas, and to 1 or more"
            )
        check_counts(1, n_digits=n_digits)
        self.generator = f"{generator}, stochastic" if stochastic else generator
        self.motion = kind(canvas - self.digit, kind.usual(canvas) if speed is None else speed)
        if stochastic:
            self.motion.randomize()
        self.canvas, self.n_digits, self.subpixel = canvas, n_digits, subpixel
        self.root, self.shape = root, (1, canvas, canvas)
        self._images: dict[Split, Pixels] = {}

    def images(self, split: Split) -> Pixels:
        """The digits of that split, in the size that is shown."""
        if split not in self._images:
            source = EmbeddedDigits() if self.root is None else MNIST(self.root, val_fraction=0.05)
            self._images[split] = _resized(source.images(split), self.digit)
        return self._images[split]

    def clips(self, split: Split) -> Simulation:
        self.images(split)  # read them before workers start, who then share them
        return super().clips(split)

    def trajectories(
        self, split: Split, numbers: Integers, times: Times | None = None
    ) -> Trajectories:
        """The exact positions, at the times that are served if none are given."""
        times = self.times(split) if times is None else times
        draws = Draws(split, checked(numbers, times), self.n_digits)
        corners, velocities = self.motion.path(draws, times.cpu().double().numpy())
        arrays = corners, velocities, chosen(draws, len(self.images(split)))
        return Trajectories(*map(torch.from_numpy, arrays))

    def videos(self, split: Split, numbers: Integers, times: Times) -> PixelVideo:
        true = self.trajectories(split, numbers, times)
        return self._drawn(split, true.digits, true.corners, self.canvas)

    def baselines(self, clip: Clip, n_cond: int) -> dict[str, PixelVideo]:
        """`constant velocity`: from the last given frame straight on, also out of the canvas."""
        true = self.trajectories("test", clip.number, clip.times)
        corners = straight_on(true.corners, true.velocities, clip.times, n_cond)
        # On a wider canvas, of which the middle is shown: beyond it digits can't be seen.
        margin = self.digit
        corners = corners.clamp(-margin, self.canvas) + margin
        frames = self._drawn("test", true.digits, corners, self.canvas + 2 * margin)
        frames = frames[..., margin:-margin, margin:-margin].to(clip.frames.device, copy=True)
        frames[:, :n_cond] = clip.frames[:, :n_cond]
        return {"constant velocity": frames}

    def _drawn(self, split: Split, digits: Tensor, corners: Tensor, canvas: int) -> PixelVideo:
        pictures = self.images(split).index_select(0, digits.flatten())
        pictures = pictures.reshape(*digits.shape, self.digit, self.digit)
        places = corners.numpy() if self.subpixel else self.motion.pixels(corners.numpy())
        frames = render(pictures.numpy(), places, canvas, self.motion.overlap)
        return torch.from_numpy(frames)[:, :, None]


def render(pictures: np.ndarray, corners: np.ndarray, canvas: int, overlap: Overlap) -> np.ndarray:
    """Draws pictures whose corners move.

    Args:
        pictures: `uint8 [b d h h]`, with `h < canvas`.
        corners: `[b t d 2]` as (y, x), from 0 to `canvas - h`; bilinear between whole pixels.
        canvas: Height and width of the frames.
        overlap: What is seen where two pictures overlap; may change its arguments.

    Returns:
        Frames, `uint8 [b t canvas canvas]`.
    """
    n_videos, n_times, n_objects = corners.shape[:3]
    whole = np.floor(corners)
    parts = corners - whole
    between = bool(parts.any())
    side = pictures.shape[-1] + between  # between pixels a picture takes one more
    lead, size = canvas - pictures.shape[-1], side * canvas
    # A picture's rows lie one behind the other as on the canvas, with empty space before them: a
    # window on that strip is the picture further right, and is copied into a frame in one go.
    strips = np.zeros((n_videos, n_objects, lead + size), np.uint8)
    steps = (*strips.strides[:2], canvas, 1)
    picture = as_strided(strips[..., lead:], (n_videos, n_objects, side, side), steps)
    bands = sliding_window_view(strips, size, axis=-1)
    shift = lead - whole[..., 1].astype(np.int64)

    # Between pixels an empty row may be drawn below a frame, and below the last one.
    memory = np.zeros(n_videos * n_times * canvas**2 + canvas, np.uint8)
    drawn = sliding_window_view(memory, size, writeable=True)
    frames = memory[:-canvas].reshape(n_videos, n_times, canvas, canvas)
    top = np.arange(n_videos * n_times).reshape(n_videos, n_times, 1) * canvas
    top = canvas * (top + whole[..., 0].astype(np.int64))

    if not between:
        picture[:] = pictures
    every = np.arange(n_videos)[:, None]
    # So many frames at once that they stay in the cache; one where the pictures change.
    block = 1 if between else max(1, 256 // max(1, n_videos))
    for k in range(0, n_times, block):
        if between:
            picture[:] = _shifted(pictures, parts[:, k])
        now = slice(k, k + block)
        for j in range(n_objects):
            here, band = top[:, now, j], bands[every, j, shift[:, now, j]]
            drawn[here] = overlap(drawn[here], band) if j else band
    return frames


def _shifted(pictures: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Pictures moved down and right by less than a pixel; they grow by one row and column."""
    padded = np.pad(pictures, ((0, 0), (0, 0), (1, 1), (1, 1)))
    y, x = parts.astype(np.float32)[..., None, None, :].transpose(4, 0, 1, 2, 3)
    rows = (1 - y) * padded[..., 1:, :] + y * padded[..., :-1, :]
    return np.rint((1 - x) * rows[..., 1:] + x * rows[..., :-1]).astype(np.uint8)


def _resized(images: Pixels, side: int) -> Pixels:
    """Averages over areas where it shrinks, which keeps more contrast than a wider filter."""
    if images.shape[-1] == side:
        return images
    method = Resampling.BOX if side < images.shape[-1] else Resampling.BILINEAR
    pictures = (fromarray(image).resize((side, side), method) for image in images[:, 0].numpy())
    return torch.from_numpy(np.stack([np.asarray(p) for p in pictures]))[:, None]
