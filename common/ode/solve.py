"""Solvers of initial value problems; the only module that imports torchdiffeq.

`dy/dt = f(t, y)`, `y(t₀) = y₀` (Predoc III, eq. 3.1-3.3), for states that are tuples of tensors.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torchdiffeq import odeint, odeint_adjoint

from common.errors import InputError, check_counts, check_positive
from common.ode.evaluations import Derivative, Evaluations, State, Watched, finite
from common.ode.grid import grid_places

ADAPTIVE = ("dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun")
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4")
# Interpolates as well as it steps. The others lose two digits or more between their steps.
INTERPOLATES = ("dopri5",)


class Solution(NamedTuple):
    """State at the asked times, with the number of function evaluations so far."""

    state: State
    evaluations: Evaluations


@dataclass(frozen=True)
class Solver:
    """Solver of ordinary differential equations: integration method and gradient method.

    The derivative is never asked for a time outside the interval of the solve.

    Args:
        method: Method of torchdiffeq, adaptive (`ADAPTIVE`) or on a fixed grid (`FIXED`).
        rtol: Relative tolerance of the adaptive methods.
        atol: Absolute tolerance of the adaptive methods.
        step_size: Step of the fixed-grid methods, from the first time on. A time between two grid
            points is reached by a shorter step from the point before it, which no other time sees:
            states don't depend on which other times are asked for.
        gradient: Method of the gradient. `direct` backpropagates through the steps; it is the
            fastest if the activations fit in memory. `checkpoint` does so too, but keeps only the
            state at each evaluation and computes the activations again. `adjoint` solves a second
            ODE backward in time (Predoc III, eq. 3.4-3.8); its memory does not grow with the
            number of steps.
        seminorm: Leave the parameters' part of the adjoint state out of its step size control
            (Kidger et al. 2021).
        max_evaluations: Largest number of function evaluations of a forward solve, and of the
            solve of an adjoint.

    Raises:
        InputError: Unknown method, options that don't belong to it, or numbers out of range.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    step_size: float | None = None
    gradient: Literal["direct", "checkpoint", "adjoint"] = "direct"
    seminorm: bool = True
    max_evaluations: int = 10_000

    def __post_init__(self) -> None:
        if self.method not in ADAPTIVE + FIXED:
            known = ", ".join(ADAPTIVE + FIXED)
            raise InputError(f"solver method {self.method!r} is unknown; choose one of {known}")
        if self.method in FIXED and not (self.step_size and self.step_size > 0):
            raise InputError(
                f"method {self.method!r} works on a fixed grid: give it a step_size > 0"
            )
        if self.method in ADAPTIVE and self.step_size is not None:
            raise InputError(
                f"method {self.method!r} adapts its steps: set rtol and atol, not step_size"
            )
        check_positive(step_size=self.step_size, rtol=self.rtol, atol=self.atol)
        check_counts(1, max_evaluations=self.max_evaluations)

    def __str__(self) -> str:
        if self.method in FIXED:
            return f"{self.method}, step {self.step_size:g}"
        return f"{self.method}, rtol {self.rtol:g}, atol {self.atol:g}"

    def scaled(self, factor: float) -> "Solver":
        """Solver with `factor` times the step, or with `factor` times the tolerances."""
        if self.step_size is not None:
            return replace(self, step_size=factor * self.step_size)
        return replace(self, rtol=factor * self.rtol, atol=factor * self.atol)

    def finer(self) -> "Solver":
        """Solver with half the step, or with a tenth of the tolerances."""
        return self.scaled(0.5 if self.step_size is not None else 0.1)

    def end(
        self,
        f: Derivative,
        y0: State,
        t0: float,
        t1: float,
        params: Sequence[Tensor] = (),
        uncontrolled: int = 0,
    ) -> Solution:
        """State at `t1`; each tensor has the same shape as in `y0`.

        Args:
            f: Derivative of the state, as a function of a scalar time and a state.
            y0: State at `t0`, batch first.
            t0: Start time.
            t1: End time, before, at or after `t0`.
            params: Tensors used inside `f` that need a gradient from the adjoint: parameters *and*
                any context. The other two gradient methods find these tensors by themselves.
            uncontrolled: Number of tensors, the last ones of the state, that the step size control
                ignores.

        Raises:
            SolveError: The solve failed, or its result isn't finite.
            InputError: A time isn't finite.
        """
        if t0 == t1:
            return Solution(_at_least_float(y0), Evaluations())
        solution = self._solve(f, y0, torch.tensor([t0, t1]), params, uncontrolled)
        return Solution(tuple(y[-1] for y in solution.state), solution.evaluations)

    def path(
        self,
        f: Derivative,
        y0: State,
        times: Tensor,
        params: Sequence[Tensor] = (),
        uncontrolled: int = 0,
    ) -> Solution:
        """States `[b t ...]` at strictly monotonic `times` `[t]`; the first time is that of `y0`.

        The other arguments and the errors are those of `end`.
        """
        solution = self._solve(f, y0, times, params, uncontrolled)
        return Solution(tuple(y.transpose(0, 1) for y in solution.state), solution.evaluations)

    def _solve(
        self, f: Derivative, y0: State, times: Tensor, params: Sequence[Tensor], uncontrolled: int
    ) -> Solution:
        _check_monotonic(times)
        device = y0[0].device
        with torch.autocast(device.type, enabled=False):
            y0 = _at_least_float(y0)
            times = times.to(device, y0[0].dtype)
            watched = Watched(f, times, self.max_evaluations, self.gradient)
            integrate = partial(self._integrate, watched, tuple(params), uncontrolled)
            solve = partial(self._on_grid, integrate) if self.method in FIXED else integrate
            try:
                state = solve(y0, times)
            except AssertionError as error:
                # torchdiffeq raises it for NaN and for steps of length zero.
                raise watched.diagnosis() from error
            if not finite(tuple(y[-1] for y in state)):
                # A fixed grid continues through NaN: run it again to find where they began.
                watched.checking = True
                with torch.no_grad():
                    solve(y0, times)
                raise watched.diagnosis()
        watched.finish()
        return Solution(state, watched.evaluations)

    def _integrate(
        self,
        watched: Watched,
        params: tuple[Tensor, ...],
        uncontrolled: int,
        y0: State,
        times: Tensor,
    ) -> State:
        """States `[t b ...]` by torchdiffeq."""
        backward: dict[str, Any] = {}
        if self.method in FIXED:
            options: dict[str, Any] = {"grid_constructor": self._grid}
            backward = options
        else:
            exact = times[-1:] if self.method in INTERPOLATES else times
            norm = lambda state: _norm(state[: len(state) - uncontrolled])
            options = {"norm": norm, "step_t": exact}
            # The backward solve begins anew at each of the times.
            backward = {"step_t": times, **({"norm": "seminorm"} if self.seminorm else {})}
        arguments = dict(rtol=self.rtol, atol=self.atol, method=self.method, options=options)
        if self.gradient == "adjoint" and torch.is_grad_enabled():
            arguments |= dict(adjoint_params=params, adjoint_options=backward)
            state: State = odeint_adjoint(watched, y0, times, **arguments)
        else:
            state = odeint(watched, y0, times, **arguments)
        return state

    def _on_grid(
        self, integrate: Callable[[State, Tensor], State], y0: State, times: Tensor
    ) -> State:
        """States at the grid points before the times, then a shorter step to each other time."""
        assert self.step_size is not None
        steps, rest = grid_places(times, self.step_size)
        points = steps.unique()
        step = math.copysign(self.step_size, float(times[-1] - times[0]))
        grid = (float(times[0]) + step * points).to(times)
        path = integrate(y0, grid) if len(points) > 1 else tuple(y[None] for y in y0)
        states = []
        for i, j in enumerate(torch.searchsorted(points, steps).tolist()):
            state = tuple(y[j] for y in path)
            if rest[i]:
                state = tuple(y[-1] for y in integrate(state, torch.stack([grid[j], times[i]])))
            states.append(state)
        return tuple(torch.stack(y) for y in zip(*states, strict=True))

    def _grid(self, f: object, y0: Tensor, times: Tensor) -> Tensor:
        """Times of the steps between ends that are whole steps apart, or less than one step.

        They are multiples of the step from the first end on, to the bit, whatever the other ends.
        """
        assert self.step_size is not None
        start, stop = float(times[0]), float(times[-1])
        step = math.copysign(self.step_size, stop - start)
        steps = max(1, round((stop - start) / step))
        return times.new_tensor([*(start + step * i for i in range(steps)), stop])


def _check_monotonic(times: Tensor) -> None:
    steps = times.diff()
    if not bool(times.isfinite().all() and ((steps > 0).all() or (steps < 0).all())):
        raise InputError(
            f"got times {[round(t, 6) for t in times[:9].tolist()]}; give finite times in "
            "strictly ascending or descending order"
        )


def _at_least_float(state: State) -> State:
    # Rounding in half precision looks like stiffness: adaptive steps would collapse.
    return tuple(y if y.dtype == torch.float64 else y.float() for y in state)


def _norm(state: State) -> Tensor:
    """Largest root mean square of the tensors: the norm that torchdiffeq uses for a tuple."""
    return torch.stack([y.square().mean().sqrt() for y in state]).max()
