"""Latent dynamics by residual steps."""

import torch
from torch import Tensor

from common.errors import InputError
from common.typing import Codes, FieldFactory, Sample, Times
from video_ode.dynamics.base import Dynamics, Path, _held


class ResidualEuler(Dynamics):
    """`y_{t+1/k} = y_t + f(y_t, z_{⌊t⌋+1}) / k` (SRVP slides, "Model" and "frame rates").

    Steps are counted in integers, so that every `k` returns the very frames that were asked for;
    between two steps the path is the straight line that Euler's method draws.

    Args:
        size: Length of the state.
        context_size: Length of the context.
        field: From sizes of state and context to `f`.
        steps: Steps `k` in a unit of time.
    """

    def __init__(self, size: int, context_size: int, field: FieldFactory, steps: int = 1) -> None:
        super().__init__()
        if steps < 1:
            raise InputError(f"got {steps} steps a frame; give 1 or more")
        self.field, self.steps = field(size, context_size), steps

    def forward(self, z0: Sample, times: Times, context: Tensor | None = None) -> Path:
        elapsed = (times - times[0]).cpu().double() * self.steps
        backward = bool(elapsed[-1] < 0)
        if backward and context is not None and context.ndim == 3:
            raise InputError(
                "got times before the first frame; the random variables of the frames there are "
                "not known: ask for later times"
            )
        elapsed = elapsed.abs()
        whole = elapsed.round()
        elapsed = torch.where((elapsed - whole).abs() < 1e-3, whole, elapsed)
        n = int(elapsed.max().ceil())
        grid = self._grid(z0, times[0], n, -1 if backward else 1, context)
        before = elapsed.floor().long()
        share = elapsed - before
        if bool(share.any()):
            after = (before + 1).clamp(max=n)
            start, end = (grid[:, i.to(grid.device)] for i in (before, after))
            states = torch.lerp(start, end, share.to(grid)[:, None])
        else:
            states = grid if len(before) == n + 1 else grid[:, before.to(grid.device)]
        return Path(states, z0.new_zeros(len(z0)))

    def _grid(self, y: Sample, t0: Tensor, n: int, sign: int, context: Tensor | None) -> Codes:
        """The states after 0 … n steps."""
        states, dt = [y], sign / self.steps
        for i in range(n):
            y = y + dt * self.field(t0 + i * dt, y, _held(context, i // self.steps))
            states.append(y)
        return torch.stack(states, 1)
