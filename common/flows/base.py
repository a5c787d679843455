"""Bijections: invertible maps with a known log-determinant of the Jacobian."""

import abc
import math
from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from common.typing import PerSample, Sample


class Bijection(nn.Module, abc.ABC):
    """Invertible map with the log-determinant of its Jacobian; it may depend on a context."""

    @abc.abstractmethod
    def forward(self, x: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        """Output `z = g(x | context)` and `ladj = log |det ∂z/∂x|`, `[b]`."""

    @abc.abstractmethod
    def inverse(self, z: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        """Input `x = g⁻¹(z | context)` and `ladj = log |det ∂x/∂z|`, `[b]`."""


class Compose(Bijection):
    """Composition of bijections, applied in order, all with the same context."""

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
    """Log-density `log N(z; 0, I)` of each sample, in nats."""
    return -0.5 * (z.square().flatten(1).sum(1) + z[0].numel() * math.log(2 * math.pi))
