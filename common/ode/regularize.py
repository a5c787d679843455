"""Regularisers that ride along a solve: their integrals are extra states of the ODE."""

import abc

from common.ode.divergence import Linearized
from common.typing import PerSample


class Regularizer(abc.ABC):
    """The integral over the flow's time of a rate known at every evaluation of the field.

    Args:
        weight: Of the integral in the loss, which is in bits per dimension.
        per_dimension: Means over dimensions, as RNODE's code has it, or the sums of the report.
    """

    def __init__(self, weight: float = 0.01, per_dimension: bool = True) -> None:
        self.weight, self.per_dimension = weight, per_dimension

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The integral's name in logs."""

    @abc.abstractmethod
    def rate(self, linearized: Linearized) -> PerSample:
        """The integrand."""


class KineticEnergy(Regularizer):
    """`∫ ‖f‖² dt` (Predoc III, eq. 6.17), or RNODE's `∫ ½ mean f² dt` (Finlay et al. 2020)."""

    @property
    def name(self) -> str:
        return "kinetic_energy"

    def rate(self, linearized: Linearized) -> PerSample:
        squares = linearized.dz.square().flatten(1)
        return 0.5 * squares.mean(1) if self.per_dimension else squares.sum(1)


class JacobianNorm(Regularizer):
    """`∫ ‖εᵀ ∇f‖² dt` (Predoc III, eq. 6.18), or its per-dimension mean (Finlay et al. 2020).

    In forward mode the estimate is `‖∇f ε‖²`, which has the same expectation `‖∇f‖²`.
    """

    @property
    def name(self) -> str:
        return "jacobian_norm"

    def rate(self, linearized: Linearized) -> PerSample:
        norm = linearized.frobenius
        return norm / linearized.dz[0].numel() if self.per_dimension else norm
