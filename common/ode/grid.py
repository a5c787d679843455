"""Grid of equal steps that begins at the first of several times."""

from typing import NamedTuple

import torch
from torch import Tensor

from common.typing import Times


class GridPlaces(NamedTuple):
    """Places of times on a grid, in double precision on the CPU.

    Attributes:
        steps: Number of whole steps from the first time to the last grid point before each time.
        rest: What is missing from there to the time, as a share of a step; 0 on the grid.
    """

    steps: Tensor
    rest: Tensor


def grid_places(times: Times, step_size: float) -> GridPlaces:
    """Places of monotonic times on the grid of `step_size` that begins at the first time.

    Times are rounded numbers: a time that is almost on the grid is on it.
    """
    asked = times.detach().cpu().double()
    steps = (asked - asked[0]).abs() / step_size
    rounding = 4 * torch.finfo(times.dtype).eps * float(asked.abs().max()) / step_size + 1e-6
    whole = (steps + rounding).floor()
    rest = steps - whole
    return GridPlaces(whole, torch.where(rest > rounding, rest, torch.zeros_like(rest)))
