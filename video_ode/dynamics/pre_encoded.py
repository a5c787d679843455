"""Latent dynamics whose first state is computed from a latent variable."""

from torch import Tensor

from common.nn.mlp import MLP, Activation
from common.typing import Sample, Times
from video_ode.dynamics.base import Dynamics, DynamicsFactory, Solved
from video_ode.dynamics.shapes import per_position


class PreEncoded(Dynamics):
    """Any dynamics behind a pre-encoder: a multilayer perceptron maps `z0` to the first state.

    The nonlinearity follows the last layer too. The pre-encoder has most of the weights of the
    published ODE generators: 100-512-512-512-100 in TGAN (`width: 512, layers: 4`), 16-64-16 in
    MoCoGAN (`width: 64, layers: 2`).

    Args:
        size: Length of the state (channels of a feature map, each position by itself).
        context_size: Length of the context, of the dynamics only.
        dynamics: From the lengths of state and context to the dynamics.
        width: Number of units of each hidden layer.
        layers: Number of linear layers.
        activation: Nonlinearity after each layer.

    Raises:
        InputError: Numbers below their minimum.
    """

    starts_at_z0 = False

    def __init__(
        self,
        size: int,
        context_size: int,
        dynamics: DynamicsFactory,
        width: int,
        layers: int,
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        self.encoder = MLP(size, width, size, layers, activation, last_activation=activation)
        self.dynamics = dynamics(size, context_size)

    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        return self.dynamics.solved(per_position(self.encoder, z0), times, context)
