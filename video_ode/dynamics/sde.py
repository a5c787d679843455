"""Latent dynamics by a neural stochastic differential equation."""

from torch import Tensor, nn

from common.errors import InputError
from common.ode.sde import euler_maruyama
from common.typing import FieldFactory, Sample, Times
from video_ode.dynamics.base import Dynamics, Path, _by_intervals


class NeuralSDE(Dynamics):
    """`dz = f(t, z, context) dt + g(t, z, context) dW`, forward in time.

    Args:
        size: Length of the state.
        context_size: Length of the context.
        drift: From sizes of state and context to `f`.
        diffusion: From sizes of state and context to a net; `g` is `scale` times its softplus.
        step_size: Of the largest step.
        scale: Of the diffusion; 0 gives the ODE by Euler's method.
        prior_drift: From sizes of state and context to `h`: the path then costs its divergence
            from the path with drift `h`.
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
        if scale < 0 or step_size <= 0 or (prior_drift is not None and scale == 0):
            raise InputError(
                f"got scale {scale} and step_size {step_size}; the step must be positive, the "
                "scale at least 0, and above 0 beside a prior_drift"
            )
        self.drift, self.diffusion = drift(size, context_size), diffusion(size, context_size)
        self.prior_drift = prior_drift(size, context_size) if prior_drift else None
        self.step_size, self.scale = step_size, scale

    def forward(self, z0: Sample, times: Times, context: Tensor | None = None) -> Path:
        if context is not None and context.ndim == 3:
            return _by_intervals(self, z0, times, context)

        def g(t: Tensor, z: Sample) -> Sample:
            return self.scale * nn.functional.softplus(self.diffusion(t, z, context))

        prior = self.prior_drift
        path = euler_maruyama(
            lambda t, z: self.drift(t, z, context),
            g,
            z0,
            times,
            self.step_size,
            None if prior is None else lambda t, z: prior(t, z, context),
        )
        return Path(path.states, path.kl)
