"""Optical flow of pictures of a plane, made from photographs inside an installed package."""

import functools
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from common.data.base import Split
from common.data.draws import uniform
from common.data.flow.base import FlowClips, FlowExample, SyntheticFlow
from common.data.formats.wheels import wheel_file
from common.data.images.embedded import PHOTOGRAPHS
from common.data.videos.simulated import SEEDS
from common.errors import InputError, check_positive
from common.nn.warping import sampled
from common.typing import Times

DRAWS = 6000  # seed of the motions and windows
FINE = 2  # pixels of the plane's texture in a pixel of a frame
BLUR = 0.8  # standard deviation of the blur of the texture, in pixels of a frame
BORDER = 2  # pixels of a frame around what the frames show
WIDEST, HIGHEST = 400, 300  # pixels that every photograph has


class HomographyFlow(SyntheticFlow):
    """Photographs on a plane before a moving camera, with exact dense optical flow.

    The photographs are those of the scikit-image package; validation and testing have photographs
    of their own, as in `EmbeddedPhotos`. The plane moves by a homography `exp(t L)` from time 0 to
    time t, where `L` is drawn: rotation, scale, translation, and a little perspective. So the
    frames between the first and the last one, at time 1, are exact too. All frames show the same
    blurred photograph, each sampled from it once.

    Args:
        size: Height and width of a frame in pixels.
        most: Largest motion of a pixel from the first frame to the last one, in pixels; that of a
            video is drawn uniformly between 0 and this number.

    Raises:
        InputError: The frames and their motion don't fit into the photographs.
    """

    def __init__(
        self, size: tuple[int, int] = (64, 64), most: float = 8.0, **serving: Any
    ) -> None:
        super().__init__(flip=False, **serving)
        check_positive(most=most, size=size)
        if most > min(size) / 2:
            raise InputError(
                f"got most {most:g} of size {size}; give half the shorter side or less"
            )
        height, width = (side + 4 * most + 2 * BORDER for side in size)
        if height > HIGHEST or width > WIDEST:
            raise InputError(
                f"got size {size} and most {most:g}, which may need a photograph of {height:g} x "
                f"{width:g} pixels, but there are {HIGHEST} x {WIDEST}; lower one of them"
            )
        self.size, self.most, self.shape = size, most, (3, *size)

    def clips(self, split: Split) -> "Planes":
        return Planes(split, self.size, self.most, self.counts[split], self.times(split))


class Planes(FlowClips):
    """Moving planes of one split.

    Args:
        split: The split.
        size: Height and width of a frame in pixels.
        most: Largest motion in pixels.
        count: Number of videos in an epoch.
        times: Times of the frames, from 0 to 1, `[t]`.
    """

    def __init__(
        self, split: Split, size: tuple[int, int], most: float, count: int, times: Times
    ) -> None:
        super().__init__(count, times)
        self.split, self.size, self.most = split, size, most

    def logarithm(self, index: int) -> np.ndarray:
        """Matrix logarithm `L` of the homography of a video, `float64 [3 3]`.

        The point at (x, y, 1) in the first frame, in pixels from the middle of its first pixel,
        is at `exp(t L) (x, y, 1)` at time t.
        """
        *shares, amount = self._draws(index)[:7].tolist()
        turn, scale, right, down, tilt, slope = (2 * share - 1 for share in shares)
        height, width = self.size
        unit = max(self.size) / 2
        middle = np.array([[unit, 0, (width - 1) / 2], [0, unit, (height - 1) / 2], [0, 0, 1]])
        motion = np.array([[scale, -turn, right], [turn, scale, down], [tilt / 4, slope / 4, 0.0]])
        found = 1e-3 * middle @ motion @ np.linalg.inv(middle)
        for _ in range(4):  # until the largest motion is the drawn one
            found *= amount * self.most / np.linalg.norm(self._moved(found, 1.0), axis=0).max()
        return found

    def example(self, index: int) -> FlowExample:
        log = self.logarithm(index)
        pixels = np.indices(self.size)[::-1]
        places = pixels + np.stack([self._moved(log, -time) for time in self._times.tolist()])
        frames = self._texture(index, places)
        flow = self._moved(log, 1.0).astype(np.float32)
        known = np.ones(self.size, np.bool_)
        found = FlowExample(frames, flow, known, known)
        return found._replace(visible=found.inside())

    def _moved(self, log: np.ndarray, time: float) -> np.ndarray:
        """Displacement by `exp(time L)` of each pixel, `[2 h w]`."""
        rows, columns = np.indices(self.size)
        homography = torch.linalg.matrix_exp(torch.from_numpy(time * log)).numpy()
        x, y, depth = np.tensordot(homography, [columns, rows, np.ones(self.size)], 1)
        return np.stack([x / depth - columns, y / depth - rows])

    def _texture(self, index: int, places: np.ndarray) -> np.ndarray:
        """The plane at places `[t 2 h w]` in pixels of the first frame, `uint8 [t 3 h w]`."""
        which, zoom, left, top = self._draws(index)[7:].tolist()
        names = PHOTOGRAPHS[self.split]
        photo = _photo(names[int(which * len(names))])
        low = np.floor(places.min((0, 2, 3))) - BORDER
        width, height = (np.ceil(places.max((0, 2, 3))) + BORDER - low).astype(int).tolist()
        largest = min(photo.width / width, photo.height / height)
        zoom = min(2.0, largest) ** (1 - zoom) * largest**zoom
        x, y = left * (photo.width - zoom * width), top * (photo.height - zoom * height)
        right, down = x + zoom * width, y + zoom * height
        # Rounding errors must not lead out of the photograph.
        window = (max(x, 0), max(y, 0), min(right, photo.width), min(down, photo.height))
        fine = photo.resize((FINE * width, FINE * height), Image.Resampling.BICUBIC, window)
        blurred = fine.filter(ImageFilter.GaussianBlur(FINE * BLUR))
        texture = torch.from_numpy(np.array(blurred, np.float32)).movedim(2, 0)
        # Pixel j of the texture has its centre at low + (j + 1/2) / FINE.
        points = FINE * (places - low[:, None, None]) - 0.5
        seen = sampled(texture.expand(len(points), -1, -1, -1), torch.from_numpy(points).float())
        return seen.round().byte().numpy()

    def _draws(self, index: int) -> np.ndarray:
        return uniform(np.array([index]), 11, DRAWS + SEEDS[self.split])[0]


@functools.cache
def _photo(name: str) -> Image.Image:
    with Image.open(wheel_file("skimage", f"data/{name}")) as file:
        return file.convert("RGB")
