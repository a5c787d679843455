"""Solvers of SDEs by torchsde, an optional package; the only module that imports it."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from common.errors import InputError, RunError, check_words
from common.ode.brownian import BrownianPath
from common.ode.evaluations import Evaluations
from common.ode.grid import grid_places
from common.ode.sde import SDE, SDEPath, SDESolver
from common.typing import Sample, Times

Method = Literal["euler", "heun", "midpoint", "euler_heun", "reversible_heun"]


class TorchSDE(SDESolver):
    """Solver of SDEs by torchsde, on a fixed grid.

    Its methods that need derivatives of the diffusion or Lévy areas are left out: they are wrong
    for a diffusion that mixes coordinates. Between two grid points torchsde interpolates linearly.
    The noise comes from `BrownianPath`, so `torch.manual_seed` alone reproduces it.

    Args:
        step_size: Step, from the first time on.
        method: `euler` (Euler–Maruyama) solves Itô SDEs; the others solve Stratonovich SDEs.
        adjoint: Compute gradients by an adjoint SDE, whose memory does not grow with the number of
            steps. It is right for Stratonovich SDEs and for times whole steps apart only.

    Raises:
        InputError: Unknown method, `step_size` not above 0, or an adjoint of `euler`: torchsde's
            Itô adjoint gives wrong gradients if the diffusion mixes coordinates, as networks do.
    """

    def __init__(self, step_size: float, method: Method = "heun", adjoint: bool = False) -> None:
        super().__init__(step_size)
        check_words((method, Method))
        if adjoint and method == "euler":
            raise InputError(
                "got the adjoint of method euler: the adjoint of an Itô SDE gives wrong gradients "
                "if the diffusion mixes coordinates; set adjoint to false, or choose heun"
            )
        self.method, self.adjoint = method, adjoint

    def solve(
        self,
        sde: SDE,
        z0: Sample,
        times: Times,
        params: Sequence[Tensor],
        brownian: BrownianPath,
    ) -> SDEPath:
        try:
            import torchsde
        except ImportError as error:
            raise RunError(
                "TorchSDE needs the package torchsde; install it: pip install -e '.[sde]'"
            ) from error
        if self.adjoint and bool(grid_places(times, self.step_size).rest.any()):
            raise InputError(
                f"got step_size {self.step_size:g} and times that are not whole steps apart, for "
                "which the adjoint is wrong; give a step that divides the gaps between the times"
            )
        flat = z0.reshape(len(z0), -1)
        equation = _Equation(sde, z0, "ito" if self.method == "euler" else "stratonovich")
        arguments: dict[str, Any] = dict(
            # In double precision, so that many steps meet the asked times.
            ts=times.double(),
            bm=_Noise(brownian, flat.detach()),
            method=self.method,
            dt=self.step_size,
        )
        if self.adjoint:
            arguments["adjoint_params"] = [p for p in params if p.requires_grad]
        solve = torchsde.sdeint_adjoint if self.adjoint else torchsde.sdeint
        states = solve(equation, flat, **arguments).transpose(0, 1)
        equation.solving = False
        states = states.reshape(len(z0), len(times), *z0.shape[1:])
        return SDEPath(states, z0.new_zeros(states.shape[:2]), equation.evaluations)


class _Equation(nn.Module):
    """SDE of flat states in the form that torchsde asks for; counts its evaluations."""

    noise_type = "diagonal"

    def __init__(self, sde: SDE, z0: Sample, sde_type: str) -> None:
        super().__init__()
        self.sde, self.shape, self.sde_type = sde, z0.shape, sde_type
        self.evaluations, self.solving = Evaluations(), True

    def f(self, t: Tensor, z: Tensor) -> Tensor:
        if self.solving:
            self.evaluations.own_forward += 1
        else:
            self.evaluations.own_backward += 1
        return self.sde.drift(t.to(z), z.view(self.shape)).reshape(z.shape)

    def g(self, t: Tensor, z: Tensor) -> Tensor:
        return self.sde.diffusion(t.to(z), z.view(self.shape)).reshape(z.shape)


class _Noise:
    """Brownian motion in the form that torchsde asks for."""

    levy_area_approximation = "none"

    def __init__(self, path: BrownianPath, like: Tensor) -> None:
        self.path, self.like = path, like
        self.shape, self.dtype, self.device = like.shape, like.dtype, like.device

    def __call__(
        self, start: Tensor, stop: Tensor, return_U: bool = False, return_A: bool = False
    ) -> Tensor:
        return self.path.increment(float(start), float(stop), self.like)
