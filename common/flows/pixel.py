"""Maps from bytes to real numbers (dequantization, logit), and bits per dimension."""

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
    """Dequantization: grey levels plus noise, scaled to `[0, 1)`, and the ladj of the scaling.

    With `noise ~ U[0, 1)`, `log P(x) ≥ E log p(x + noise)` (Theis et al. 2016, eq. 5).

    Args:
        levels: Grey levels in `[0, 2^bits - 1]`, bytes or averages of bytes.
        noise: Noise in `[0, 1)`, of the shape of `levels`; ½ everywhere for the midpoint
            convention.
        bits: Number of bits of a sub-pixel.
    """
    scale = 2**bits
    x = (levels + noise) / scale
    return x, x.new_full((len(x),), -x[0].numel() * math.log(scale))


def reduce_bits(pixels: Pixels, bits: int) -> Pixels:
    """Grey levels `0 … 2^bits - 1`: the upper bits of bytes."""
    return pixels >> (8 - bits)


def to_bytes(x: Image, bits: int = 8) -> Pixels:
    """Images in `[0, 1)` as bytes whose upper bits are the grey level, and whose others are 0."""
    levels = (x * 2**bits).floor().clamp(0, 2**bits - 1).to(torch.uint8)
    return levels << (8 - bits)


def bits_per_dim(log_prob: PerSample, dims: int) -> PerSample:
    """Bits per dimension `-log p / (dims · log 2)` of each image (Predoc III, eq. 6.8).

    Args:
        log_prob: Log-density of each image, in nats.
        dims: Number of dimensions (sub-pixels) of an image.
    """
    return -log_prob / (dims * math.log(2))


class PixelMap(Bijection):
    """Increasing map from the unit interval to the real numbers, applied to every sub-pixel.

    Args:
        bits: Number of bits of a sub-pixel; below 8, the upper bits of the bytes.

    Raises:
        InputError: `bits` is not between 1 and 8.
    """

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        if bits not in range(1, 9):
            raise InputError(f"got bits {bits}; give a whole number from 1 to 8")
        self.bits = bits

    @abc.abstractmethod
    def fit(self, pixels: Pixels) -> None:
        """Measures on training images the statistics that the map needs, if any."""


class Logit(PixelMap):
    """Logit map `x = σ⁻¹(λ + (1 - 2λ) u)` from the unit interval to (almost) all real numbers.

    The inverse and the ladj are those of Predoc III, eq. 6.11-6.13, so the bits per dimension are
    those of eq. 6.14-6.15; the report's `z` is `256 u` (for 8 bits).

    Args:
        alpha: Margin λ. The report doesn't state it; RNODE uses 0.05 for colour images and 1e-5
            for MNIST.
        bits: Number of bits of a sub-pixel; below 8, the upper bits of the bytes.

    Raises:
        InputError: The margin is outside `(0, 0.5)`, or `bits` not between 1 and 8.
    """

    def __init__(self, alpha: float = 0.05, bits: int = 8) -> None:
        super().__init__(bits)
        if not 0 < alpha < 0.5:
            raise InputError(f"got alpha {alpha}; the margin of the logit must lie in (0, 0.5)")
        self.alpha = alpha

    def fit(self, pixels: Pixels) -> None:
        """Does nothing: the map has no statistics."""

    def forward(self, x: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        logits = torch.logit(self.alpha + (1 - 2 * self.alpha) * x)
        return logits, -self._log_slope(logits)

    def inverse(self, z: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        x = (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)
        return x, self._log_slope(z)

    def _log_slope(self, z: Sample) -> PerSample:
        # log σ(z) + log(1 - σ(z)), without computing 1 - σ, which would lose precision.
        slope = -functional.softplus(z) - functional.softplus(-z)
        return slope.flatten(1).sum(1) - z[0].numel() * math.log(1 - 2 * self.alpha)


class InkMap(PixelMap):
    """Map for images of ink on an empty background, such as digits.

    The background (level 0) becomes one Gaussian, the ink (all other levels) becomes another. Let
    `v = 2^bits u`, Φ⁻¹ the probit function, and F the distribution function of ink in the training
    images. The map has two pieces:

    - Background, `v` in `[0, 1)`: `x = Φ⁻¹((1 - tail) v)`, a normal distribution without its upper
      end.
    - Ink, `v` from 1: `x = m + width Φ⁻¹(edge + (1 - edge) F(v))`, where m is chosen so that the
      two pieces meet.

    The noise of the dequantized background, which is most of such an image, is then normal
    already: it needs no bits, and no flow must learn its sharp edges. This is the marginal step
    of Gaussianization (Chen & Gopinath 2000), in two separate pieces.

    Args:
        tail: Share of the background's normal distribution that is cut off, at its upper end.
        edge: Share of the ink's normal distribution that is cut off, at its lower end.
        width: Standard deviation of the ink's normal distribution.
        bits: Number of bits of a sub-pixel; below 8, the upper bits of the bytes.

    Raises:
        InputError: A share outside `(0, 1)`, a width that isn't positive, or `bits` not between 1
            and 8.
    """

    share: Tensor

    def __init__(
        self, tail: float = 0.005, edge: float = 0.02, width: float = 1.3, bits: int = 8
    ) -> None:
        super().__init__(bits)
        if not (0 < tail < 1 and 0 < edge < 1 and width > 0):
            raise InputError(
                f"got tail {tail}, edge {edge} and width {width}; tail and edge must lie in "
                "(0, 1), and width must be positive"
            )
        self.tail, self.edge, self.width = tail, edge, width
        self.join = NORMAL.inv_cdf(1 - tail)
        self.middle = self.join - width * NORMAL.inv_cdf(edge)
        ink = 2**bits - 1  # number of levels
        self.register_buffer("share", torch.full((ink,), 1 / ink, dtype=torch.float64))

    @torch.no_grad()
    def fit(self, pixels: Pixels) -> None:
        """Measures how often each grey level above 0 occurs."""
        levels, ink = reduce_bits(pixels, self.bits), len(self.share)
        counts = torch.bincount(levels.long().flatten(), minlength=ink + 1)[1:].double()
        counts = counts + 1e-3 * counts.sum() / ink + 1  # so that no grey level is impossible
        self.share.copy_(counts / counts.sum())

    def forward(self, x: Sample, context: Tensor | None = None) -> tuple[Sample, PerSample]:
        # In double precision: the tails of Φ⁻¹ enlarge rounding errors.
        end = len(self.share) + 1
        v = (end * x.double()).clamp(1e-6, end - 1e-6)
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
        end = len(self.share) + 1
        v = v.clamp(0, end - 1e-6)
        return (v / end).to(z.dtype), -self._log_slope(v, wide, share).to(z.dtype)

    def _log_slope(self, v: Tensor, z: Tensor, share: Tensor) -> PerSample:
        """Log-slope `log dx/du`, `u = v / 2^bits`, summed over each sample."""
        ink = (z - self.middle) / self.width
        ground_slope = math.log(1 - self.tail) + 0.5 * z.square()
        ink_slope = (self.width * (1 - self.edge) * share).log() + 0.5 * ink.square()
        slope = torch.where(v < 1, ground_slope, ink_slope) + math.log(
            (len(self.share) + 1) * math.sqrt(2 * math.pi)
        )
        return slope.flatten(1).sum(1)
