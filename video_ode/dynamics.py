"""Latent dynamics: from a state and times to the path through them, and what it cost in nats.

All are built by `Dynamics(size, context_size, …)`, so that a configuration can put one in the
place of another.
"""

import abc
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.ode.sde import euler_maruyama
from common.ode.solve import Evaluations, Solver
from common.typing import Codes, FieldFactory, PerSample, Sample, Times


class Path(NamedTuple):
    """A latent path.

    Attributes:
        states: `[b t d]`, one for each asked time.
        kl: `[b]`, divergence of the path from its prior in nats; 0 where nothing is random.
    """

    states: Codes
    kl: PerSample


class Dynamics(nn.Module, abc.ABC):
    """`(z0, times, context) -> Path`.

    `times[0]` is the time of `z0`; the unit is a frame. `context`, `[b c]`, steers all of the
    path, or `[b n c]` one vector for each unit of time after `times[0]` (SRVP's `z_{⌊t⌋+1}`).

    Attributes:
        steps: Equal steps in a unit of time that these dynamics consist of; 1 if of none.
    """

    steps: int = 1

    @abc.abstractmethod
    def forward(self, z0: Sample, times: Times, context: Tensor | None = None) -> Path:
        """The states at `times`.

        Raises:
            InputError: Times that these dynamics can't reach.
        """


DynamicsFactory = Callable[[int, int], Dynamics]


class NeuralODE(Dynamics):
    """`dz/dt = f(t, z, context)` (Predoc III, eq. 4.2), solved by any solver.

    Any times, in both directions.

    Args:
        size: Length of the state.
        context_size: Length of the context.
        field: From sizes of state and context to `f`.
        solver: How to integrate.
        order: 1; or 2, where the state is position and velocity, `ds/dt = v`, `dv/dt = f(s, v)`
            (Yıldız et al. 2019, eq. 5).
        constant: The last so many numbers of the state never change and steer the others: what is
            seen, apart from where it goes.
    """

    def __init__(
        self,
        size: int,
        context_size: int,
        field: FieldFactory,
        solver: Solver,
        order: Literal[1, 2] = 1,
        constant: int = 0,
    ) -> None:
        super().__init__()
        moving = size - constant
        if moving < order or moving % order:
            raise InputError(
                f"got a state of {size} numbers, {constant} of them constant, and order {order}; "
                f"what is left to move must divide by the order: change latent_size or constant"
            )
        self.field = field(moving, constant + context_size)
        self.solver, self.order, self.moving = solver, order, moving
        self.evaluations = Evaluations()

    def forward(self, z0: Sample, times: Times, context: Tensor | None = None) -> Path:
        if context is not None and context.ndim == 3:
            return _by_intervals(self, z0, times, context)
        moving, constant = z0[:, : self.moving], z0[:, self.moving :]
        steer = [c for c in (constant, context) if c is not None and c.shape[-1]]
        about = torch.cat(steer, -1) if steer else None

        def f(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor]:
            (z,) = state
            dz = self.field(t, z, about)
            if self.order == 2:
                velocity, acceleration = z[:, self.moving // 2 :], dz[:, self.moving // 2 :]
                dz = torch.cat([velocity, acceleration], -1)
            return (dz,)

        params = [*self.field.parameters(), *([] if about is None else [about])]
        if len(times) == 1:
            path = moving[:, None]
        else:
            solution = self.solver.path(f, (moving,), times, params)
            (path,), self.evaluations = solution
        still = constant[:, None].expand(-1, len(times), -1)
        return Path(torch.cat([path, still], -1), z0.new_zeros(len(z0)))


class ResidualEuler(Dynamics):
    """`y_{t+1/k} = y_t + f(y_t, z_{⌊t⌋+1}) / k` (SRVP slides, "Model" and "frame rates").

    Steps are counted in integers, so that every `k` returns the very frames that were asked for;
    between two steps the path is the straight line that Euler's method draws.

    Args:
        size: Length of the state.
        context_size: Length of the context.
        field: From sizes of state and context to `f`.
        steps: Steps `k` in a unit of time.
    """

    def __init__(self, size: int, context_size: int, field: FieldFactory, steps: int = 1) -> None:
        super().__init__()
        if steps < 1:
            raise InputError(f"got {steps} steps a frame; give 1 or more")
        self.field, self.steps = field(size, context_size), steps

    def forward(self, z0: Sample, times: Times, context: Tensor | None = None) -> Path:
        elapsed = (times - times[0]).cpu().double() * self.steps
        backward = bool(elapsed[-1] < 0)
        if backward and context is not None and context.ndim == 3:
            raise InputError(
                "got times before the first frame; the random variables of the frames there are "
                "not known: ask for later times"
            )
        elapsed = elapsed.abs()
        whole = elapsed.round()
        elapsed = torch.where((elapsed - whole).abs() < 1e-3, whole, elapsed)
        n = int(elapsed.max().ceil())
        grid = self._grid(z0, times[0], n, -1 if backward else 1, context)
        before = elapsed.floor().long()
        share = elapsed - before
        if bool(share.any()):
            after = (before + 1).clamp(max=n)
            start, end = (grid[:, i.to(grid.device)] for i in (before, after))
            states = torch.lerp(start, end, share.to(grid)[:, None])
        else:
            states = grid if len(before) == n + 1 else grid[:, before.to(grid.device)]
        return Path(states, z0.new_zeros(len(z0)))

    def _grid(self, y: Sample, t0: Tensor, n: int, sign: int, context: Tensor | None) -> Codes:
        """The states after 0 … n steps."""
        states, dt = [y], sign / self.steps
        for i in range(n):
            y = y + dt * self.field(t0 + i * dt, y, _held(context, i // self.steps))
            states.append(y)
        return torch.stack(states, 1)


class _Stepwise(Dynamics):
    """Dynamics that know whole frames only."""

    @abc.abstractmethod
    def step(self, z: Sample, context: Tensor | None) -> Sample:
        """The state a frame later."""

    def forward(self, z0: Sample, times: Times, context: Tensor | None = None) -> Path:
        elapsed = (times - times[0]).cpu().double()
        wanted = elapsed.round()
        if bool(((elapsed - wanted).abs() > 1e-3).any() or (elapsed < 0).any()):
            raise InputError(
                f"{type(self).__name__} steps from frame to frame, forward: it can't reach times "
                "between frames or before the first; use NeuralODE or ResidualEuler"
            )
        states, z = [z0], z0
        for i in range(int(wanted[-1])):
            z = self.step(z, _held(context, i))
            states.append(z)
        return Path(torch.stack(states, 1)[:, wanted.long()], z0.new_zeros(len(z0)))


class GRU(_Stepwise):
    """`y_{t+1} = GRUCell(z_{t+1}, y_t)`, the ablation of SRVP.

    Args:
        size: Length of the state.
        context_size: Length of the context.
    """

    def __init__(self, size: int, context_size: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(context_size, size)

    def step(self, z: Sample, context: Tensor | None) -> Sample:
        return self.cell(z.new_zeros(len(z), 0) if context is None else context, z)


class MLPDynamics(_Stepwise):
    """`y_{t+1} = f(y_t, z_{t+1})`, not residual, the ablation of SRVP.

    Args:
        size: Length of the state.
        context_size: Length of the context.
        field: From sizes of state and context to `f`.
    """

    def __init__(self, size: int, context_size: int, field: FieldFactory) -> None:
        super().__init__()
        self.field = field(size, context_size)

    def step(self, z: Sample, context: Tensor | None) -> Sample:
        return self.field(z.new_zeros(()), z, context)


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


def _held(context: Tensor | None, unit: int) -> Tensor | None:
    """The context during that unit of time."""
    return context if context is None or context.ndim == 2 else context[:, unit]


def _by_intervals(dynamics: Dynamics, z0: Sample, times: Times, context: Tensor) -> Path:
    """Runs dynamics whose context is held over one unit of time after the other."""
    elapsed = (times - times[0]).cpu().double()
    if bool((elapsed < -1e-6).any()):
        raise InputError(
            "got times before the first frame; the random variables of the frames there are not "
            "known: ask for later times"
        )
    states, kl, z = [z0[:, None]], z0.new_zeros(len(z0)), z0
    for i in range(math.ceil(float(elapsed[-1]) - 1e-3)):
        inside = elapsed[(elapsed > i + 1e-3) & (elapsed < i + 1 - 1e-3)]
        ends = elapsed.new_tensor([i, i + 1])
        knots = torch.cat([ends[:1], inside, ends[1:]]) + float(times[0])
        piece = dynamics(z, knots, context[:, i])
        hit = bool(((elapsed - (i + 1)).abs() <= 1e-3).any())
        states.append(piece.states[:, 1:] if hit else piece.states[:, 1:-1])
        z, kl = piece.states[:, -1], kl + piece.kl
    return Path(torch.cat(states, 1), kl)
