"""Regularisers of a flow: integrals over time that the solver computes as extra states."""

import abc

from torch import Tensor, nn

from common.errors import check_counts
from common.ode.divergence import Linearized
from common.typing import PerSample, Sample


class Regularizer(abc.ABC):
    """Regulariser of a flow: the integral of `rate` over time, added to the training loss.

    Args:
        weight: Weight of the integral in the loss, which is in bits per dimension.
        per_dimension: Take the mean over dimensions, as the code of RNODE does. False: the sum, as
            in the report.

    Raises:
        InputError: The weight is negative.
    """

    def __init__(self, weight: float = 0.01, per_dimension: bool = True) -> None:
        check_counts(0, weight=weight)
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
            field: Vector field `f(t, z, context)`, for regularisers that need more than its value,
                such as higher derivatives.
            t: Time, a scalar.
            z: State `[b ...]`.
            context: Context of the field. None: a field without context.
            linearized: Value of the field at `(t, z, context)`, with trace and norm of its
                Jacobian.

        Returns:
            Integrand of each sample, `[b]`.
        """


class KineticEnergy(Regularizer):
    """Kinetic energy `∫ ‖f‖² dt` (Predoc III, eq. 6.17).

    With `per_dimension` it is `∫ ½ mean f² dt`, as in RNODE (Finlay et al. 2020).
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

    With `per_dimension` it is divided by the number of dimensions, as in RNODE (Finlay et al.
    2020). In forward mode the estimate is `‖∇f ε‖²`, which has the same expectation `‖∇f‖²`.
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
