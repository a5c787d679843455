"""Latent dynamics by residual steps (Euler's method)."""

import torch
from torch import Tensor

from common.errors import check_counts
from common.ode.evaluations import Evaluations
from common.typing import FieldFactory, Sample, Times
from video_ode.dynamics.base import TOLERANCE, Dynamics, Solved


class ResidualEuler(Dynamics):
    """Residual dynamics `y_{t+1/k} = y_t + f(y_t, z_{⌊t⌋+1}) / k` (SRVP slides, "Model").

    Steps are counted in integers, so for every `k` the states are exactly at the asked frames.
    Between two steps the path is a straight line, as Euler's method defines it.

    Args:
        size: Length of the state (channels of a feature map).
        context_size: Length of the context.
        field: From the lengths of state and context to the vector field `f`.
        steps: Number of steps `k` in a unit of time (SRVP slides, "frame rates").

    Raises:
        InputError: `steps` is below 1.
    """

    def __init__(self, size: int, context_size: int, field: FieldFactory, steps: int = 1) -> None:
        super().__init__()
        check_counts(1, steps=steps)
        self.field, self.steps = field(size, context_size), steps

    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        elapsed = (times - times[0]).cpu().double() * self.steps
        sign = -1 if bool(elapsed[-1] < 0) else 1
        elapsed = elapsed.abs()
        whole = elapsed.round()
        elapsed = torch.where((elapsed - whole).abs() < TOLERANCE, whole, elapsed)
        n_steps, dt = int(elapsed.max().ceil()), sign / self.steps
        grid = [z0]
        for i in range(n_steps):
            grid.append(grid[-1] + dt * self.field(times[0] + i * dt, grid[-1], context))
        before = elapsed.floor()
        states = []
        for i, share in zip(before.long().tolist(), (elapsed - before).tolist(), strict=True):
            states.append(torch.lerp(grid[i], grid[i + 1], share) if share else grid[i])
        return Solved(states, Evaluations(n_steps))
