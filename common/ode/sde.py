"""Stochastic differential equations on a fixed grid.

`dz = f(t, z) dt + g(t, z) dW` in Itô's sense with diagonal noise, by Euler and Maruyama, strong
order 1/2 (1 for additive noise). Backpropagation goes straight through the steps: an adjoint in
Itô's form is wrong for a diffusion that mixes coordinates.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError
from common.typing import PerSample, Sample

Coefficient = Callable[[Tensor, Sample], Sample]


class Diffused(NamedTuple):
    """States `[b t ...]` at the asked times, and `½ ∫ |(f - h) / g|² dt` of each, in nats."""

    states: Tensor
    kl: PerSample


def euler_maruyama(
    drift: Coefficient,
    diffusion: Coefficient,
    z0: Sample,
    times: Tensor,
    step_size: float,
    prior_drift: Coefficient | None = None,
) -> Diffused:
    """A path from `z0` at `times[0]`, and its divergence from a path of another drift.

    By Girsanov's theorem the path's law has that Kullback-Leibler divergence from the law of the
    same equation with drift `h` (Li et al. 2020, eq. 11).

    Args:
        drift: `f(t, z)`.
        diffusion: `g(t, z)`, a factor for each coordinate; shaped as `z`.
        z0: State at the first time.
        times: Strictly ascending; every interval is cut into equal steps.
        step_size: Of the largest step.
        prior_drift: `h(t, z)`; no divergence if none.

    Raises:
        InputError: Times that don't ascend: noise has no way back.
    """
    if bool((times.diff() <= 0).any()):
        raise InputError(
            "an SDE runs forward in time only: give times in ascending order, none before the "
            "first given frame, or use an ODE"
        )
    z, kl = z0, z0.new_zeros(len(z0))
    states = [z]
    for start, stop in pairwise(times.tolist()):
        # A hair of slack: 1 / 0.1 must be ten steps, not eleven.
        steps = max(1, math.ceil((stop - start) / step_size - 1e-6))
        dt = (stop - start) / steps
        for i in range(steps):
            t = z.new_full((), start + i * dt)
            f, g = drift(t, z), diffusion(t, z)
            if prior_drift is not None:
                gap = (f - prior_drift(t, z)) / g
                kl = kl + 0.5 * dt * gap.square().flatten(1).sum(1)
            z = z + f * dt + g * (math.sqrt(dt) * torch.randn_like(z))
        states.append(z)
    return Diffused(torch.stack(states, 1), kl)
