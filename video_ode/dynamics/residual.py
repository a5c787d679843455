"""Latent dynamics by residual steps (Euler's method, and residual networks)."""

import abc

import torch
from torch import Tensor, nn

from common.errors import check_counts
from common.ode.evaluations import Evaluations
from common.typing import FieldFactory, Sample, Times
from video_ode.dynamics.base import TOLERANCE, Dynamics, Solved


class Residual(Dynamics):
    """Base of dynamics by equal residual steps, counted in integers from the first time on.

    So for every number of steps the states are exactly at the asked frames. Between two steps the
    path is a straight line, as Euler's method defines it. A step backward in time subtracts the
    residual that is computed at its start.

    Attributes:
        per_frame: Number of steps in a unit of time.
    """

    per_frame: int

    @abc.abstractmethod
    def residual(self, step: int, t: Tensor, z: Sample, context: Tensor | None) -> Sample:
        """Difference of the states after and before a step forward in time.

        Args:
            step: Number of the step since the first time; a step backward from the first time has
                the number -1.
            t: Time at the start of the step.
            z: State at the start of the step.
            context: Context of the whole path. None: no context.
        """

    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        elapsed = (times - times[0]).cpu().double() * self.per_frame
        sign = -1 if bool(elapsed[-1] < 0) else 1
        elapsed = elapsed.abs()
        whole = elapsed.round()
        elapsed = torch.where((elapsed - whole).abs() < TOLERANCE, whole, elapsed)
        grid = [z0]
        for i in range(int(elapsed.max().ceil())):
            t = times[0] + i * sign / self.per_frame
            step = i if sign > 0 else -1 - i
            grid.append(grid[-1] + sign * self.residual(step, t, grid[-1], context))
        before = elapsed.floor()
        states = []
        for i, share in zip(before.long().tolist(), (elapsed - before).tolist(), strict=True):
            states.append(torch.lerp(grid[i], grid[i + 1], share) if share else grid[i])
        return Solved(states, Evaluations(len(grid) - 1))


class ResidualEuler(Residual):
    """Residual dynamics `y_{t+1/k} = y_t + f(y_t, z_{⌊t⌋+1}) / k` (SRVP slides, "Model").

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

    @property
    def per_frame(self) -> int:  # type: ignore[override]
        return self.steps

    def residual(self, step: int, t: Tensor, z: Sample, context: Tensor | None) -> Sample:
        return self.field(t, z, context) / self.steps


class ResidualBlocks(Residual):
    """Residual network of `n` blocks from one frame to the next, the dynamics of Donà et al. 2021.

    `T_{t+1} = (id + f_n) ∘ … ∘ (id + f_1) (T_t)`, with the same blocks between any two frames.

    Args:
        size: Length of the state (channels of a feature map).
        context_size: Length of the context.
        field: From the lengths of state and context to the residual function of a block.
        blocks: Number of blocks `n`.

    Raises:
        InputError: `blocks` is below 1.
    """

    def __init__(self, size: int, context_size: int, field: FieldFactory, blocks: int = 1) -> None:
        super().__init__()
        check_counts(1, blocks=blocks)
        self.fields = nn.ModuleList(field(size, context_size) for _ in range(blocks))
        self.per_frame = blocks

    def residual(self, step: int, t: Tensor, z: Sample, context: Tensor | None) -> Sample:
        return self.fields[step % self.per_frame](t, z, context)
