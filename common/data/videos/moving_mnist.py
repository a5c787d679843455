"""Moving MNIST: digits that move on a canvas, after the rules of three published generators."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from PIL.Image import Resampling, fromarray
from torch import Tensor

from common.data.base import Split
from common.data.images.embedded import EmbeddedDigits
from common.data.images.files import MNIST
from common.data.videos.base import Clip
from common.data.videos.digit_motion import MOTIONS, DigitMotion
from common.data.videos.simulated import Simulated, Simulator, straight_on
from common.errors import InputError, check_counts
from common.typing import Integers, Pixels, PixelVideo, Times

Overlap = Callable[[np.ndarray, np.ndarray], np.ndarray]


class DigitTrajectories(NamedTuple):
    """Motion of the digits; positions and velocities as (y, x), `float64 [b t d 2]`.

    Attributes:
        corners: Upper left corners of the digits in px, not rounded.
        velocities: Velocities in px per frame; at a collision, those just after it.
        digits: Numbers of the digits among the `images` of the split, `int64 [b d]`.
    """

    corners: Tensor
    velocities: Tensor
    digits: Tensor


class MovingDigits(Simulated[DigitTrajectories]):
    """Moving MNIST, simulated when it is served.

    Each split shows digits of its own. Of the MNIST files, the training images are for training
    and (5 % of them) for validation, the test images for testing; the embedded digits have splits
    of their own. Training videos draw their digits at random. Validation and test videos show all
    digits once before any digit is shown again.

    Args:
        generator: Rules of motion. `toronto`: Srivastava et al. (2015); digits stop at the border,
            and where they overlap the brighter one is seen. `svg`: Denton and Fergus (2018);
            digits stop at the border and add up. `srvp`: Franceschi et al. (2020); digits are
            reflected exactly and add up.
        stochastic: Draw a new velocity at each collision (not possible with `toronto`).
        n_digits: Number of digits in a video.
        canvas: Height and width of a frame, in px.
        digit: Height and width of a digit, in px. None: that of the generator, 28 (`svg`: 32).
        speed: Speed of the digits. For `toronto`, the share of the way between two borders that a
            digit travels in one frame; None: 0.1. For the others, the highest speed along either
            axis in px per frame, a whole number; None: 4 on a canvas of 64, in proportion on other
            canvases.
        root: Folder with the files of MNIST. None: the embedded digits.
        subpixel: Draw digits between pixels by bilinear interpolation. The original generators
            draw at whole pixels.
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
        **serving: Any,
    ) -> None:
        super().__init__(**serving)
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
        self.motion = kind(
            canvas - self.digit, kind.usual_speed(canvas) if speed is None else speed
        )
        if stochastic:
            self.motion.randomize()
        self.canvas, self.n_digits, self.subpixel = canvas, n_digits, subpixel
        self.root, self.shape = root, (1, canvas, canvas)
        self._images: dict[Split, Pixels] = {}

    def images(self, split: Split) -> Pixels:
        """Digits of a split, in the size that its videos show."""
        if split not in self._images:
            source = EmbeddedDigits() if self.root is None else MNIST(self.root, val_fraction=0.05)
            self._images[split] = _resized(source.images(split), self.digit)
        return self._images[split]

    def simulator(self, split: Split) -> "DigitSimulator":
        images = self.images(split)
        return DigitSimulator(
            split, self.motion, images, self.n_digits, self.canvas, self.subpixel
        )

    def baselines(self, clip: Clip, n_cond: int) -> dict[str, PixelVideo]:
        """`constant velocity`: straight on from the last conditioning frame, across the border."""
        simulator = self.simulator("test")
        true = simulator.trajectories(clip.number, clip.times)
        corners = straight_on(true.corners, true.velocities, clip.times, n_cond)
        # Draw on a wider canvas and cut out its middle: digits outside the middle are not seen.
        margin = self.digit
        corners = corners.clamp(-margin, self.canvas) + margin
        frames = simulator.drawn(true.digits, corners, self.canvas + 2 * margin)
        frames = frames[..., margin:-margin, margin:-margin].to(clip.frames.device, copy=True)
        frames[:, :n_cond] = clip.frames[:, :n_cond]
        return {"constant velocity": frames}

    def swapped(self, clip: Clip, content: Integers) -> Tensor:
        """Videos with the digits of other videos, in all orders, as Donà et al. (2021) test it."""
        simulator = self.simulator("test")
        true = simulator.trajectories(clip.number, clip.times)
        digits = simulator.draws(content, clip.times).images(len(simulator.images))
        orders = permutations(range(self.n_digits))
        videos = [
            simulator.drawn(torch.from_numpy(digits[:, order]), true.corners, self.canvas)
            for order in map(list, orders)
        ]
        return torch.stack(videos).to(clip.frames.device)


class DigitSimulator(Simulator[DigitTrajectories]):
    """Renderer of the moving digits of one split.

    Args:
        split: The split.
        motion: Law of motion of the digits.
        images: Digits that the videos may show, `[n 1 h h]`.
        n_digits: Number of digits in a video.
        canvas: Height and width of a frame, in px.
        subpixel: Draw digits between pixels by bilinear interpolation.
    """

    def __init__(
        self,
        split: Split,
        motion: DigitMotion,
        images: Pixels,
        n_digits: int,
        canvas: int,
        subpixel: bool,
    ) -> None:
        super().__init__(split, n_digits)
        self.motion, self.images, self.canvas, self.subpixel = motion, images, canvas, subpixel

    def trajectories(self, numbers: Integers, times: Times) -> DigitTrajectories:
        """Exact motion of the digits at any times from 0 on."""
        draws = self.draws(numbers, times)
        corners, velocities = self.motion.path(draws, times.cpu().double().numpy())
        arrays = corners, velocities, draws.images(len(self.images))
        return DigitTrajectories(*map(torch.from_numpy, arrays))

    def videos(self, numbers: Integers, times: Times) -> PixelVideo:
        true = self.trajectories(numbers, times)
        return self.drawn(true.digits, true.corners, self.canvas)

    def drawn(self, digits: Tensor, corners: Tensor, canvas: int) -> PixelVideo:
        """Frames of digits with these corners.

        Args:
            digits: Numbers of the digits among `images`, `[b d]`.
            corners: Upper left corners in px, `[b t d 2]`.
            canvas: Height and width of a frame, in px.
        """
        pictures = self.images.index_select(0, digits.flatten())
        pictures = pictures.reshape(*digits.shape, *self.images.shape[-2:])
        places = corners.numpy() if self.subpixel else self.motion.pixels(corners.numpy())
        frames = render(pictures.numpy(), places, canvas, self.motion.overlap)
        return torch.from_numpy(frames)[:, :, None]


def render(pictures: np.ndarray, corners: np.ndarray, canvas: int, overlap: Overlap) -> np.ndarray:
    """Frames of pictures that move on a canvas.

    Args:
        pictures: Pictures to draw, `uint8 [b d h h]`, with `h < canvas`.
        corners: Upper left corners as (y, x), `[b t d 2]`, from 0 to `canvas - h`. Corners between
            pixels are drawn by bilinear interpolation.
        canvas: Height and width of the frames, in px.
        overlap: Function of two byte arrays that gives the bytes of their overlap; it may write
            into its arguments.

    Returns:
        Frames, `uint8 [b t canvas canvas]`.
    """
    n_videos, n_times, n_objects = corners.shape[:3]
    whole = np.floor(corners)
    fractions = corners - whole
    between = bool(fractions.any())
    side = pictures.shape[-1] + between  # a picture between pixels takes one pixel more
    lead, size = canvas - pictures.shape[-1], side * canvas
    picture, bands = _strips((n_videos, n_objects), side, lead, canvas)
    shift = lead - whole[..., 1].astype(np.int64)

    # A picture between pixels may draw an empty row below its frame, so the last frame needs one.
    memory = np.zeros(n_videos * n_times * canvas**2 + canvas, np.uint8)
    drawn = sliding_window_view(memory, size, writeable=True)
    frames = memory[:-canvas].reshape(n_videos, n_times, canvas, canvas)
    top = np.arange(n_videos * n_times).reshape(n_videos, n_times, 1) * canvas
    top = canvas * (top + whole[..., 0].astype(np.int64))

    if not between:
        picture[:] = pictures
    every = np.arange(n_videos)[:, None]
    # Number of frames drawn at once: small enough for the cache; 1 if the pictures change.
    block = 1 if between else max(1, 256 // max(1, n_videos))
    for k in range(0, n_times, block):
        if between:
            picture[:] = _shifted(pictures, fractions[:, k])
        now = slice(k, k + block)
        for j in range(n_objects):
            here, band = top[:, now, j], bands[every, j, shift[:, now, j]]
            drawn[here] = overlap(drawn[here], band) if j else band
    return frames


def _strips(
    shape: tuple[int, int], side: int, lead: int, canvas: int
) -> tuple[np.ndarray, np.ndarray]:
    """Views of empty strips, one for each picture: the picture in its strip, and all windows.

    The rows of a picture lie in a strip as they lie on the canvas, after `lead` empty pixels. A
    window on the strip is the picture shifted to the right; it is copied into a frame at once.
    """
    size = side * canvas
    strips = np.zeros((*shape, lead + size), np.uint8)
    steps = (*strips.strides[:2], canvas, 1)
    picture = as_strided(strips[..., lead:], (*shape, side, side), steps)
    return picture, sliding_window_view(strips, size, axis=-1)


def _shifted(pictures: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Pictures shifted down and right by less than a pixel, one row and one column larger."""
    padded = np.pad(pictures, ((0, 0), (0, 0), (1, 1), (1, 1)))
    y, x = fractions.astype(np.float32)[..., None, None, :].transpose(4, 0, 1, 2, 3)
    rows = (1 - y) * padded[..., 1:, :] + y * padded[..., :-1, :]
    return np.rint((1 - x) * rows[..., 1:] + x * rows[..., :-1]).astype(np.uint8)


def _resized(images: Pixels, side: int) -> Pixels:
    """Images scaled to a square of this side: up bilinearly, down by means of areas.

    Means of areas keep more contrast than a wider filter.
    """
    if images.shape[-1] == side:
        return images
    method = Resampling.BOX if side < images.shape[-1] else Resampling.BILINEAR
    pictures = (fromarray(image).resize((side, side), method) for image in images[:, 0].numpy())
    return torch.from_numpy(np.stack([np.asarray(p) for p in pictures]))[:, None]
