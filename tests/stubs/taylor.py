"""A Taylor penalty, written as a user would (Kelly et al. 2020): the flow's second derivative."""

import torch
from torch import Tensor, nn

from common.ode.divergence import Linearized, jvp
from common.ode.regularize import Regularizer


class TaylorPenalty(Regularizer):
    """`∫ ‖d²z/dt²‖² dt`, with `d²z/dt² = ∂f/∂t + (∂f/∂z) f` along the path."""

    name = "taylor"

    def rate(
        self,
        field: nn.Module,
        t: Tensor,
        z: Tensor,
        context: Tensor | None,
        linearized: Linearized,
    ) -> Tensor:
        _, along_z = jvp(field, t, z, linearized.dz, context)
        step = torch.full_like(t, 1e-3)
        along_t = (field(t + step, z, context) - linearized.dz) / step
        squares = (along_t + along_z).square().flatten(1)
        return squares.mean(1) if self.per_dimension else squares.sum(1)
