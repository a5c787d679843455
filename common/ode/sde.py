"""Solvers of stochastic differential equations (SDEs) with diagonal noise.

`dz = f(t, z) dt + g(t, z) dW`, in Itô's or in Stratonovich's sense, forward in time. Gradients
come by backpropagation through the steps. Without gradients, memory holds the asked states only.
"""

import abc
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError, check_positive
from common.ode.brownian import BrownianPath
from common.ode.evaluations import Evaluations
from common.ode.grid import grid_places
from common.typing import PerSample, Sample, Times

Coefficient = Callable[[Tensor, Sample], Sample]


class SDE(NamedTuple):
    """Coefficients of an SDE; all are functions of a scalar time and a state.

    Attributes:
        drift: Drift `f(t, z)`.
        diffusion: Diffusion `g(t, z)`, a factor for each coordinate, of the shape of `z`.
        prior_drift: Drift `h(t, z)` of another SDE with the same diffusion, for the KL divergence
            between the distributions of the two paths. None: the divergence is zero.
    """

    drift: Coefficient
    diffusion: Coefficient
    prior_drift: Coefficient | None = None


class SDEPath(NamedTuple):
    """Sample path of an SDE.

    Attributes:
        states: States `[b t ...]` at the asked times.
        kl: Path KL divergence `½ ∫ |(f - h) / g|² dt` up to each asked time, `[b t]`, in nats
            (Girsanov's theorem; Li et al. 2020, eq. 11).
        evaluations: Number of evaluations of the drift.
    """

    states: Tensor
    kl: Tensor
    evaluations: Evaluations


class SDESolver(abc.ABC):
    """Solver of SDEs on a fixed grid; a subclass writes `solve`.

    Args:
        step_size: Step, from the first time on.

    Attributes:
        has_divergence: Whether it gives the path KL divergence.

    Raises:
        InputError: `step_size` is not above 0.
    """

    has_divergence: bool = False

    def __init__(self, step_size: float) -> None:
        check_positive(step_size=step_size)
        self.step_size = step_size

    def path(
        self,
        sde: SDE,
        z0: Sample,
        times: Times,
        params: Sequence[Tensor] = (),
        brownian: BrownianPath | None = None,
    ) -> SDEPath:
        """States at strictly ascending times.

        Args:
            sde: Coefficients of the SDE.
            z0: State at the first time, `[b ...]`.
            times: Strictly ascending times `[t]`.
            params: Tensors used inside `sde` that need a gradient from an adjoint: parameters and
                any context. Backpropagation finds them by itself.
            brownian: Path of the noise. None: a new one.

        Raises:
            InputError: Times that aren't strictly ascending: noise can't be integrated backward.
                A `prior_drift` for a solver without path KL divergence.
        """
        if bool((times.diff() <= 0).any()):
            raise InputError(
                "an SDE runs forward in time only: give times in ascending order, none before "
                "that of the first state, or use an ODE"
            )
        if sde.prior_drift is not None and not self.has_divergence:
            raise InputError(
                f"got a prior_drift, but {type(self).__name__} gives no path KL divergence; leave "
                "it out, or use EulerMaruyama"
            )
        brownian = brownian or BrownianPath(self.step_size, float(times[0]))
        return self.solve(sde, z0, times, params, brownian)

    @abc.abstractmethod
    def solve(
        self,
        sde: SDE,
        z0: Sample,
        times: Times,
        params: Sequence[Tensor],
        brownian: BrownianPath,
    ) -> SDEPath:
        """States at checked times; the arguments are those of `path`."""


class SteppingSolver(SDESolver):
    """Base of solvers that a single step defines.

    A time between two grid points is reached by a shorter step from the point before it, which no
    other time sees: states don't depend on which other times are asked for.

    Attributes:
        stages: Number of evaluations of the drift in a step.
    """

    stages: int

    @abc.abstractmethod
    def step(
        self, sde: SDE, t: float, dt: float, z: Sample, noise: Sample
    ) -> tuple[Sample, PerSample | float]:
        """State after a step of length `dt`, and the path KL divergence over it.

        Args:
            sde: Coefficients of the SDE.
            t: Time before the step.
            dt: Length of the step.
            z: State before the step.
            noise: Increment of the Brownian motion over the step, of the shape of `z`.
        """

    def solve(
        self,
        sde: SDE,
        z0: Sample,
        times: Times,
        params: Sequence[Tensor],
        brownian: BrownianPath,
    ) -> SDEPath:
        steps, rest = grid_places(times, self.step_size)
        start, k, count = float(times[0]), 0, 0

        def advanced(z: Sample, kl: PerSample, share: float) -> tuple[Sample, PerSample]:
            t, dt = start + k * self.step_size, share * self.step_size
            z, growth = self.step(sde, t, dt, z, brownian.increment(t, t + dt, z))
            return z, kl + growth

        state, asked = (z0, z0.new_zeros(len(z0))), []
        for whole, share in zip(steps.long().tolist(), rest.tolist(), strict=True):
            while k < whole:
                state = advanced(*state, 1.0)
                k, count = k + 1, count + self.stages
            asked.append(advanced(*state, share) if share else state)
            count += self.stages if share else 0
        states, divergences = (torch.stack(values, 1) for values in zip(*asked, strict=True))
        return SDEPath(states, divergences, Evaluations(count))


class EulerMaruyama(SteppingSolver):
    """Euler–Maruyama method for Itô SDEs; the only solver with a path KL divergence.

    The strong order is 1/2, or 1 for additive noise. Without noise it is Euler's method.
    """

    stages, has_divergence = 1, True

    def step(
        self, sde: SDE, t: float, dt: float, z: Sample, noise: Sample
    ) -> tuple[Sample, PerSample | float]:
        time = z.new_full((), t)
        f, g = sde.drift(time, z), sde.diffusion(time, z)
        growth: PerSample | float = 0.0
        if sde.prior_drift is not None:
            rate = ((f - sde.prior_drift(time, z)) / g).square().reshape(len(z), -1).sum(1) / 2
            growth = rate * dt
        return z + f * dt + g * noise, growth


class Heun(SteppingSolver):
    """Heun's method for Stratonovich SDEs.

    The strong order is 1 if the diffusion of each coordinate depends on that coordinate only, and
    1/2 if it mixes coordinates. Without noise it is Heun's method for ODEs, of order 2.
    """

    stages = 2

    def step(
        self, sde: SDE, t: float, dt: float, z: Sample, noise: Sample
    ) -> tuple[Sample, PerSample | float]:
        before, after = z.new_full((), t), z.new_full((), t + dt)
        f, g = sde.drift(before, z), sde.diffusion(before, z)
        end = z + f * dt + g * noise
        f, g = (f + sde.drift(after, end)) / 2, (g + sde.diffusion(after, end)) / 2
        return z + f * dt + g * noise, 0.0
