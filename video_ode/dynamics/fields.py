"""Vector field of feature maps."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from common.errors import check_counts
from common.nn.mlp import ACTIVATIONS, Activation
from common.typing import Sample
from video_ode.dynamics.shapes import spread


class ConvField(nn.Module):
    """Vector field `f(z, context)` of feature maps by 3 × 3 convolutions; it ignores the time.

    Args:
        size: Number of channels of the state.
        context_size: Number of channels of the context, a feature map or a vector.
        width: Number of hidden channels.
        layers: Number of convolutions.
        activation: Nonlinearity between the convolutions.
        last_activation: Nonlinearity after the last one. None: no nonlinearity there.

    Raises:
        InputError: Numbers below their minimum.
    """

    def __init__(
        self,
        size: int,
        context_size: int = 0,
        width: int = 128,
        layers: int = 2,
        activation: Activation = "leaky_relu",
        last_activation: Activation | None = None,
    ) -> None:
        super().__init__()
        check_counts(1, size=size, width=width, layers=layers)
        sizes = [size + context_size, *[width] * (layers - 1), size]
        parts: list[nn.Module] = []
        for before, after in pairwise(sizes):
            parts += [ACTIVATIONS[activation]()] if parts else []
            parts.append(nn.Conv2d(before, after, 3, padding=1))
        parts += [ACTIVATIONS[last_activation]()] if last_activation else []
        self.net = nn.Sequential(*parts)

    def forward(self, t: Tensor, z: Sample, context: Tensor | None = None) -> Sample:
        return self.net(z if context is None else torch.cat([z, spread(context, z)], 1))
