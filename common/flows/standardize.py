"""Standardization: shift and scale by the mean and standard deviation of data."""

import torch
from torch import Tensor

from common.flows.base import Bijection
from common.typing import Image, PerSample


class Standardize(Bijection):
    """Standardization `z = (x - mean) / std` of every channel; `fit` measures the statistics once.

    There are no statistics for each pixel: where images hardly vary, their rare deviations would
    become huge.

    Args:
        channels: Number of channels of the images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    @torch.no_grad()
    def fit(self, x: Image) -> None:
        """Measures mean and standard deviation of every channel; constant ones aren't scaled."""
        std, mean = torch.std_mean(x, dim=(0, 2, 3))
        self.mean.copy_(mean.view(-1, 1, 1))
        self.std.copy_(torch.where(std > 0, std, 1.0).view(-1, 1, 1))

    def forward(self, x: Image, context: Tensor | None = None) -> tuple[Image, PerSample]:
        return (x - self.mean) / self.std, -self._ladj(x)

    def inverse(self, z: Image, context: Tensor | None = None) -> tuple[Image, PerSample]:
        return z * self.std + self.mean, self._ladj(z)

    def _ladj(self, x: Image) -> PerSample:
        return (self.std.log().sum() * x[0, 0].numel()).expand(len(x))
