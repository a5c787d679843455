"""Latent dynamics by a neural ordinary differential equation."""

from typing import Literal

import torch
from torch import Tensor

from common.errors import InputError
from common.ode.solve import Solver
from common.typing import FieldFactory, Sample, Times
from video_ode.dynamics.base import Dynamics, Solved
from video_ode.dynamics.shapes import spread


class NeuralODE(Dynamics):
    """Neural ODE `dz/dt = f(t, z, context)` (Predoc III, eq. 4.2), for any solver.

    It can reach all times, forward and backward.

    Args:
        size: Length of the state (channels of a feature map).
        context_size: Length of the context.
        field: From the lengths of state and context to the vector field `f`.
        solver: Solver of the ODE.
        order: Order of the ODE. With order 2 the state is position and velocity: `ds/dt = v`,
            `dv/dt = f(s, v)` (Yıldız et al. 2019, eq. 5).
        static_size: Length of the static part: the last `static_size` numbers of the state never
            change, and they are a context of the other numbers. It separates appearance from
            motion.

    Raises:
        InputError: Lengths that don't fit the order.
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
                "the length of the moving part must be a multiple of the order: change "
                "latent_size or static_size"
            )
        self.field = field(moving, static_size + context_size)
        self.solver, self.order, self.moving = solver, order, moving

    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        moving, static = z0[:, : self.moving], z0[:, self.moving :]
        parts = [c for c in (static, context) if c is not None and c.shape[1]]
        known = torch.cat([spread(c, z0) for c in parts], 1) if parts else None

        def f(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor]:
            (z,) = state
            dz = self.field(t, z, known)
            if self.order == 2:
                half = self.moving // 2
                dz = torch.cat([z[:, half:], dz[:, half:]], 1)
            return (dz,)

        # The adjoint knows these tensors only: without the context here, the context would get no
        # gradient.
        params = [*self.field.parameters(), *([] if known is None else [known])]
        (path,), evaluations = self.solver.path(f, (moving,), times, params)
        still = static[:, None].expand(-1, len(times), *static.shape[1:])
        return Solved(torch.cat([path, still], 2), evaluations)
