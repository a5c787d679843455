"""Estimators of total correlation and mutual information from the values of a critic.

The report's "mutual interaction" (Predoc III, eq. 7.2) is `KL(p(x₁ … x_f) ‖ p(x₁) … p(x_f))`:
Watanabe's total correlation (1960). It is never negative, and zero only for independent channels;
for two variables it is the mutual information (eq. 7.1). McGill's interaction information (1954),
which the report cites by that name, is another quantity and has a sign: for two bits and their
exclusive or it is one bit, for three copies of a bit minus one bit, while their total
correlations are one and two bits.

Every estimate is in nats and reads two sets of values of the critic T: `joint [n]`, on samples of
the joint distribution, and `marginal [m]`, on samples of the product of marginals.
"""

import abc
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from common.errors import InputError, check_positive
from mimic.critic.devices import rank, sum_over_devices, world_size
from mimic.features.inputs import Numbers, as_channels
from mimic.features.shuffling import shuffle_channels

EstimatorName = Literal["smile", "js", "density_ratio", "dv", "mine", "nwj", "infonce"]


class Estimator(nn.Module, abc.ABC):
    """Objective that a critic maximises, and the estimate that is read from the critic."""

    def objective(self, joint: Tensor, marginal: Tensor) -> Tensor:
        """Objective that the critic ascends; by default the estimate itself."""
        return self(joint, marginal)

    @abc.abstractmethod
    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        """Estimate in nats, which a regularised network descends."""


class DV(Estimator):
    """Donsker and Varadhan's bound, `E[T] - log E⊗[e^T]` (Predoc III, eq. 7.1 and 7.2).

    This is the report's estimator. Its ascent diverges once the truth comes near the logarithm of
    the batch size: on fresh samples the estimate is then far below zero.
    """

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return joint.mean() - log_mean_exp(marginal)


class MINE(DV):
    """DV without the bias of the batch's gradient (Belghazi et al. 2018, eq. 12).

    The denominator of `E⊗[∇T e^T] / E⊗[e^T]` is a running mean over batches, kept as a logarithm
    and equal over devices.

    Args:
        decay: Decay of the running mean.
        cap: Bound on the ratio of the batch's mean to the running mean. Without it a single batch
            may take a step of any size.
    """

    log_mean: Tensor

    def __init__(self, decay: float = 0.9, cap: float = 10.0) -> None:
        super().__init__()
        if not 0 < decay < 1:
            raise InputError(f"got decay {decay}; give a number between 0 and 1")
        check_positive(cap=cap)
        self.decay, self.cap = decay, cap
        self.register_buffer("log_mean", torch.tensor(math.nan))

    def objective(self, joint: Tensor, marginal: Tensor) -> Tensor:
        batch = log_mean_exp(marginal)
        place = torch.zeros(world_size(), device=batch.device, dtype=batch.dtype)
        place[rank()] = batch.detach()
        shared = log_mean_exp(sum_over_devices(place))
        old = torch.where(self.log_mean.isnan(), shared, self.log_mean)
        self.log_mean = torch.logaddexp(
            old + math.log(self.decay), shared + math.log1p(-self.decay)
        )
        return joint.mean() - (batch.detach() - self.log_mean).exp().clamp(max=self.cap) * batch


class NWJ(Estimator):
    """Nguyen, Wainwright and Jordan's bound, `E[T] - E⊗[e^{T-1}]` (2010); also called MINE-f."""

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return joint.mean() - (marginal - 1).exp().mean()


class Discriminator(Estimator):
    """Base of the estimators whose critic is trained to tell the two sets of samples apart.

    The objective is bounded, `-E[softplus(-T)] - E⊗[softplus(T)]` (Nowozin et al. 2016; Hjelm et
    al. 2019), and its optimum is the logarithm of the density ratio: training is stable where
    the ascent of DV and NWJ is not.
    """

    def objective(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return discrimination(joint, marginal)


class SMILE(Discriminator):
    """JS-trained critic read by DV with a clipped partition (Song and Ermon 2020).

    `E[T] - log E⊗[clip(e^T, e^-τ, e^τ)]`.

    Args:
        clip: τ. None: the logarithm of the number of marginal samples, since a mean of m values
            of `e^T` says nothing about events rarer than one in m.
    """

    def __init__(self, clip: float | None = None) -> None:
        super().__init__()
        if clip is not None and not clip > 0:
            raise InputError(f"got clip {clip:g}; give more than 0")
        self.clip = clip

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        clip = math.log(max(2, len(marginal))) if self.clip is None else self.clip
        return joint.mean() - log_mean_exp(marginal.clamp(-clip, clip))


class JS(SMILE):
    """Critic trained by the Jensen-Shannon objective and read by DV: SMILE without its clip."""

    def __init__(self) -> None:
        super().__init__(clip=math.inf)


class DensityRatio(Discriminator):
    """JS-trained critic read as the mean log density ratio, `E[T]` (Kim and Mnih 2018)."""

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return joint.mean()


class InfoNCE(Estimator):
    """Bound by picking out a joint sample among m marginal ones (van den Oord et al. 2018).

    `E[T - log((e^T + Σ_k e^{T_k}) / (m + 1))]`, which cannot exceed `log(m + 1)`.
    """

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        total = torch.logaddexp(joint, marginal.logsumexp(0))
        return (joint - total).mean() + math.log(len(marginal) + 1)


ESTIMATORS: dict[str, type[Estimator]] = {"dv": DV, "mine": MINE, "nwj": NWJ, "js": JS}
ESTIMATORS |= {"smile": SMILE, "infonce": InfoNCE, "density_ratio": DensityRatio}


def make_estimator(name: str) -> Estimator:
    """A new estimator of that name.

    Raises:
        InputError: There is no estimator of that name.
    """
    if name not in ESTIMATORS:
        raise InputError(f"got estimator {name!r}; there are {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]()


def gaussian_total_correlation(z: Numbers, noise: float = 0.0) -> Tensor:
    """Total correlation of Gaussian channels, `-½ log det R` with their correlation matrix R.

    Exact for Gaussian channels; otherwise the part that covariances show. Large, but not infinite,
    where channels determine one another. Channels that do not vary are left out. NaN if a channel
    is not finite.

    Args:
        z: Channels `[n c]`.
        noise: Standard deviation of noise on the standardised channels.

    Raises:
        InputError: Other shapes, or fewer than two rows.
    """
    z = as_channels(z)
    if z.ndim != 2 or len(z) < 2:
        raise InputError(f"got channels of shape {list(z.shape)}; give two rows or more, [n c]")
    smallest, dtype = torch.finfo(z.dtype).eps, z.dtype
    if not bool(z.isfinite().all()):
        return z.new_full((), torch.nan)
    z = z[:, z.std(0) > 0].double()
    if z.shape[1] < 2:
        return z.new_zeros((), dtype=dtype)
    identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    correlation = (torch.corrcoef(z.T) + noise**2 * identity) / (1 + noise**2)
    eigenvalues = torch.linalg.eigvalsh(correlation).clamp(min=smallest)
    return (-0.5 * eigenvalues.log().sum()).to(dtype)


def total_correlation(
    z: Numbers,
    critic: Callable[[Tensor], Tensor],
    estimator: str = "smile",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Total correlation of a batch by a given critic, in nats (Predoc III, eq. 7.2).

    A function of the batch and of the critic, with gradients to both.

    Args:
        z: Channels `[n c …]`.
        critic: Function `T(z)`, `[n c …] -> [n]`.
        estimator: Name of the estimator that reads the critic.
        generator: Source of the shuffle. None: the global one.
    """
    z = as_channels(z)
    joint, marginal = critic(torch.cat([z, shuffle_channels(z, generator=generator)])).chunk(2)
    return make_estimator(estimator)(joint, marginal)


def discrimination(joint: Tensor, marginal: Tensor) -> Tensor:
    """Objective of a discriminator, `-E[softplus(-T)] - E⊗[softplus(T)]`; 0 at best."""
    return -softplus(-joint).mean() - softplus(marginal).mean()


def log_mean_exp(x: Tensor) -> Tensor:
    """`log(1/n Σ e^x)` over all entries."""
    return x.logsumexp(0) - math.log(len(x))
