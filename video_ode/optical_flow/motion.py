"""Motion as maps on the grid of pixels: velocity and confidence at a few times."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError
from common.nn.warping import sampled
from common.typing import Times


class Motion(NamedTuple):
    """Motion around a frame, the anchor, whose time is 0.

    The maps are known at a few times; between them they are interpolated linearly, and before the
    first and after the last of them they stay constant.

    Attributes:
        velocity: Velocity in pixels per unit of time, `[b k 2 h w]`.
        confidence: Logit of the probability that a pixel at that time is seen in the anchor too,
            `[b k h w]`.
        times: Times of the maps, ascending, `[k]`.
    """

    velocity: Tensor
    confidence: Tensor
    times: Tensor

    def field(self, time: Tensor, places: Tensor) -> Tensor:
        """Velocity field of the warping ODE: at a time and at places `[b 2 h w]`, in pixels."""
        return sampled(torch.einsum("k,bk...->b...", self._shares(time), self.velocity), places)

    def at(self, times: Times) -> Tensor:
        """Velocity of each pixel at these times, `[b t 2 h w]`."""
        return torch.einsum("tk,bkchw->btchw", self._several(times), self.velocity)

    def confident(self, times: Times) -> Tensor:
        """Probability that a pixel at these times is seen in the anchor too, `[b t h w]`."""
        return torch.einsum("tk,bkhw->bthw", self._several(times), self.confidence).sigmoid()

    def split(self) -> tuple["Motion", "Motion"]:
        """Motions of the two halves of the batch."""
        halves = zip(self.velocity.chunk(2), self.confidence.chunk(2), strict=True)
        first, last = (Motion(*half, self.times) for half in halves)
        return first, last

    def _several(self, times: Times) -> Tensor:
        return torch.stack([self._shares(time) for time in times.to(self.times)])

    def _shares(self, time: Tensor) -> Tensor:
        """Share of each map `[k]` at a time."""
        times = self.times
        if len(times) == 1:
            return torch.ones_like(times)
        rising = ((time - times[:-1]) / times.diff()).clamp(0, 1)
        one = times.new_ones(1)
        return torch.cat([one, rising]) - torch.cat([rising, one * 0])


def check_map_times(times: Sequence[float]) -> None:
    """Checks the times of maps: at least one, ascending.

    Raises:
        InputError: There is none, or they don't ascend.
    """
    if not times or any(a >= b for a, b in pairwise(times)):
        raise InputError(f"got times of maps {list(times)}; give one or more, in ascending order")
