"""Pieces of evidence lower bounds: Gaussians, their divergences, likelihoods of frames."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from common.typing import PerSample

Likelihood = Literal["gaussian", "bernoulli"]


def gaussian(raw: Tensor) -> Normal:
    """The diagonal Gaussian whose mean and raw scale are the halves of the last axis.

    Scale `softplus(raw) + 1e-8`, as SRVP has it.
    """
    # In half precision the logarithms of a divergence would be lost.
    loc, scale = raw.to(torch.promote_types(raw.dtype, torch.float32)).chunk(2, -1)
    return Normal(loc, functional.softplus(scale) + 1e-8, validate_args=False)


def kl(q: Normal, p: Normal | None = None) -> PerSample:
    """`KL(q ‖ p)` in nats, summed over all axes but the first; `p` is `N(0, I)` if none."""
    if p is None:
        p = Normal(torch.zeros_like(q.loc), torch.ones_like(q.scale), validate_args=False)
    return kl_divergence(q, p).flatten(1).sum(1)


def negative_log_likelihood(
    prediction: Tensor, truth: Tensor, scale: float, likelihood: Likelihood = "gaussian"
) -> Tensor:
    """`-log p(truth | prediction)` of each value.

    Gaussian with standard deviation `scale`, its constant included; or Bernoulli with the
    prediction as probability, for truths in `[0, 1]`.
    """
    if likelihood == "bernoulli":
        with torch.autocast(prediction.device.type, enabled=False):
            return functional.binary_cross_entropy(prediction, truth, reduction="none")
    constant = math.log(scale) + 0.5 * math.log(2 * math.pi)
    return (prediction - truth).square() / (2 * scale**2) + constant
