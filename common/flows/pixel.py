"""From bytes to unbounded real numbers, and from log-densities to bits per dimension."""

import abc
import math
from statistics import NormalDist

import torch
from torch import Tensor
from torch.nn import functional

from common.errors import InputError
from common.flows.base import Bijection
from common.typing import Image, PerSample, Pixels, Sample

NORMAL = NormalDist()


def dequantize(levels: Tensor, noise: Tensor, bits: int = 8) -> tuple[Image, PerSample]:
    """Grey levels plus noise, scaled into `[0, 1)`, with the ladj of the scaling.

    With `noise ~ U[0, 1)`, `log P(x) ≥ E log p(x + noise)` (Theis et al. 2016, eq. 5).

    Args:
        levels: Grey levels in `[0, 2^bits - 1]`, bytes or averages of bytes.
        noise: Of the same shape, in `[0, 1)`; all ½ for the midpoint convention.
        bits: Of a sub-pixel.
    """
    scale = 2**bits
    x = (levels + noise) / scale
    return x, x.new_full((len(x),), -x[0].numel() * math.log(scale))


def to_bytes(x: Image, bits: int = 8) -> Tensor:
    """The grey levels whose cells hold `x ∈ [0, 1)`: undoes `dequantize`."""
    return (x * 2**bits).floor().clamp(0, 2**bits - 1).to(torch.uint8)


def bits_per_dim(log_prob: PerSample, dims: int) -> PerSample:
    """Nats of an image to bits of a sub-pixel (Predoc III, eq. 6.8)."""
    return -log_prob / (dims * math.log(2))


class PixelMap(Bijection):
    """An increasing map of every sub-pixel from the unit interval to the real numbers."""

    @abc.abstractmethod
    def fit(self, pixels: Pixels) -> None:
        """Takes from training images what the map needs to know of them, if anything."""


class Logit(PixelMap):
    """`x = σ⁻¹(λ + (1 - 2λ) u)`: the unit interval to (almost) all real numbers.

    The inverse and the ladj are Predoc III, eq. 6.11-6.13, and so give the bits of eq. 6.14-6.15;
    the report's `z` is `256 u`.

    Args:
        alpha: The margin λ. The report doesn't state it; RNODE has 0.05 for colour images, 1e-5
            for MNIST.
    """

    def __init__(self, alpha: float = 0.05) -> None:
        super().__init__()
        if not 0 < alpha < 0.5:
            raise InputError(f"alpha is {alpha}; the logit's margin must lie in (0, 0.5)")
        self.alpha = alpha

    def fit(self, pixels: Pixels) -> None:
        """Nothing to learn."""

    def forward(self, x: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        logits = torch.logit(self.alpha + (1 - 2 * self.alpha) * x)
        return logits, -self._log_slope(logits)

    def inverse(self, z: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        x = (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)
        return x, self._log_slope(z)

    def _log_slope(self, z: Sample) -> PerSample:
        # log σ(z) + log(1 - σ(z)), without forming 1 - σ.
        slope = -functional.softplus(z) - functional.softplus(-z)
        return slope.flatten(1).sum(1) - z[0].numel() * math.log(1 - 2 * self.alpha)


class InkMap(PixelMap):
    """For ink on an empty ground: the byte 0 becomes one Gaussian, all ink another.

    With `v = 256 u` and probit Φ⁻¹: on `[0, 1)`, `x = Φ⁻¹((1 - tail) v)`, the upper end of a
    normal cut off; from 1, `x = m + width Φ⁻¹(edge + (1 - edge) F(v))`, F the training images'
    distribution function of ink and m such that the pieces meet. So the noise of dequantized
    ground, most of such an image, needs no bits, as no flow has to learn its sharp edges: the
    marginal step of Gaussianization (Chen & Gopinath 2000), in two pieces kept apart.

    Args:
        tail: Share of the first normal that is cut off.
        edge: Share of the second that is cut off, at its lower end.
        width: Standard deviation of the second.
    """

    share: Tensor

    def __init__(self, tail: float = 0.005, edge: float = 0.02, width: float = 1.3) -> None:
        super().__init__()
        if not (0 < tail < 1 and 0 < edge < 1 and width > 0):
            raise InputError("tail and edge must lie in (0, 1) and width above 0")
        self.tail, self.edge, self.width = tail, edge, width
        self.join = NORMAL.inv_cdf(1 - tail)
        self.middle = self.join - width * NORMAL.inv_cdf(edge)
        self.register_buffer("share", torch.full((255,), 1 / 255, dtype=torch.float64))

    @torch.no_grad()
    def fit(self, pixels: Pixels) -> None:
        """Counts the grey levels above 0."""
        counts = torch.bincount(pixels.long().flatten(), minlength=256)[1:].double()
        counts = counts + 1e-3 * counts.sum() / 255 + 1  # no grey level is impossible
        self.share.copy_(counts / counts.sum())

    def forward(self, x: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        # In double precision: the tails of Φ⁻¹ magnify rounding.
        v = (256 * x.double()).clamp(1e-6, 256 - 1e-6)
        ground = torch.special.ndtri((1 - self.tail) * v.clamp(max=1))
        level = (v.long() - 1).clamp_min(0)
        below = (self.share.cumsum(0) - self.share)[level]
        share = self.share[level]
        rank = self.edge + (1 - self.edge) * (below + share * (v - 1 - level))
        ink = torch.special.ndtri(rank.clamp(self.edge, 1 - 1e-9))
        z = torch.where(v < 1, ground, self.middle + self.width * ink)
        return z.to(x.dtype), self._log_slope(v, z, share).to(x.dtype)

    def inverse(self, z: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        wide = z.double()
        ground = torch.special.ndtr(wide) / (1 - self.tail)
        rank = (torch.special.ndtr((wide - self.middle) / self.width) - self.edge) / (
            1 - self.edge
        )
        below = self.share.cumsum(0) - self.share
        rank = rank.clamp(0, 1 - 1e-9)
        level = (torch.searchsorted(below, rank.contiguous(), right=True) - 1).clamp_min(0)
        share = self.share[level]
        v = torch.where(wide < self.join, ground, 1 + level + (rank - below[level]) / share)
        v = v.clamp(0, 256 - 1e-6)
        return (v / 256).to(z.dtype), -self._log_slope(v, wide, share).to(z.dtype)

    def _log_slope(self, v: Tensor, z: Tensor, share: Tensor) -> PerSample:
        """`log dx/du` of whole samples, `u = v / 256`."""
        ink = (z - self.middle) / self.width
        ground_slope = math.log(1 - self.tail) + 0.5 * z.square()
        ink_slope = (self.width * (1 - self.edge) * share).log() + 0.5 * ink.square()
        slope = torch.where(v < 1, ground_slope, ink_slope) + math.log(
            256 * math.sqrt(2 * math.pi)
        )
        return slope.flatten(1).sum(1)
