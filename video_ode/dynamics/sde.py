"""Latent dynamics by a neural stochastic differential equation."""

from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.ode.sde import SDE, SDESolver
from common.typing import FieldFactory, Sample, Times
from video_ode.dynamics.base import Dynamics, Solved


class NeuralSDE(Dynamics):
    """Neural SDE `dz = f(t, z, context) dt + g(t, z, context) dW`, forward in time.

    The noise of each coordinate is independent. With `positive: false`, it is the SDE of Gordon &
    Parde 2020 (section 3.2).

    Args:
        size: Length of the state (channels of a feature map).
        context_size: Length of the context.
        drift: From the lengths of state and context to the drift `f`.
        diffusion: From the lengths of state and context to the network of the diffusion `g`.
        solver: Solver; it decides whether this is an SDE in Itô's or in Stratonovich's sense.
        scale: Factor of the diffusion; 0 gives the ODE, solved by the same method.
        prior_drift: From the lengths of state and context to the drift `h` of a prior. The path
            then has a KL divergence from the path with drift `h`. None: no prior, no divergence.
        positive: Make `g` positive: it is `scale` times the softplus of the network's output.
            False: `g` is `scale` times the output itself, of any sign.

    Raises:
        InputError: Sizes out of range, or a prior beside a diffusion that may be zero.
    """

    def __init__(
        self,
        size: int,
        context_size: int,
        drift: FieldFactory,
        diffusion: FieldFactory,
        solver: SDESolver,
        scale: float = 1.0,
        prior_drift: FieldFactory | None = None,
        positive: bool = True,
    ) -> None:
        super().__init__()
        check_counts(0, scale=scale)
        if prior_drift is not None and (scale == 0 or not positive):
            raise InputError(
                f"got a prior_drift, scale {scale:g} and positive {positive}, but the KL "
                "divergence needs a diffusion that is never 0; give a scale of more than 0 and "
                "positive true, or leave the prior_drift out"
            )
        self.drift, self.diffusion = drift(size, context_size), diffusion(size, context_size)
        self.prior_drift = prior_drift(size, context_size) if prior_drift else None
        self.solver, self.scale, self.positive = solver, scale, positive

    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        prior = self.prior_drift

        def diffusion(t: Tensor, z: Sample) -> Sample:
            g = self.diffusion(t, z, context)
            return self.scale * (nn.functional.softplus(g) if self.positive else g)

        sde = SDE(
            lambda t, z: self.drift(t, z, context),
            diffusion,
            None if prior is None else lambda t, z: prior(t, z, context),
        )
        params = [*self.parameters(), *([] if context is None else [context])]
        path = self.solver.path(sde, z0, times, params)
        return Solved(path.states, path.evaluations, path.kl)
