"""Continuous normalizing flow: an ODE, solved together with the change of the log-density."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.flows.base import Bijection
from common.nn.fields import as_field
from common.ode.divergence import Divergence, Hutchinson
from common.ode.evaluations import Evaluations, State
from common.ode.regularize import Regularizer
from common.ode.solve import Solver
from common.typing import PerSample, Sample


class Transport(NamedTuple):
    """Result of moving a batch along a flow, with the integrals over the flow's time.

    Attributes:
        z: Batch at the end time, `[b ...]`.
        ladj: Log-determinant of the Jacobian, `[b]`.
        penalties: Integral of each regulariser, `[b]` each, without its weight.
    """

    z: Sample
    ladj: PerSample
    penalties: tuple[PerSample, ...]


class CNF(Bijection):
    """Continuous normalizing flow from `x = z(0)` to `z(1)` along `dz/dt = f(t, z, context)`.

    `ladj = ∫₀¹ tr(∂f/∂z) dt` (Predoc III, eq. 3.9-3.10). A sample `x, ladj = cnf.inverse(z)` of
    noise `z ~ N(0, I)` has the log-density `normal_log_prob(z) - ladj`.

    Args:
        field: Vector field, the module `f(t, z, context)`; a module of `z` alone, such as an
            `nn.Sequential`, or of `(t, z)` is a field without context (see `ModuleField`).
        solver: Solver of the ODE, for calls that give no other one.
        divergence: Exact or estimated trace. None: Hutchinson's estimate in forward mode.
        compile: Compile the field, with and without its trace (not the solve, whose control flow
            depends on the data); useful for long training.

    Attributes:
        evaluations: Number of function evaluations of the last transport.
    """

    def __init__(
        self,
        field: nn.Module,
        solver: Solver,
        divergence: Divergence | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.field, self.solver = as_field(field), solver
        self.divergence = divergence or Hutchinson()
        if compile:
            # The fields of all scales and blocks share one cache, with one entry for each shape.
            limit = torch._dynamo.config.recompile_limit
            torch._dynamo.config.recompile_limit = max(limit, 64)
        # Functions of the field, not the field itself: a copy of this module has its own field.
        self._linearize = torch.compile(self.divergence) if compile else self.divergence
        self._call = torch.compile(_call) if compile else _call
        self.evaluations = Evaluations()

    def forward(self, x: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        return self.transport(x, context, 0.0, 1.0)[:2]

    def inverse(self, z: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        return self.transport(z, context, 1.0, 0.0)[:2]

    def transport(
        self,
        x: Sample,
        context: Tensor | None,
        t0: float,
        t1: float,
        solver: Solver | None = None,
        regularizers: Sequence[Regularizer] = (),
    ) -> Transport:
        """Moves a batch from `t0` to `t1`, and integrates the trace and the regularisers.

        Args:
            x: Batch at `t0`, `[b ...]`.
            context: Context of the field. None: a field without context.
            t0: Start time.
            t1: End time.
            solver: None: the flow's own solver.
            regularizers: Regularisers to integrate.
        """
        solver = solver or self.solver
        noise = self.divergence.draw(x)

        def augmented(t: Tensor, state: State) -> State:
            linearized = self._linearize(self.field, t, state[0], context, noise)
            return (
                linearized.dz,
                linearized.trace,
                *(r.rate(self.field, t, state[0], context, linearized) for r in regularizers),
            )

        zeros = x.new_zeros(len(x))
        start = (x, zeros, *(zeros for _ in regularizers))
        solution = solver.end(
            augmented, start, t0, t1, self._params(context), uncontrolled=len(regularizers)
        )
        self.evaluations = solution.evaluations
        z, ladj, *penalties = solution.state
        return Transport(z, ladj, tuple(penalties))

    def flow(
        self, x: Sample, context: Tensor | None, t0: float, t1: float, solver: Solver | None = None
    ) -> Sample:
        """Batch moved from `t0` to `t1`, without the cost of the trace: for sampling.

        The arguments are those of `transport`.
        """
        solution = (solver or self.solver).end(
            lambda t, state: (self.velocity(t, state[0], context),),
            (x,),
            t0,
            t1,
            self._params(context),
        )
        return solution.state[0]

    def velocity(self, t: Tensor, z: Sample, context: Tensor | None) -> Sample:
        """Value of the field.

        Args:
            t: Time, a scalar or one for each sample, `[b]`.
            z: State, `[b ...]`.
            context: Context of the field. None: a field without context.
        """
        return self._call(self.field, t, z, context)

    def _params(self, context: Tensor | None) -> list[Tensor]:
        # The adjoint knows these tensors only: without the context here, the context would get no
        # gradient.
        return [*self.field.parameters(), *([] if context is None else [context])]


def _call(field: nn.Module, t: Tensor, z: Sample, context: Tensor | None) -> Sample:
    dz: Sample = field(t, z, context)
    return dz
