"""The contract of invertible maps with a tractable change of volume."""

import abc
import math
from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from common.typing import PerSample, Sample


class Bijection(nn.Module, abc.ABC):
    """An invertible map, possibly given a context, that knows its log-determinant."""

    @abc.abstractmethod
    def forward(self, x: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        """`z = g(x | context)` and `ladj = log |det ∂z/∂x|`."""

    @abc.abstractmethod
    def inverse(self, z: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        """`x = g⁻¹(z | context)` and `ladj = log |det ∂x/∂z|`."""


class Compose(Bijection):
    """Bijections one after the other, all given the same context."""

    def __init__(self, bijections: Iterable[Bijection]) -> None:
        super().__init__()
        self.bijections = nn.ModuleList(bijections)

    def __iter__(self) -> Iterator[Bijection]:
        return iter(self.bijections)  # type: ignore[arg-type]

    def forward(self, x: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        ladj = x.new_zeros(len(x))
        for bijection in self.bijections:
            x, step = bijection(x, context)
            ladj = ladj + step
        return x, ladj

    def inverse(self, z: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        ladj = z.new_zeros(len(z))
        for bijection in reversed(list(self)):
            z, step = bijection.inverse(z, context)
            ladj = ladj + step
        return z, ladj


def normal_log_prob(z: Sample) -> PerSample:
    """`log N(z; 0, I)` of whole samples, in nats."""
    return -0.5 * (z.square().flatten(1).sum(1) + z[0].numel() * math.log(2 * math.pi))
