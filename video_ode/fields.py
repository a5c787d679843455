"""Networks of linear layers, and vector fields made of them."""

from typing import Literal

import torch
from torch import Tensor, nn

from common.typing import Sample

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "softplus": nn.Softplus, "tanh": nn.Tanh}
Activation = Literal["relu", "silu", "softplus", "tanh"]


class MLP(nn.Sequential):
    """Linear layers with a nonlinearity between them.

    Args:
        n_in: Inputs.
        width: Units of each hidden layer.
        n_out: Outputs.
        layers: Linear layers.
        activation: Between them.
    """

    def __init__(
        self, n_in: int, width: int, n_out: int, layers: int, activation: Activation = "relu"
    ) -> None:
        sizes = [n_in, *[width] * (layers - 1), n_out]
        parts: list[nn.Module] = []
        for i in range(layers):
            parts += [ACTIVATIONS[activation]()] if i else []
            parts.append(nn.Linear(sizes[i], sizes[i + 1]))
        super().__init__(*parts)


class MLPField(nn.Module):
    """A vector field `f(t, z, context)` by linear layers.

    Args:
        size: Length of `z`.
        context_size: Length of the context.
        width: Units of each hidden layer.
        layers: Linear layers.
        activation: Between them.
        gain: Orthogonal initialization with this gain (SRVP's `res_gain`) and zero biases;
            PyTorch's own if none.
        last: Factor on the initial weights of the last layer: if small, the state hardly moves at
            first.
        clock: Show it the time; without, the dynamics are the same at all times, as they should
            be where it must go on beyond the frames that it was trained on.
    """

    def __init__(
        self,
        size: int,
        context_size: int = 0,
        width: int = 128,
        layers: int = 3,
        activation: Activation = "relu",
        gain: float | None = None,
        last: float = 1.0,
        clock: bool = False,
    ) -> None:
        super().__init__()
        self.net = MLP(size + context_size + clock, width, size, layers, activation)
        self.clock = clock
        if gain is not None:
            for layer in self.net:
                if isinstance(layer, nn.Linear):
                    nn.init.orthogonal_(layer.weight, gain)
                    nn.init.zeros_(layer.bias)
        final = self.net[-1]
        assert isinstance(final, nn.Linear)
        final.weight.data *= last

    def forward(self, t: Tensor, z: Sample, context: Tensor | None = None) -> Sample:
        parts = [z] if context is None else [z, context]
        if self.clock:
            parts.append(t.to(z).expand(len(z), 1))
        return self.net(torch.cat(parts, -1))
