"""Singular value clipping, which keeps the critic of TGAN Lipschitz continuous."""

import torch
from torch import Tensor, nn

from common.errors import check_counts

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


class SingularValueClipping:
    """Singular value clipping of a critic (Saito et al. 2017, section 4).

    The weights of convolutions and linear layers, as matrices from inputs to outputs, get singular
    values of at most 1. The factors γ of batch norms are clamped to `[0.01 σ, σ]`, σ the running
    standard deviation. Biases stay.

    Args:
        every: Number of steps of the critic from one clipping to the next.

    Raises:
        InputError: `every` is below 1.
    """

    def __init__(self, every: int = 5) -> None:
        check_counts(1, every=every)
        self.every = every

    @torch.no_grad()
    def __call__(self, critic: nn.Module) -> None:
        """Clips all layers of a critic, in place."""
        for layer in critic.modules():
            if isinstance(layer, Convolution | nn.Linear):
                layer.weight.copy_(clipped(layer.weight.flatten(1)).view_as(layer.weight))
            elif isinstance(layer, Norm) and layer.affine and layer.running_var is not None:
                deviation = layer.running_var.sqrt()
                layer.weight.copy_(layer.weight.clamp(0.01 * deviation, deviation))


def clipped(matrix: Tensor) -> Tensor:
    """The matrix `[m n]` with singular values above 1 set to 1.

    From the eigenvectors `u` of the Gram matrix with eigenvalues `s² > 1`:
    `W - Σ (1 - 1/s) u uᵀ W`. Singular values of 1 or less aren't touched, so that the Gram
    matrix, which is inaccurate for small ones, does no harm; it takes a fraction of the time of a
    singular value decomposition.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return clipped(matrix.T).T
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    large = values > 1
    u = vectors[:, large]
    return matrix - (u * (1 - values[large].rsqrt())) @ (u.T @ matrix)
