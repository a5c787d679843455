"""From bytes to unbounded real numbers, and from log-densities to bits per dimension."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from common.flows.base import Bijection
from common.typing import Image, PerSample, Sample


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


class Logit(Bijection):
    """`x = σ⁻¹(λ + (1 - 2λ) u)`: the unit interval to (almost) all real numbers.

    The inverse and the ladj are Predoc III, eq. 6.11-6.13; the report's `z` is `256 u`.

    Args:
        alpha: The margin λ. The report doesn't state it; RNODE has 0.05 for colour images, 1e-5
            for MNIST.
    """

    def __init__(self, alpha: float = 0.05) -> None:
        super().__init__()
        if not 0 < alpha < 0.5:
            raise ValueError(f"alpha is {alpha}; the logit's margin must lie in (0, 0.5)")
        self.alpha = alpha

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
