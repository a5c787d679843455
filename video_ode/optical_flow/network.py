"""Networks that estimate motion from coarse to fine."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import InputError, check_counts
from common.nn.warping import sampled
from common.ode.solve import Solver
from common.typing import Image, Video
from video_ode.optical_flow.motion import Motion, check_map_times
from video_ode.optical_flow.warping import moved, pixel_places

COARSEST = 4  # least height and width of the coarsest feature map; of small frames, 1
COST_SCALE = 6.0  # of neighbours, cosines differ little: the decoder would learn slowly
SOLVER = Solver("midpoint", step_size=0.5)


class MotionPyramid(nn.Module):
    """Network that estimates the motion of a frame, the anchor, from other frames of the video.

    It goes from coarse to fine, as PWC-Net does (Sun et al. 2018). On each level, the warping ODE
    carries the pixels of the anchor to the times of the other frames; the features there are
    compared with those of the anchor, at the same place and at its neighbours; and a decoder
    corrects the velocity. All levels share their weights. So the network takes frames of any size,
    with one more level for each factor of 2, and motions that grow with the size.

    Args:
        others: Time of each other frame, if the anchor is at 0: `[1]` for the motion to the next
            frame, `[-1, -2]` for a prediction from three past frames.
        times: Times of the maps of the result, ascending.
        channels: Channels of the frames.
        width: Channels of the features; the decoder has up to twice as many.
        radius: Largest displacement that a level compares, in its pixels.
        solver: Solver that carries the pixels. None: midpoint steps of 1/2.

    Raises:
        InputError: Counts below 1, times that don't ascend, or another frame at the time 0.
    """

    times: Tensor

    def __init__(
        self,
        others: Sequence[float] = (1.0,),
        times: Sequence[float] = (0.0, 0.5, 1.0),
        channels: int = 3,
        width: int = 16,
        radius: int = 2,
        solver: Solver | None = None,
    ) -> None:
        super().__init__()
        check_counts(1, channels=channels, width=width, radius=radius, others=len(others))
        check_map_times(times)
        if 0 in others:
            raise InputError(f"got times of the other frames {list(others)}; none may be 0")
        self.others, self.channels, self.radius = tuple(others), channels, radius
        self.solver = solver or SOLVER
        self.register_buffer("times", torch.tensor(times, dtype=torch.float32), persistent=False)
        self.n_maps = 3 * len(times)  # two of velocity and one of confidence at each time
        costs = len(others) * (2 * radius + 1) ** 2
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        last = nn.Conv2d(width, self.n_maps, 3, padding=1)
        self.decoder = nn.Sequential(
            nn.Conv2d(costs + width + self.n_maps, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=2, dilation=2),
            nn.SiLU(),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.SiLU(),
            last,
        )
        for parameter in last.parameters():  # the first motion is none
            nn.init.zeros_(parameter)

    def forward(self, anchor: Image, others: Sequence[Image]) -> Motion:
        """Motion of the anchor `[b c h w]` in `[0, 1]`, from the other frames of the same size."""
        h, w = anchor.shape[-2:]
        last = self.levels(self.pyramid(torch.stack([anchor, *others], 1)))[0]
        return Motion(last.velocity[..., :h, :w], last.confidence[..., :h, :w], last.times)

    def pyramid(self, video: Video) -> list[Video]:
        """Videos `[b t c h w]` of full size, half of it, and so on, as `levels` takes them.

        Height and width become multiples of a power of 2: the border is repeated.
        """
        b, t, c, h, w = video.shape
        if c != self.channels:
            raise InputError(
                f"got frames of {c} channels, but the network takes {self.channels}; convert the "
                "frames or set network.channels"
            )
        n_levels = max(1, math.floor(math.log2(max(1, min(h, w) / COARSEST))))
        side = 2**n_levels
        padding = (0, -w % side, 0, -h % side)
        found = [functional.pad(video.flatten(0, 1), padding, mode="replicate")]
        for _ in range(n_levels - 1):
            found.append(functional.avg_pool2d(found[-1], 2))
        return [level.unflatten(0, (b, t)) for level in found]

    def levels(self, pyramid: Sequence[Video]) -> list[Motion]:
        """Motions on all levels of a pyramid, each in pixels of its level.

        Args:
            pyramid: Levels of the anchor and the other frames, `[b t c h w]`, finest first.
        """
        b, _, _, h, w = pyramid[-1].shape
        maps, found = pyramid[-1].new_zeros(b, self.n_maps, h // 2, w // 2), []
        for level in reversed(pyramid):
            maps = self._corrected(level, maps)
            maps = self._finer(maps)
            found.append(self._motion(maps))
        return found[::-1]

    def _corrected(self, video: Video, maps: Tensor) -> Tensor:
        """Maps of a level after a correction by its frames."""
        features = self.features(2 * video.flatten(0, 1) - 1)
        # Mean 0 over the frame, and vectors of length 1 whose products are cosines.
        features = functional.normalize(features - features.mean((2, 3), keepdim=True), dim=1)
        own, *others = features.unflatten(0, video.shape[:2]).unbind(1)
        with torch.no_grad():  # training is more stable without a gradient of the places
            field, pixels = self._motion(maps).field, pixel_places(own)
            places = [moved(self.solver, field, pixels, 0.0, time) for time in self.others]
        pairs = zip(others, places, strict=True)
        costs = [_correlation(own, sampled(x, place), self.radius) for x, place in pairs]
        return maps + self.decoder(torch.cat([*costs, own, maps], 1))

    def _motion(self, maps: Tensor) -> Motion:
        k = len(self.times)
        maps = maps.float()  # half precision does not hold the places of pixels
        return Motion(maps[:, : 2 * k].unflatten(1, (k, 2)), maps[:, 2 * k :], self.times.float())

    def _finer(self, maps: Tensor) -> Tensor:
        """Maps of twice the size; velocities are counted in the smaller pixels."""
        large = functional.interpolate(maps, scale_factor=2, mode="bilinear")
        k = 2 * len(self.times)
        return torch.cat([2 * large[:, :k], large[:, k:]], 1)


def _correlation(x: Tensor, y: Tensor, radius: int) -> Tensor:
    """Cosines of features `[b c h w]` and each neighbour in another map, without their mean.

    They are scaled to numbers of about 1.
    """
    h, w = x.shape[-2:]
    padded = functional.pad(y, (radius,) * 4, mode="replicate")
    sides = range(2 * radius + 1)
    found = [(x * padded[..., i : i + h, j : j + w]).sum(1) for i in sides for j in sides]
    costs = torch.stack(found, 1)
    return COST_SCALE * (costs - costs.mean(1, keepdim=True))
