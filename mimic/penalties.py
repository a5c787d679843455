"""Baselines: penalties on dependent channels that can take MiMIc's place.

Each takes rows `[n c]` of raw channels and returns a scalar that is zero when channels are
unrelated in its sense. Covariances see second moments of pairs only; kernels and distances see
any dependence of pairs; none sees what three channels share beyond their pairs (an exclusive or).
Kernels and distances take memory of the order `c n²`.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu

PenaltyName = Literal[
    "mimic", "covariance", "vcreg", "barlow", "orthogonality", "hsic", "distance_correlation"
]
# Weight of the variance term relative to the covariance term, as in VICReg (Bardes et al. 2022).
VARIANCE_WEIGHT = 25.0


def covariance(z: Tensor) -> Tensor:
    """DeCov penalty, `½ (‖C‖² - ‖diag C‖²)` of the covariance C (Cogswell et al. 2016)."""
    return 0.5 * off_diagonal(_covariance(z)).square().sum()


def variance_covariance(z: Tensor) -> Tensor:
    """VCReg penalty (Zhu et al. 2023).

    `25 mean(relu(1 - √(var + 10⁻⁴))) + 1/c Σ_{i≠j} C_ij²` with the covariance C.
    """
    spread = relu(1 - (z.var(0) + 1e-4).sqrt()).mean()
    return VARIANCE_WEIGHT * spread + off_diagonal(_covariance(z)).square().sum() / z.shape[1]


def correlation(z: Tensor) -> Tensor:
    """Redundancy term of Barlow Twins with one view (Zbontar et al. 2021).

    `Σ_{i≠j} R_ij²` of the correlation R.
    """
    return off_diagonal(_covariance(_scaled(z))).square().sum()


def hsic(z: Tensor) -> Tensor:
    """Hilbert-Schmidt independence criterion, the mean over pairs (Gretton et al. 2005).

    `tr(K_i H K_j H) / (n - 1)²` with Gaussian kernels of width 1 on channels of variance 1.
    """
    distances = _distances(_scaled(z))
    kernels = _centred((-0.5 * distances.square()).exp()).flatten(1)
    return _mean_over_pairs(kernels @ kernels.T) / (len(z) - 1) ** 2


def distance_correlation(z: Tensor) -> Tensor:
    """Squared distance correlation, the mean over pairs (Székely et al. 2007)."""
    centred = _centred(_distances(_scaled(z))).flatten(1)
    products = centred @ centred.T
    size = products.diagonal().clamp(min=torch.finfo(z.dtype).tiny)
    # Root by root: the product of two small numbers may be too small to tell from zero.
    return _mean_over_pairs(products / size.sqrt()[:, None] / size.sqrt())


def orthogonality(weight: Tensor | None) -> Tensor:
    """Orthogonality penalty, `‖W Wᵀ - I‖²` of a layer's weights `[out, …]` (Brock et al. 2019).

    The smaller one of `W Wᵀ` and `Wᵀ W` is taken, as only that can be the identity.

    Raises:
        ValueError: The layer has no matrix of weights.
    """
    if weight is None or weight.ndim < 2:
        raise ValueError(
            "orthogonality is a penalty on a layer's weights, and this layer has no matrix of its "
            "own; name a linear or convolutional layer"
        )
    w = weight.flatten(1)
    gram = w @ w.T if len(w) <= w.shape[1] else w.T @ w
    return (gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).square().sum()


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "covariance": covariance,
    "vcreg": variance_covariance,
    "barlow": correlation,
    "hsic": hsic,
    "distance_correlation": distance_correlation,
}


def off_diagonal(matrix: Tensor) -> Tensor:
    """Matrix with zeros on its diagonal."""
    return matrix - matrix.diagonal().diag()


def _covariance(z: Tensor) -> Tensor:
    z = z - z.mean(0)
    return z.T @ z / (len(z) - 1)


def _scaled(z: Tensor) -> Tensor:
    """Channels of mean 0 and variance 1; constant channels stay at 0."""
    z = z - z.mean(0)
    variance = z.square().sum(0) / (len(z) - 1)
    dead = variance <= torch.finfo(z.dtype).tiny
    return z / torch.where(dead, 1.0, variance).sqrt()


def _distances(z: Tensor) -> Tensor:
    """Distances `|z_ik - z_jk|` of each channel k, `[c n n]`."""
    return (z.T[:, :, None] - z.T[:, None]).abs()


def _centred(matrices: Tensor) -> Tensor:
    rows = matrices.mean(2, keepdim=True)
    return matrices - rows - rows.mT + rows.mean(1, keepdim=True)


def _mean_over_pairs(matrix: Tensor) -> Tensor:
    c = len(matrix)
    return off_diagonal(matrix).sum() / (c * (c - 1))
