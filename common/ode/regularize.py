"""Regularisers of a flow, integrated along its solve as extra states of the ODE."""

import abc

from torch import Tensor, nn

from common.ode.divergence import Linearized
from common.typing import PerSample, Sample


class Regularizer(abc.ABC):
    """Integral over the flow's time of a rate, added to the training loss.

    Args:
        weight: Weight of the integral in the loss, which is in bits per dimension.
        per_dimension: Take means over dimensions, as RNODE's code does, not the report's sums.
    """

    def __init__(self, weight: float = 0.01, per_dimension: bool = True) -> None:
        self.weight, self.per_dimension = weight, per_dimension

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Name of the integral in logs."""

    @abc.abstractmethod
    def rate(
        self,
        field: nn.Module,
        t: Tensor,
        z: Sample,
        context: Tensor | None,
        linearized: Linearized,
    ) -> PerSample:
        """Integrand at one evaluation of the field.

        Args:
            field: Vector field `f(t, z, context)`, for regularisers that need more of it than its
                value, such as higher derivatives.
            t: Time, a scalar.
            z: State `[b ...]`.
            context: Context of the field. None: the field has none.
            linearized: Value of the field there, with trace and norm of its Jacobian.
        """


class KineticEnergy(Regularizer):
    """Kinetic energy `∫ ‖f‖² dt` (Predoc III, eq. 6.17).

    Per dimension it is RNODE's `∫ ½ mean f² dt` (Finlay et al. 2020).
    """

    @property
    def name(self) -> str:
        return "kinetic_energy"

    def rate(
        self,
        field: nn.Module,
        t: Tensor,
        z: Sample,
        context: Tensor | None,
        linearized: Linearized,
    ) -> PerSample:
        squares = linearized.dz.square().flatten(1)
        return 0.5 * squares.mean(1) if self.per_dimension else squares.sum(1)


class JacobianNorm(Regularizer):
    """Squared Frobenius norm of the Jacobian, `∫ ‖εᵀ ∇f‖² dt` (Predoc III, eq. 6.18).

    Per dimension it is RNODE's mean (Finlay et al. 2020). In forward mode the estimate is
    `‖∇f ε‖²`, which has the same expectation `‖∇f‖²`.
    """

    @property
    def name(self) -> str:
        return "jacobian_norm"

    def rate(
        self,
        field: nn.Module,
        t: Tensor,
        z: Sample,
        context: Tensor | None,
        linearized: Linearized,
    ) -> PerSample:
        norm = linearized.frobenius
        return norm / linearized.dz[0].numel() if self.per_dimension else norm
