"""Other penalties on what channels share, to stand in MiMIc's place.

Each takes rows `[n c]` of raw channels and returns a scalar that is zero when channels are
unrelated in its sense. Covariances see second moments of pairs only; kernels and distances see
any dependence of pairs; none sees what three channels share beyond their pairs (an exclusive or).
Kernels and distances take memory of the order `c n²`.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import relu

# Of the variance term beside the covariance term: VICReg's (Bardes et al. 2022), 25 to 1.
VARIANCE_WEIGHT = 25.0


def covariance(z: Tensor) -> Tensor:
    """`½ (‖C‖² - ‖diag C‖²)` of the covariance C (DeCov: Cogswell et al. 2016)."""
    return 0.5 * off_diagonal(_covariance(z)).square().sum()


def variance_covariance(z: Tensor) -> Tensor:
    """`25 mean(relu(1 - √(var + 10⁻⁴))) + 1/c Σ_{i≠j} C_ij²` (VCReg: Zhu et al. 2023)."""
    spread = relu(1 - (z.var(0) + 1e-4).sqrt()).mean()
    return VARIANCE_WEIGHT * spread + off_diagonal(_covariance(z)).square().sum() / z.shape[1]


def correlation(z: Tensor) -> Tensor:
    """`Σ_{i≠j} R_ij²` of the correlation R.

    The redundancy term of Barlow Twins (Zbontar et al. 2021) with one view in place of two.
    """
    return off_diagonal(_covariance(_scaled(z))).square().sum()


def hsic(z: Tensor) -> Tensor:
    """Mean over pairs of `tr(K_i H K_j H) / (n - 1)²` (Gretton et al. 2005).

    Gaussian kernels of width 1 on channels of variance 1.
    """
    distances = _distances(_scaled(z))
    kernels = _centred((-0.5 * distances.square()).exp()).flatten(1)
    return _mean_over_pairs(kernels @ kernels.T) / (len(z) - 1) ** 2


def distance_correlation(z: Tensor) -> Tensor:
    """Mean over pairs of the squared distance correlation (Székely et al. 2007)."""
    centred = _centred(_distances(_scaled(z))).flatten(1)
    products = centred @ centred.T
    size = products.diagonal().clamp(min=torch.finfo(z.dtype).tiny)
    # Root by root: the product of two small numbers may be too small to tell from zero.
    return _mean_over_pairs(products / size.sqrt()[:, None] / size.sqrt())


def orthogonality(weight: Tensor) -> Tensor:
    """`‖W Wᵀ - I‖²` of a layer's weights `[out, …]` (Brock et al. 2019).

    Of the smaller of `W Wᵀ` and `Wᵀ W`, the only one that can be the identity.
    """
    w = weight.flatten(1)
    gram = w @ w.T if len(w) <= w.shape[1] else w.T @ w
    return (gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).square().sum()


PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "covariance": covariance,
    "vcreg": variance_covariance,
    "barlow": correlation,
    "hsic": hsic,
    "distance_correlation": distance_correlation,
}


def off_diagonal(matrix: Tensor) -> Tensor:
    """The matrix with zeros on its diagonal."""
    return matrix - matrix.diagonal().diag()


def _covariance(z: Tensor) -> Tensor:
    z = z - z.mean(0)
    return z.T @ z / (len(z) - 1)


def _scaled(z: Tensor) -> Tensor:
    """Variance 1; channels that don't vary stay at 0."""
    z = z - z.mean(0)
    variance = z.square().sum(0) / (len(z) - 1)
    dead = variance <= torch.finfo(z.dtype).tiny
    return z / torch.where(dead, 1.0, variance).sqrt()


def _distances(z: Tensor) -> Tensor:
    """`|z_ik - z_jk|` of each channel k, `[c n n]`."""
    columns = z.T
    return (columns[:, :, None] - columns[:, None]).abs()


def _centred(matrices: Tensor) -> Tensor:
    rows = matrices.mean(2, keepdim=True)
    return matrices - rows - rows.mT + rows.mean(1, keepdim=True)


def _mean_over_pairs(matrix: Tensor) -> Tensor:
    c = len(matrix)
    return off_diagonal(matrix).sum() / (c * (c - 1))
