"""Distributions of known total correlation, to compare estimates with.

`c` is the number of channels, and `tc` a total correlation in nats.
"""

import abc
import math

import torch
from torch import Tensor

from common.errors import InputError


class Distribution(abc.ABC):
    """Distribution of channels with known total correlation.

    Args:
        name: Name in tables.
        truth: Total correlation of the channels, in nats.
    """

    def __init__(self, name: str, truth: float) -> None:
        self.name, self.truth = name, truth

    @abc.abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Samples `[n c]`, or `[n c d]` of channels that are vectors."""


class Independent(Distribution):
    """Independent standard normal channels."""

    def __init__(self, c: int) -> None:
        super().__init__(f"independent, {c} channels", 0.0)
        self.c = c

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.c, generator=generator)


class Equicorrelated(Distribution):
    """Standard normal channels with the same correlation ρ > 0 of any two.

    `TC = -½ [log(1 + (c - 1) ρ) + (c - 1) log(1 - ρ)]`, solved for ρ.
    """

    def __init__(self, c: int, tc: float) -> None:
        super().__init__(f"equicorrelated, {c} channels", tc)
        if c < 2 or tc <= 0:
            raise InputError(f"got {c} channels that share {tc:g} nats; give 2 or more, and > 0")
        self.c, self.rho = c, _equal_correlation(c, tc)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        common = torch.randn(n, 1, generator=generator)
        own = torch.randn(n, self.c, generator=generator)
        return math.sqrt(self.rho) * common + math.sqrt(1 - self.rho) * own


class Pairs(Distribution):
    """Standard normal channels in independent pairs of correlation ρ > 0.

    `TC = -¼ c log(1 - ρ²)`, solved for ρ; c is even.
    """

    def __init__(self, c: int, tc: float) -> None:
        super().__init__(f"pairs, {c} channels", tc)
        if c < 2 or c % 2 or tc <= 0:
            raise InputError(f"got {c} channels that share {tc:g} nats; give an even c, and > 0")
        self.c, self.rho = c, math.sqrt(-math.expm1(-4 * tc / c))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        first, own = torch.randn(2, n, self.c // 2, generator=generator)
        second = self.rho * first + math.sqrt(1 - self.rho**2) * own
        return torch.stack([first, second], 2).flatten(1)


class StudentT(Distribution):
    """Student's t with ν degrees of freedom, and the same correlation ρ ≥ 0 of any two channels.

    Tails depend on one another even where ρ is 0. `TC = c h(1) - h(c)` with the entropies h of c
    channels (Kotz and Nadarajah 2004).
    """

    def __init__(self, nu: int, c: int = 8, rho: float = 0.5) -> None:
        correlations = math.log1p((c - 1) * rho) + (c - 1) * math.log1p(-rho)
        joint = _student_entropy(nu, c) + 0.5 * correlations
        truth = c * _student_entropy(nu, 1) - joint
        super().__init__(f"Student-t, ν = {nu}, ρ = {rho:g}, {c} channels", truth)
        self.nu, self.c, self.rho = nu, c, rho

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        common = torch.randn(n, 1, generator=generator)
        own = torch.randn(n, self.c, generator=generator)
        z = math.sqrt(self.rho) * common + math.sqrt(1 - self.rho) * own
        return (
            z / torch.randn(n, self.nu, generator=generator).square().mean(1, keepdim=True).sqrt()
        )


class RareBits(Distribution):
    """Bits of 0 or 1 that are rarely 1: all more often while a hidden bit is 1.

    The hidden bit is 1 with probability 0.05; each channel is then 1 with probability 0.7, and
    otherwise with probability 0.02. `TC = c H(x_i) - H(x)`, with x summed over the number of ones.
    """

    hidden, often, seldom = 0.05, 0.7, 0.02

    def __init__(self, c: int = 8) -> None:
        one = self.hidden * self.often + (1 - self.hidden) * self.seldom
        truth = -c * (one * math.log(one) + (1 - one) * math.log1p(-one))
        for k in range(c + 1):
            p = sum(
                share * q**k * (1 - q) ** (c - k)
                for share, q in ((self.hidden, self.often), (1 - self.hidden, self.seldom))
            )
            truth += math.comb(c, k) * p * math.log(p)
        super().__init__(f"rare bits, {c} channels", truth)
        self.c = c

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        hidden = torch.rand(n, 1, generator=generator) < self.hidden
        draws = torch.rand(n, self.c, generator=generator)
        return (draws < torch.where(hidden, self.often, self.seldom)).float()


class Sparse(Distribution):
    """Rare bits, each 1 replaced by a positive number of its own, as after a ReLU."""

    def __init__(self, c: int = 8) -> None:
        self.bits = RareBits(c)
        super().__init__(f"sparse, {c} channels", self.bits.truth)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        bits = self.bits.draw(n, generator)
        return bits * torch.rand(bits.shape, generator=generator)


class Repeated(Distribution):
    """Samples of which each comes five times, as where a set is made larger by copies."""

    def __init__(self, of: Distribution) -> None:
        super().__init__(f"{of.name}, each five times", of.truth)
        self.of = of

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self.of.draw(-(-n // 5), generator).repeat(5, 1)[:n]


class Cubed(Distribution):
    """Cubes of channels of variance 1, divided by √15, the deviation of a normal channel's cube.

    An invertible map of each channel leaves total correlation as it is.
    """

    def __init__(self, of: Distribution) -> None:
        super().__init__(f"{of.name}, cubed", of.truth)
        self.of = of

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self.of.draw(n, generator) ** 3 / math.sqrt(15)


class ExclusiveOr(Distribution):
    """Two fair bits and their exclusive or, as -1 and 1, each with normal noise.

    Any two of the channels are independent; the total correlation of all three is log 2. With
    noise of deviation 0.1 the bits can be read off in all but one of 10²³ samples, so that the
    noise takes nothing away.
    """

    deviation = 0.1

    def __init__(self) -> None:
        super().__init__("exclusive or", math.log(2))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        bits = torch.randint(2, (n, 2), generator=generator)
        bits = torch.cat([bits, bits.sum(1, keepdim=True) % 2], 1)
        noise = torch.randn(n, 3, generator=generator)
        return 2.0 * bits - 1 + self.deviation * noise


class RotatedUniforms(Distribution):
    """Two independent uniform channels of variance 1, rotated by 45 degrees.

    The channels are uncorrelated. Each has a triangular density, so
    `TC = 2 h(triangle) - h(square) = 1 - log 2`.
    """

    def __init__(self) -> None:
        super().__init__("rotated uniforms", 1 - math.log(2))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        u, v = math.sqrt(3) * (2 * torch.rand(2, n, generator=generator) - 1)
        return torch.stack([u + v, u - v], 1) / math.sqrt(2)


class GaussianVectors(Distribution):
    """Dependent normal vectors, by default 4 of length d = 20 (Bai et al. 2023, section 5.1).

    Entry k of each vector is equicorrelated with entry k of the other vectors and independent of
    all else, so `TC` is d times that of `Equicorrelated(c)`, a closed form. The authors' own
    covariance may be another one; estimates of the same truth can be compared nevertheless.
    """

    def __init__(self, tc: float, c: int = 4, d: int = 20) -> None:
        super().__init__(f"{c} normal vectors of {d}", tc)
        self.d, self.each = d, Equicorrelated(c, tc / d)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self.each.draw(n * self.d, generator).unflatten(0, (n, self.d)).mT


class Apart(Distribution):
    """Product of a distribution's marginals: each channel from samples of its own."""

    def __init__(self, of: Distribution) -> None:
        super().__init__(f"{of.name}, apart", 0.0)
        self.of = of

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        c = self.of.draw(1, generator).shape[1]
        return torch.stack([self.of.draw(n, generator)[:, i] for i in range(c)], 1)


def is_gaussian(of: Distribution) -> bool:
    """True for normal channels, whose log ratio the default critic contains in closed form."""
    return isinstance(of, Independent | Equicorrelated | Pairs | GaussianVectors)


def _equal_correlation(c: int, tc: float) -> float:
    """Correlation of `Equicorrelated`, by bisection in `log(1 - ρ)`."""
    low, high = -2 * tc / (c - 1) - math.log(c), 0.0  # log(1 - ρ) for too much and too little
    for _ in range(100):
        middle = (low + high) / 2
        rho = -math.expm1(middle)
        if -0.5 * (math.log1p((c - 1) * rho) + (c - 1) * middle) > tc:
            low = middle
        else:
            high = middle
    return -math.expm1(high)


def _student_entropy(nu: int, c: int) -> float:
    """Entropy of c uncorrelated Student-t channels, in nats."""
    half, more = torch.tensor([nu / 2, (nu + c) / 2], dtype=torch.float64)
    scale = torch.lgamma(half) - torch.lgamma(more) + c / 2 * math.log(nu * math.pi)
    return float(scale + more * (torch.digamma(more) - torch.digamma(half)))
