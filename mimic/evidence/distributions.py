"""Distributions whose total correlation is known, in nats, to hold estimates against."""

import abc
import math

import torch
from torch import Tensor

from common.errors import InputError


class Distribution(abc.ABC):
    """Samples of channels that share a known number of nats.

    Attributes:
        name: For tables.
        truth: Total correlation of the channels, nats.
    """

    name: str
    truth: float

    @abc.abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Samples `[n c]`, or `[n c d]` of channels that are vectors."""


class Independent(Distribution):
    """Standard normal channels that share nothing.

    Args:
        c: Channels.
    """

    def __init__(self, c: int) -> None:
        self.c, self.truth, self.name = c, 0.0, f"independent, {c} channels"

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.c, generator=generator)


class Equicorrelated(Distribution):
    """Standard normal channels, any two of the same correlation ρ > 0.

    `TC = -½ [log(1 + (c - 1) ρ) + (c - 1) log(1 - ρ)]`, solved for ρ.

    Args:
        c: Channels.
        tc: Total correlation, nats.
    """

    def __init__(self, c: int, tc: float) -> None:
        if c < 2 or tc <= 0:
            raise InputError(f"got {c} channels that share {tc:g} nats; give 2 or more, and > 0")
        self.c, self.truth, self.name = c, tc, f"equicorrelated, {c} channels"
        self.rho = _equal_correlation(c, tc)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        common = torch.randn(n, 1, generator=generator)
        own = torch.randn(n, self.c, generator=generator)
        return math.sqrt(self.rho) * common + math.sqrt(1 - self.rho) * own


class Pairs(Distribution):
    """Standard normal channels in independent pairs, within each the same correlation ρ > 0.

    `TC = -¼ c log(1 - ρ²)`, solved for ρ.

    Args:
        c: Channels, an even number.
        tc: Total correlation, nats.
    """

    def __init__(self, c: int, tc: float) -> None:
        if c < 2 or c % 2 or tc <= 0:
            raise InputError(
                f"got {c} channels that share {tc:g} nats; give an even number, and more than 0"
            )
        self.c, self.truth, self.name = c, tc, f"pairs, {c} channels"
        self.rho = math.sqrt(-math.expm1(-4 * tc / c))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        first, own = torch.randn(2, n, self.c // 2, generator=generator)
        second = self.rho * first + math.sqrt(1 - self.rho**2) * own
        return torch.stack([first, second], 2).flatten(1)


class Cubed(Distribution):
    """The cubes of channels of variance 1, over √15, the cube's deviation if they are normal.

    An invertible map of each channel leaves what they share as it is.

    Args:
        of: Of these channels.
    """

    def __init__(self, of: Distribution) -> None:
        self.of, self.truth, self.name = of, of.truth, f"{of.name}, cubed"

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self.of.draw(n, generator) ** 3 / math.sqrt(15)


class ExclusiveOr(Distribution):
    """Two fair bits and their exclusive or, as -1 and 1, each with normal noise.

    Every two of the channels are independent; all three share log 2. With noise of deviation 0.1
    the bits can be read off but for one in 10²³ samples, so that the noise takes nothing away.
    """

    def __init__(self) -> None:
        self.truth, self.name, self.deviation = math.log(2), "exclusive or", 0.1

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        bits = torch.randint(2, (n, 2), generator=generator)
        bits = torch.cat([bits, bits.sum(1, keepdim=True) % 2], 1)
        noise = torch.randn(n, 3, generator=generator)
        return 2.0 * bits - 1 + self.deviation * noise


class RotatedUniforms(Distribution):
    """Two independent uniform channels of variance 1, rotated by 45 degrees.

    They are uncorrelated. Each has a triangular density, so `TC = 2 h(triangle) - h(square)
    = 1 - log 2`.
    """

    def __init__(self) -> None:
        self.truth, self.name = 1 - math.log(2), "rotated uniforms"

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        u, v = math.sqrt(3) * (2 * torch.rand(2, n, generator=generator) - 1)
        return torch.stack([u + v, u - v], 1) / math.sqrt(2)


class GaussianVectors(Distribution):
    """Normal vectors that share what Bai et al. (2023, section 5.1) ask: by default 4 of 20.

    Number k of each vector is equicorrelated with number k of the others and independent of all
    else, so `TC` is d times that of `Equicorrelated(c)`, a closed form. The authors' own
    covariance may be another: it isn't needed to compare estimates of the same truth.

    Args:
        tc: Total correlation, nats.
        c: Vectors.
        d: Integers of each.
    """

    def __init__(self, tc: float, c: int = 4, d: int = 20) -> None:
        self.truth, self.name, self.d = tc, f"{c} normal vectors of {d}", d
        self.each = Equicorrelated(c, tc / d)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self.each.draw(n * self.d, generator).unflatten(0, (n, self.d)).mT


class Apart(Distribution):
    """The product of a distribution's marginals: each channel from a draw of its own.

    Args:
        of: The distribution.
    """

    def __init__(self, of: Distribution) -> None:
        self.of, self.truth, self.name = of, 0.0, f"{of.name}, apart"

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        c = self.of.draw(1, generator).shape[1]
        return torch.stack([self.of.draw(n, generator)[:, i] for i in range(c)], 1)


def _equal_correlation(c: int, tc: float) -> float:
    """The correlation of `Equicorrelated`, by bisection in `log(1 - ρ)`."""
    low, high = -2 * tc / (c - 1) - math.log(c), 0.0  # log(1 - ρ) of too much, of too little
    for _ in range(100):
        middle = (low + high) / 2
        rho = -math.expm1(middle)
        if -0.5 * (math.log1p((c - 1) * rho) + (c - 1) * middle) > tc:
            low = middle
        else:
            high = middle
    return -math.expm1(high)
