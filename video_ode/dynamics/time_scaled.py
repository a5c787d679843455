"""Latent dynamics in another unit of time."""

from torch import Tensor

from common.errors import check_positive
from common.typing import Sample, Times
from video_ode.dynamics.base import Dynamics, DynamicsFactory, Solved


class TimeScaled(Dynamics):
    """Any dynamics with a slower time: `frames` frames are one unit of its own time.

    The solver's step is in the dynamics' own time. Gordon & Parde 2020 solve 16 frames from time 0
    to 1, which is `frames: 15`; without it, their bounded fields move the state 15 times as far.

    Args:
        size: Length of the state (channels of a feature map).
        context_size: Length of the context.
        dynamics: From the lengths of state and context to the dynamics.
        frames: Number of frames in a unit of the dynamics' time.

    Raises:
        InputError: `frames` is not above 0.
    """

    def __init__(
        self, size: int, context_size: int, dynamics: DynamicsFactory, frames: float
    ) -> None:
        super().__init__()
        check_positive(frames=frames)
        self.dynamics, self.frames = dynamics(size, context_size), frames
        self.starts_at_z0 = self.dynamics.starts_at_z0

    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        return self.dynamics.solved(z0, times / self.frames, context)
