"""Latent dynamics by a neural stochastic differential equation."""

from torch import Tensor, nn

from common.errors import InputError, check_counts, check_positive
from common.ode.sde import euler_maruyama
from common.typing import FieldFactory, Sample, Times
from video_ode.dynamics.base import Dynamics, Solved


class NeuralSDE(Dynamics):
    """Neural SDE `dz = f(t, z, context) dt + g(t, z, context) dW`, forward in time.

    Args:
        size: Length of the state (channels of a feature map).
        context_size: Length of the context.
        drift: From the lengths of state and context to the drift `f`.
        diffusion: From the lengths of state and context to a network; `g` is `scale` times the
            softplus of its output.
        step_size: Step of the solver, in frames.
        scale: Factor of the diffusion; 0 gives the ODE, solved by Euler's method.
        prior_drift: From the lengths of state and context to the drift `h` of a prior. The path
            then has a KL divergence from the path with drift `h`. None: no prior, no divergence.

    Raises:
        InputError: Sizes out of range.
    """

    def __init__(
        self,
        size: int,
        context_size: int,
        drift: FieldFactory,
        diffusion: FieldFactory,
        step_size: float,
        scale: float = 1.0,
        prior_drift: FieldFactory | None = None,
    ) -> None:
        super().__init__()
        check_positive(step_size=step_size)
        check_counts(0, scale=scale)
        if prior_drift is not None and scale == 0:
            raise InputError("got scale 0 and a prior_drift; give a scale of more than 0")
        self.drift, self.diffusion = drift(size, context_size), diffusion(size, context_size)
        self.prior_drift = prior_drift(size, context_size) if prior_drift else None
        self.step_size, self.scale = step_size, scale

    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        prior = self.prior_drift
        path = euler_maruyama(
            lambda t, z: self.drift(t, z, context),
            lambda t, z: self.scale * nn.functional.softplus(self.diffusion(t, z, context)),
            z0,
            times,
            self.step_size,
            None if prior is None else lambda t, z: prior(t, z, context),
        )
        return Solved(path.states, path.evaluations, path.kl)
