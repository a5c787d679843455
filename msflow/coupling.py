"""Coupling of noise and data for flow matching, by optimal transport within a batch."""

import torch
from torch import Tensor

from common.errors import InputError, check_counts


@torch.no_grad()
def matched_noise(
    x: Tensor, eps: Tensor, context: Tensor | None = None, weight: float = 1.0
) -> Tensor:
    """Noise of a batch in the order of the optimal transport to the data, `[b …]`.

    The order σ minimises `Σᵢ |xᵢ - ε_σ(i)|² + weight · |cᵢ - c_σ(i)|²`, so paths cross less often
    (Tong et al. 2024). Without the second term, noise would tell which context it belongs to, and
    sampling gives each context all noise (Cheng & Schwing 2025). With contexts that repeat, such
    as classes in one-hot code, a large weight couples within each class and leaves no such error.
    If all contexts differ, a large weight leaves the noise as it is, and a small one keeps a part
    of the error.

    Args:
        x: Data `[b …]`.
        eps: Noise of the same shape.
        context: Contexts `[b …]`, as numbers. None: no context.
        weight: Weight of the distance of contexts.

    Raises:
        InputError: Other shapes, or a weight below 0.
    """
    from scipy.optimize import linear_sum_assignment  # here: it takes long to import

    check_counts(0, weight=weight)
    if x.shape != eps.shape or (context is not None and len(context) != len(x)):
        contexts = "no context" if context is None else f"contexts {list(context.shape)}"
        raise InputError(
            f"got data {list(x.shape)}, noise {list(eps.shape)} and {contexts}; give noise of the "
            "data's shape, and a context for each sample"
        )
    cost = _distances(x, eps)
    if context is not None:
        cost = cost + weight * _distances(context, context)
    _, order = linear_sum_assignment(cost.numpy())
    return eps[torch.from_numpy(order).to(eps.device)]


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances `[n m]`, on the CPU; exactly 0 of equal rows."""
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(a.flatten(1).float(), b.flatten(1).float(), 2.0, mode).cpu().double() ** 2
