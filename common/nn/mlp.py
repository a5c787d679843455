"""Multilayer perceptron, and the vector field made of it."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from common.errors import check_counts
from common.typing import Sample

Activation = Literal["relu", "leaky_relu", "silu", "softplus", "tanh"]
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.2),
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


class MLP(nn.Sequential):
    """Multilayer perceptron: linear layers with a nonlinearity between them.

    Args:
        n_in: Number of inputs.
        width: Number of units of each hidden layer.
        n_out: Number of outputs.
        layers: Number of linear layers.
        activation: Nonlinearity between the layers.
        last_activation: Nonlinearity after the last layer. None: no nonlinearity there.

    Raises:
        InputError: Numbers below their minimum.
    """

    def __init__(
        self,
        n_in: int,
        width: int,
        n_out: int,
        layers: int,
        activation: Activation = "relu",
        last_activation: Activation | None = None,
    ) -> None:
        check_counts(1, width=width, n_out=n_out, layers=layers)
        sizes = [n_in, *[width] * (layers - 1), n_out]
        parts: list[nn.Module] = []
        for i in range(layers):
            parts += [ACTIVATIONS[activation]()] if i else []
            parts.append(nn.Linear(sizes[i], sizes[i + 1]))
        parts += [ACTIVATIONS[last_activation]()] if last_activation else []
        super().__init__(*parts)


class MLPField(nn.Module):
    """Vector field `f(t, z, context)` by a multilayer perceptron.

    Args:
        size: Length of the state `z`.
        context_size: Length of the context.
        width: Number of units of each hidden layer.
        layers: Number of linear layers.
        activation: Nonlinearity between the layers.
        gain: Gain of the initial weights, beside zero biases (SRVP's `res_gain`). None: PyTorch's
            default initialization.
        init: Initial weights that have a gain: orthogonal, or Xavier's (Glorot's) uniform ones.
        last_gain: Factor on the initial weights of the last layer; with a small factor the state
            hardly moves at the start of training.
        time_dependent: Give the time to the network as an input. False (an autonomous field) is
            better if predictions go beyond the times of the training.
        last_activation: Nonlinearity after the last layer. None: no nonlinearity there.
    """

    def __init__(
        self,
        size: int,
        context_size: int = 0,
        width: int = 128,
        layers: int = 3,
        activation: Activation = "relu",
        gain: float | None = None,
        init: Literal["orthogonal", "xavier"] = "orthogonal",
        last_gain: float = 1.0,
        time_dependent: bool = False,
        last_activation: Activation | None = None,
    ) -> None:
        super().__init__()
        n_in = size + context_size + time_dependent
        self.net = MLP(n_in, width, size, layers, activation, last_activation)
        self.time_dependent = time_dependent
        linear = [layer for layer in self.net if isinstance(layer, nn.Linear)]
        if gain is not None:
            for layer in linear:
                draw = nn.init.orthogonal_ if init == "orthogonal" else nn.init.xavier_uniform_
                draw(layer.weight, gain)
                nn.init.zeros_(layer.bias)
        linear[-1].weight.data *= last_gain

    def forward(self, t: Tensor, z: Sample, context: Tensor | None = None) -> Sample:
        parts = [z] if context is None else [z, context]
        if self.time_dependent:
            parts.append(t.to(z).expand(len(z), 1))
        return self.net(torch.cat(parts, -1))
