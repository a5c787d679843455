"""Latent dynamics by recurrent steps from frame to frame: the ablations of SRVP."""

from torch import Tensor, nn

from common.typing import FieldFactory, Sample
from video_ode.dynamics.base import Stepwise


class GRU(Stepwise):
    """Gated recurrent unit `y_{t+1} = GRUCell(z_{t+1}, y_t)`, an ablation of SRVP.

    Args:
        size: Length of the state, a vector.
        context_size: Length of the context.
    """

    def __init__(self, size: int, context_size: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(context_size, size)

    def step(self, z: Sample, context: Tensor | None) -> Sample:
        return self.cell(z.new_zeros(len(z), 0) if context is None else context, z)


class MLPDynamics(Stepwise):
    """Multilayer perceptron `y_{t+1} = f(y_t, z_{t+1})` without residual, an ablation of SRVP.

    Args:
        size: Length of the state.
        context_size: Length of the context.
        field: From the lengths of state and context to the network `f`.
    """

    def __init__(self, size: int, context_size: int, field: FieldFactory) -> None:
        super().__init__()
        self.field = field(size, context_size)

    def step(self, z: Sample, context: Tensor | None) -> Sample:
        return self.field(z.new_zeros(()), z, context)
