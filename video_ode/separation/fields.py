"""Residual function of feature maps, for the dynamics of `MapEncoder`'s codes."""

from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.typing import Sample
from video_ode.frames.base import activation


class MapField(nn.Module):
    """Three 3x3 convolutions with batch norm and leaky ReLU (Donà et al. 2021, on SST).

    Args:
        size: Number of channels of the state.
        context_size: Number of channels of the context; must be 0.
        width: Number of hidden channels.
        gain: Gain of the orthogonal initialization.
    """

    def __init__(
        self, size: int, context_size: int = 0, width: int = 512, gain: float = 0.71
    ) -> None:
        super().__init__()
        check_counts(1, size=size, width=width)
        if context_size:
            raise InputError("MapField takes no context; use it in a Separation")
        convs = [nn.Conv2d(a, b, 3, padding=1) for a, b in [(size, width), (width, width)]]
        convs.append(nn.Conv2d(width, size, 3, padding=1))
        for conv in convs:
            nn.init.orthogonal_(conv.weight, gain)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        layers: list[nn.Module] = []
        for conv in convs:
            layers += [conv, nn.BatchNorm2d(conv.out_channels), activation()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, t: Tensor, z: Sample, context: Tensor | None = None) -> Sample:
        return self.net(z)
