"""Solver of stochastic differential equations (SDEs) on a fixed grid.

The equation `dz = f(t, z) dt + g(t, z) dW`, in Itô's sense with diagonal noise, is solved by the
Euler–Maruyama method. Its strong order is 1/2, or 1 for additive noise. Gradients come by
backpropagation through the steps: an adjoint SDE in Itô's form is wrong for a diffusion that mixes
coordinates.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError
from common.ode.evaluations import Evaluations
from common.ode.grid import grid_places
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
        times: Strictly ascending times `[t]`.
        step_size: Step, from the first time on. At a time between two grid points, the noise is a
            Brownian bridge, so the states at grid points don't depend on which other times are
            asked for.
        prior_drift: Drift `h(t, z)` of the other equation. None: the divergence is zero.

    Raises:
        InputError: Times that aren't strictly ascending: noise can't be integrated backward.
    """
    _check_ascending(times)
    steps, rest = grid_places(times, step_size)
    start, kl = float(times[0]), z0.new_zeros(len(z0))
    last, between = int(steps[-1]), {int(k) for k in steps[rest > 0]}
    points, taken, z = [(z0, kl)], {}, z0
    for k in range(last + (last in between)):
        t = z.new_full((), start + k * step_size)
        f, g = drift(t, z), diffusion(t, z)
        noise, rate = math.sqrt(step_size) * torch.randn_like(z), torch.zeros_like(kl)
        if prior_drift is not None:
            rate = 0.5 * ((f - prior_drift(t, z)) / g).square().flatten(1).sum(1)
        if k in between:
            taken[k] = _Step(z, kl, f, g, rate, noise)
        z, kl = z + f * step_size + g * noise, kl + rate * step_size
        points.append((z, kl))
    # After all steps, whose noise is then the same whichever other times are asked for.
    asked = [
        points[k] if not share else taken[k].until(share * step_size, step_size)
        for k, share in zip(steps.long().tolist(), rest.tolist(), strict=True)
    ]
    states, divergences = (torch.stack(values, 1) for values in zip(*asked, strict=True))
    return SDEPath(states, divergences, Evaluations(len(points) - 1))


@dataclass
class _Step:
    """Step from a grid point: state, divergence, coefficients, and increment of the noise."""

    z: Tensor
    kl: Tensor
    f: Tensor
    g: Tensor
    rate: Tensor
    noise: Tensor
    past: float = 0.0
    path: Tensor | None = None

    def until(self, time: float, step_size: float) -> tuple[Tensor, Tensor]:
        """State and divergence `time` after the grid point, and after the last call's `time`.

        The noise there is a Brownian bridge between its known values before and after.
        """
        noise = torch.zeros_like(self.noise) if self.path is None else self.path
        left, passed = step_size - self.past, time - self.past
        spread = math.sqrt(passed * (left - passed) / left)
        noise = noise + (self.noise - noise) * (passed / left) + spread * torch.randn_like(noise)
        self.past, self.path = time, noise
        return self.z + self.f * time + self.g * noise, self.kl + self.rate * time


def _check_ascending(times: Tensor) -> None:
    if bool((times.diff() <= 0).any()):
        raise InputError(
            "an SDE runs forward in time only: give times in ascending order, none before that "
            "of the first state, or use an ODE"
        )
