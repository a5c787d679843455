"""Terms of evidence lower bounds (ELBO): Gaussians, KL divergences, likelihoods of frames."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from common.typing import PerSample

PixelLikelihood = Literal["gaussian", "bernoulli"]


def gaussian(raw: Tensor) -> Normal:
    """Diagonal Gaussian from the outputs of a network.

    Args:
        raw: Outputs `[... 2d]`: the mean, then the raw scale. The standard deviation is
            `softplus(raw scale) + 1e-8`, as in SRVP.
    """
    # Half precision is not enough for the logarithms of a KL divergence.
    loc, scale = raw.to(torch.promote_types(raw.dtype, torch.float32)).chunk(2, -1)
    return Normal(loc, functional.softplus(scale) + 1e-8, validate_args=False)


def kl(q: Normal, p: Normal | None = None) -> PerSample:
    """KL divergence `KL(q ‖ p)` of each sample, in nats, summed over all axes but the first.

    Args:
        q: First distribution.
        p: Second distribution. None: `N(0, I)`.
    """
    if p is None:
        p = Normal(torch.zeros_like(q.loc), torch.ones_like(q.scale), validate_args=False)
    return kl_divergence(q, p).flatten(1).sum(1)


def negative_log_likelihood(
    prediction: Tensor, truth: Tensor, scale: float, likelihood: PixelLikelihood = "gaussian"
) -> Tensor:
    """Negative log-likelihood `-log p(truth | prediction)` of each value, in nats.

    Args:
        prediction: Predicted values: means of Gaussians, or probabilities.
        truth: True values of the same shape, in `[0, 1]` for the Bernoulli likelihood.
        scale: Standard deviation of the Gaussian likelihood.
        likelihood: Gaussian, its normalizing constant included, or Bernoulli.
    """
    if likelihood == "bernoulli":
        with torch.autocast(prediction.device.type, enabled=False):
            return functional.binary_cross_entropy(prediction, truth, reduction="none")
    constant = math.log(scale) + 0.5 * math.log(2 * math.pi)
    return (prediction - truth).square() / (2 * scale**2) + constant
