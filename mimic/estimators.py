"""Estimates of total correlation and mutual information from the values of a critic.

The report's "mutual interaction" (Predoc III, eq. 7.2) is `KL(p(x₁ … x_f) ‖ p(x₁) … p(x_f))`:
Watanabe's total correlation (1960), which is never negative and zero only for independent
channels; of two variables it is the mutual information (eq. 7.1). McGill's interaction information
(1954), which the report cites by that name, is another quantity and has a sign: of two bits and
their exclusive or it is one bit, of three copies of a bit minus one, while their total
correlations are one and two bits.

Every estimate here is in nats and looks at two sets of values: of the critic T on samples of the
joint distribution, `joint [n]`, and on samples of the product of marginals, `marginal [m]`.
"""

import abc
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from common.errors import InputError
from mimic.devices import rank, sum_over_devices, world_size
from mimic.shuffling import shuffle_channels


class Estimator(nn.Module, abc.ABC):
    """What a critic maximises, and the estimate that is read from it."""

    @abc.abstractmethod
    def objective(self, joint: Tensor, marginal: Tensor) -> Tensor:
        """What the critic ascends."""

    @abc.abstractmethod
    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        """The estimate in nats, which a regularized network descends."""


class DV(Estimator):
    """Donsker and Varadhan's bound, `E[T] - log E⊗[e^T]` (Predoc III, eq. 7.1 and 7.2).

    The report's own. Its ascent diverges once the truth comes near the logarithm of the batch:
    on fresh samples the estimate is then far below zero.
    """

    def objective(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return self(joint, marginal)

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return joint.mean() - log_mean_exp(marginal)


class MINE(DV):
    """DV with the bias of the batch's gradient taken out (Belghazi et al. 2018, eq. 12).

    The denominator of `E⊗[∇T e^T] / E⊗[e^T]` is a running mean over batches, kept as a logarithm
    and equal over devices.

    Args:
        decay: Of the running mean.
        cap: Bound on the batch's mean over the running one: without it a single batch may take a
            step of any size.
    """

    log_mean: Tensor

    def __init__(self, decay: float = 0.9, cap: float = 10.0) -> None:
        super().__init__()
        self.decay, self.cap = decay, cap
        self.register_buffer("log_mean", torch.tensor(math.nan))

    def objective(self, joint: Tensor, marginal: Tensor) -> Tensor:
        batch = log_mean_exp(marginal)
        shared = _shared_log_mean(batch.detach())
        old = torch.where(self.log_mean.isnan(), shared, self.log_mean)
        self.log_mean = torch.logaddexp(
            old + math.log(self.decay), shared + math.log1p(-self.decay)
        )
        return joint.mean() - (batch.detach() - self.log_mean).exp().clamp(max=self.cap) * batch


class NWJ(Estimator):
    """Nguyen, Wainwright and Jordan's bound, `E[T] - E⊗[e^{T-1}]` (2010); also called MINE-f."""

    def objective(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return self(joint, marginal)

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return joint.mean() - (marginal - 1).exp().mean()


class Discriminator(Estimator):
    """Base of the estimates whose critic is trained to tell the two sets apart.

    Its objective is bounded, `-E[softplus(-T)] - E⊗[softplus(T)]` (Nowozin et al. 2016; Hjelm et
    al. 2019), and its optimum the logarithm of the density ratio: training is stable where
    the ascent of DV and NWJ is not.
    """

    def objective(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return discrimination(joint, marginal)


class JS(Discriminator):
    """A critic trained by the Jensen-Shannon objective, read by DV: SMILE without its clip."""

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return joint.mean() - log_mean_exp(marginal)


class SMILE(Discriminator):
    """JS-trained, read by DV with a clipped partition (Song and Ermon 2020).

    `E[T] - log E⊗[clip(e^T, e^-τ, e^τ)]`.

    Args:
        clip: τ; the logarithm of the number of marginal samples if none, since a mean of m values
            of `e^T` says nothing of events rarer than one in m.
    """

    def __init__(self, clip: float | None = None) -> None:
        super().__init__()
        if clip is not None and clip <= 0:
            raise InputError(f"got clip {clip:g}; give more than 0")
        self.clip = clip

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        clip = math.log(max(2, len(marginal))) if self.clip is None else self.clip
        return joint.mean() - log_mean_exp(marginal.clamp(-clip, clip))


class DensityRatio(Discriminator):
    """JS-trained, read as the mean log ratio `E[T]` (Kim and Mnih 2018)."""

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return joint.mean()


class InfoNCE(Estimator):
    """A joint sample picked out among m marginal ones (van den Oord et al. 2018).

    `E[T - log((e^T + Σ_k e^{T_k}) / (m + 1))]`, which can't exceed `log(m + 1)`.
    """

    def objective(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return self(joint, marginal)

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        total = torch.logaddexp(joint, marginal.logsumexp(0))
        return (joint - total).mean() + math.log(len(marginal) + 1)


ESTIMATORS: dict[str, type[Estimator]] = {
    "dv": DV,
    "mine": MINE,
    "nwj": NWJ,
    "js": JS,
    "smile": SMILE,
    "infonce": InfoNCE,
    "density_ratio": DensityRatio,
}


def make_estimator(name: str) -> Estimator:
    """The estimator of that name.

    Raises:
        InputError: There is none.
    """
    if name not in ESTIMATORS:
        raise InputError(f"got estimator {name!r}; there are {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]()


def gaussian_total_correlation(z: Tensor, noise: float = 0.0) -> Tensor:
    """`-½ log det R` of the correlation matrix R of channels `z [n c]`.

    Exact for Gaussian channels; otherwise the part that covariances show. Large, not infinite,
    where channels determine one another. Channels that don't vary are left out. NaN of channels
    that aren't finite.

    Args:
        z: The channels.
        noise: Deviation of noise on the standardised channels.
    """
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


def discrimination(joint: Tensor, marginal: Tensor) -> Tensor:
    """`-E[softplus(-T)] - E⊗[softplus(T)]`: how well the two are told apart, 0 at best."""
    return -softplus(-joint).mean() - softplus(marginal).mean()


def log_mean_exp(x: Tensor) -> Tensor:
    """`log(1/n Σ e^x)` over all entries."""
    return x.logsumexp(0) - math.log(len(x))


def _shared_log_mean(log_mean: Tensor) -> Tensor:
    """The logarithm of the mean over devices."""
    place = torch.zeros(world_size(), device=log_mean.device, dtype=log_mean.dtype)
    place[rank()] = log_mean
    return log_mean_exp(sum_over_devices(place))


def total_correlation(
    z: Tensor,
    critic: Callable[[Tensor], Tensor],
    estimator: str = "smile",
    generator: torch.Generator | None = None,
) -> Tensor:
    """What a critic says the channels of a batch `[n c …]` share, in nats (Predoc III, eq. 7.2).

    A function of the batch and of the critic, with gradients to both.
    """
    joint, marginal = critic(torch.cat([z, shuffle_channels(z, generator=generator)])).chunk(2)
    return make_estimator(estimator)(joint, marginal)
