"""Accuracy of the solver: training finds its errors, so they are measured while it goes on."""

import math
from collections.abc import Callable

from pytorch_lightning.utilities import rank_zero_warn

from common.ode.evaluations import SolveError
from common.ode.solve import Solver

LIMIT = 0.01  # largest error of a solver, in bits per dimension
MOST_REFINEMENTS = 6


class TrainingSolver:
    """Solver of a training, which becomes finer where its error is above `LIMIT`.

    Args:
        solver: Solver of the beginning.

    Attributes:
        refinements: How often it has become finer since then.
        error: Error in bits per dimension, as measured last. NaN: not yet measured.
    """

    def __init__(self, solver: Solver) -> None:
        self.first, self.refinements, self.error = solver, 0, math.nan

    @property
    def solver(self) -> Solver:
        """Solver to train with now."""
        solver = self.first
        for _ in range(self.refinements):
            solver = solver.finer()
        return solver

    def adjust(self, measure: Callable[[Solver], float]) -> None:
        """Makes the solver finer until its error is small enough, or coarser if it is tiny.

        Args:
            measure: Error of a solver, in bits per dimension.

        Raises:
            SolveError: The error of the finest solver is above `LIMIT` too.
        """
        self.error = measure(self.solver)
        while not self.error <= LIMIT and self.refinements < MOST_REFINEMENTS:
            self.refinements += 1
            rank_zero_warn(
                f"the error of the solver is {self.error:.2g} bits/dim, more than {LIMIT}: "
                f"training goes on with {self.solver}"
            )
            self.error = measure(self.solver)
        if not self.error <= LIMIT:
            raise SolveError(
                f"the error of the solver is {self.error:.2g} bits/dim even with {self.solver}: "
                "the field is too stiff; lower the learning rate, or raise the weights of the "
                "regularisers"
            )
        if self.refinements and self.error < LIMIT / 100:
            self.refinements -= 1
