"""Latent dynamics by a neural ordinary differential equation."""

from typing import Literal

import torch
from torch import Tensor

from common.errors import InputError
from common.ode.solve import Evaluations, Solver
from common.typing import FieldFactory, Sample, Times
from video_ode.dynamics.base import Dynamics, Path, _by_intervals


class NeuralODE(Dynamics):
    """`dz/dt = f(t, z, context)` (Predoc III, eq. 4.2), solved by any solver.

    Any times, in both directions.

    Args:
        size: Length of the state.
        context_size: Length of the context.
        field: From sizes of state and context to `f`.
        solver: How to integrate.
        order: 1; or 2, where the state is position and velocity, `ds/dt = v`, `dv/dt = f(s, v)`
            (Yıldız et al. 2019, eq. 5).
        static_size: Length of the static part: the last `static_size` numbers of the state never
            change and are a context of the others (appearance, apart from motion).
    """

    def __init__(
        self,
        size: int,
        context_size: int,
        field: FieldFactory,
        solver: Solver,
        order: Literal[1, 2] = 1,
        static_size: int = 0,
    ) -> None:
        super().__init__()
        moving = size - static_size
        if moving < order or moving % order:
            raise InputError(
                f"got a state of {size} numbers, {static_size} of them static, and order {order}; "
                f"what is left to move must divide by the order: change latent_size or static_size"
            )
        self.field = field(moving, static_size + context_size)
        self.solver, self.order, self.moving = solver, order, moving
        self.evaluations = Evaluations()

    def forward(self, z0: Sample, times: Times, context: Tensor | None = None) -> Path:
        if context is not None and context.ndim == 3:
            return _by_intervals(self, z0, times, context)
        moving, static = z0[:, : self.moving], z0[:, self.moving :]
        steer = [c for c in (static, context) if c is not None and c.shape[-1]]
        about = torch.cat(steer, -1) if steer else None

        def f(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor]:
            (z,) = state
            dz = self.field(t, z, about)
            if self.order == 2:
                velocity, acceleration = z[:, self.moving // 2 :], dz[:, self.moving // 2 :]
                dz = torch.cat([velocity, acceleration], -1)
            return (dz,)

        params = [*self.field.parameters(), *([] if about is None else [about])]
        if len(times) == 1:
            path = moving[:, None]
        else:
            solution = self.solver.path(f, (moving,), times, params)
            (path,), self.evaluations = solution
        still = static[:, None].expand(-1, len(times), -1)
        return Path(torch.cat([path, still], -1), z0.new_zeros(len(z0)))
