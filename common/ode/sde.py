"""Solver of stochastic differential equations (SDEs) on a fixed grid.

The equation `dz = f(t, z) dt + g(t, z) dW`, in Itô's sense with diagonal noise, is solved by the
Euler–Maruyama method. Its strong order is 1/2, or 1 for additive noise. Gradients come by
backpropagation through the steps: an adjoint SDE in Itô's form is wrong for a diffusion that mixes
coordinates.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError
from common.ode.solve import Evaluations
from common.typing import Sample

Coefficient = Callable[[Tensor, Sample], Sample]


class SDEPath(NamedTuple):
    """Sample path of an SDE.

    Attributes:
        states: States `[b t ...]` at the asked times.
        kl: Path KL divergence `½ ∫ |(f - h) / g|² dt` up to each asked time, `[b t]`, in nats.
        evaluations: Number of evaluations of the drift.
    """

    states: Tensor
    kl: Tensor
    evaluations: Evaluations


def euler_maruyama(
    drift: Coefficient,
    diffusion: Coefficient,
    z0: Sample,
    times: Tensor,
    step_size: float,
    prior_drift: Coefficient | None = None,
) -> SDEPath:
    """Euler–Maruyama solver for Itô SDEs with diagonal noise.

    It also integrates the KL divergence between the distributions of two paths: of this equation,
    and of the same equation with another drift `h` (Girsanov's theorem; Li et al. 2020, eq. 11).

    Args:
        drift: Drift `f(t, z)`.
        diffusion: Diffusion `g(t, z)`, a factor for each coordinate, of the shape of `z`.
        z0: State at the first time, `[b ...]`.
        times: Strictly ascending times `[t]`; every interval is cut into equal steps.
        step_size: Size of the largest step.
        prior_drift: Drift `h(t, z)` of the other equation. None: the divergence is zero.

    Raises:
        InputError: Times that aren't strictly ascending: noise can't be integrated backward.
    """
    _check_ascending(times)
    z, kl = z0, z0.new_zeros(len(z0))
    states, divergences, evaluations = [z], [kl], 0
    for start, stop in pairwise(times.tolist()):
        # With a small tolerance: 1 / 0.1 must give ten steps, not eleven.
        steps = max(1, math.ceil((stop - start) / step_size - 1e-6))
        dt = (stop - start) / steps
        for i in range(steps):
            t = z.new_full((), start + i * dt)
            f, g = drift(t, z), diffusion(t, z)
            if prior_drift is not None:
                gap = (f - prior_drift(t, z)) / g
                kl = kl + 0.5 * dt * gap.square().flatten(1).sum(1)
            z = z + f * dt + g * (math.sqrt(dt) * torch.randn_like(z))
        evaluations += steps
        states.append(z)
        divergences.append(kl)
    return SDEPath(torch.stack(states, 1), torch.stack(divergences, 1), Evaluations(evaluations))


def _check_ascending(times: Tensor) -> None:
    if bool((times.diff() <= 0).any()):
        raise InputError(
            "an SDE runs forward in time only: give times in ascending order, none before that "
            "of the first state, or use an ODE"
        )
