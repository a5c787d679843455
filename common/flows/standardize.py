"""Shift and scale by the statistics of data."""

import torch
from torch import Tensor

from common.flows.base import Bijection
from common.typing import PerSample, Sample


class Standardize(Bijection):
    """`z = (x - mean) / std`, elementwise, by statistics that `fit` measures once.

    Args:
        shape: Of one sample.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    @torch.no_grad()
    def fit(self, x: Sample, floor: float = 1e-2) -> None:
        """Takes mean and standard deviation of every element over the batch."""
        self.mean.copy_(x.mean(0))
        self.std.copy_(x.std(0).clamp_min(floor))

    def forward(self, x: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        return (x - self.mean) / self.std, -self._ladj(x)

    def inverse(self, z: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        return z * self.std + self.mean, self._ladj(z)

    def _ladj(self, x: Sample) -> PerSample:
        return self.std.log().sum().expand(len(x))
