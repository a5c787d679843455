"""Latent dynamics by an ordinary differential equation of higher order."""

from typing import Literal

import torch
from torch import Tensor, nn

from common.errors import check_counts, check_words
from common.ode.solve import Solver
from common.typing import FieldFactory, Sample, Times
from video_ode.dynamics.base import Dynamics, Solved
from video_ode.dynamics.shapes import per_position, spread

Inputs = Literal["all", "highest"]


class HigherOrderODE(Dynamics):
    """ODE of order `n` in a position, with learned initial derivatives (Gordon & Parde 2020, 3.1).

    A linear layer for each of them computes the position and its derivatives at the first time
    from `z0`. The path is that of the position. It can reach all times, forward and backward.

    "Order" has two readings. With `inputs: all` it is that of the textbook,
    `z⁽ⁿ⁾ = f(z, z′, …, z⁽ⁿ⁻¹⁾)`. With `inputs: highest` it is `z⁽ⁿ⁾ = f(z⁽ⁿ⁻¹⁾)`, as in the code
    of the paper: a first-order ODE of the highest derivative, integrated `n - 1` times.

    Args:
        size: Length of the position (channels of a feature map).
        context_size: Length of the context.
        field: From the lengths of state and context to the vector field `f`. With `inputs: all`
            the derivatives, the first one first, are the beginning of its context.
        solver: Solver of the ODE.
        order: Order `n`, 2 or more.
        inputs: What `f` sees: the position and `all` its derivatives, or the `highest` one only.

    Raises:
        InputError: `order` below 2, or another word for `inputs`.
    """

    starts_at_z0 = False

    def __init__(
        self,
        size: int,
        context_size: int,
        field: FieldFactory,
        solver: Solver,
        order: int = 2,
        inputs: Inputs = "all",
    ) -> None:
        super().__init__()
        check_counts(2, order=order)
        check_words((inputs, Inputs))
        derivatives = (order - 1) * size if inputs == "all" else 0
        self.field = field(size, derivatives + context_size)
        self.initial = nn.ModuleList(nn.Linear(size, size) for _ in range(order))
        self.solver, self.inputs = solver, inputs

    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        known = [] if context is None else [spread(context, z0)]
        start = tuple(per_position(layer, z0) for layer in self.initial)

        def f(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            if self.inputs == "all":
                z, inputs = state[0], [*state[1:], *known]
            else:
                z, inputs = state[-1], known
            return (*state[1:], self.field(t, z, torch.cat(inputs, 1) if inputs else None))

        path, evaluations = self.solver.path(f, start, times, [*self.field.parameters(), *known])
        return Solved(path[0], evaluations)
