"""Solvers of initial value problems; the only module that imports torchdiffeq.

`dy/dt = f(t, y)`, `y(t₀) = y₀` (Predoc III, eq. 3.1-3.3), for states that are tuples of tensors.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torchdiffeq import odeint, odeint_adjoint

from common.errors import InputError, check_counts, check_positive

State = tuple[Tensor, ...]
Derivative = Callable[[Tensor, State], State]

ADAPTIVE = ("dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun")
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4")


class SolveError(RuntimeError):
    """Error of a solve that failed.

    The message says at which time, after how many function evaluations and with which largest
    state it failed, and what to change.
    """


@dataclass
class Evaluations:
    """Number of function evaluations (NFE) of one solve, or of several solves together.

    The counts of the backward pass grow while that pass runs, also those of `parts`.

    Attributes:
        own_forward: Evaluations of this solve itself.
        own_backward: Evaluations of this solve's backward pass: the adjoint's solve, or
            recomputation when checkpointing. Backpropagation through the solver needs none.
        parts: Counts of other solves that are added to these.
    """

    own_forward: int = 0
    own_backward: int = 0
    parts: tuple["Evaluations", ...] = ()

    @property
    def forward(self) -> int:
        """Evaluations of all solves."""
        return self.own_forward + sum(part.forward for part in self.parts)

    @property
    def backward(self) -> int:
        """Evaluations of all backward passes so far."""
        return self.own_backward + sum(part.backward for part in self.parts)


class Solution(NamedTuple):
    """State at the asked times, with the number of function evaluations so far."""

    state: State
    evaluations: Evaluations


@dataclass(frozen=True)
class Solver:
    """Solver of ordinary differential equations: integration method and gradient method.

    Args:
        method: Method of torchdiffeq, adaptive (`ADAPTIVE`) or on a fixed grid (`FIXED`).
        rtol: Relative tolerance of the adaptive methods.
        atol: Absolute tolerance of the adaptive methods.
        step_size: Largest step of the fixed-grid methods: every interval between two asked
            times is cut into equal steps, so that no output is interpolated.
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
            t1: End time, before or after `t0`.
            params: Tensors used inside `f` that need a gradient from the adjoint: parameters *and*
                any context. The other two gradient methods find these tensors by themselves.
            uncontrolled: Number of tensors, the last ones of the state, that the step size control
                ignores.

        Raises:
            SolveError: The solve failed, or its result isn't finite.
        """
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
        device = y0[0].device
        with torch.autocast(device.type, enabled=False):
            # Rounding in half precision looks like stiffness: adaptive steps would collapse.
            y0 = tuple(y if y.dtype == torch.float64 else y.float() for y in y0)
            times = times.to(device, y0[0].dtype)
            watched = _Watched(f, self.max_evaluations, self.gradient)
            options: dict[str, Any] = {}
            if self.method in FIXED:
                options["grid_constructor"] = self._grid
            else:
                options["norm"] = lambda state: _norm(state[: len(state) - uncontrolled])
            arguments = dict(rtol=self.rtol, atol=self.atol, method=self.method, options=options)
            try:
                if self.gradient == "adjoint" and torch.is_grad_enabled():
                    adjoint_options = {k: v for k, v in options.items() if k != "norm"}
                    if self.seminorm and self.method in ADAPTIVE:
                        adjoint_options["norm"] = "seminorm"
                    state = odeint_adjoint(
                        watched,
                        y0,
                        times,
                        adjoint_params=tuple(params),
                        adjoint_options=adjoint_options,
                        **arguments,
                    )
                else:
                    state = odeint(watched, y0, times, **arguments)
            except AssertionError as error:
                # torchdiffeq raises it for NaN and for steps of length zero.
                raise watched.diagnosis() from error
        if not _finite(tuple(y[-1] for y in state)):
            # A fixed grid continues through NaN: run it again to find where they began.
            watched.checking = True
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
                odeint(watched, y0, times, **arguments)
            raise watched.diagnosis()
        watched.finish()
        return Solution(state, watched.evaluations)

    def _grid(self, f: object, y0: Tensor, times: Tensor) -> Tensor:
        assert self.step_size is not None
        ends = times.tolist()
        grid = [ends[0]]
        for start, stop in pairwise(ends):
            # With a small tolerance: 1 / 0.1 must give ten steps, not eleven.
            steps = max(1, math.ceil(abs(stop - start) / self.step_size - 1e-6))
            grid += [start + (stop - start) * i / steps for i in range(1, steps)] + [stop]
        return times.new_tensor(grid)


class _Watched:
    """Derivative that counts its evaluations and remembers the last one for error messages."""

    def __init__(self, f: Derivative, limit: int, gradient: str) -> None:
        self.f, self.limit = f, limit
        self.recompute, self.adjoint = gradient == "checkpoint", gradient == "adjoint"
        self.evaluations = Evaluations()
        self.solving, self.checking = True, False
        self.last: tuple[Tensor, State, State] | None = None

    def __call__(self, t: Tensor, y: State) -> State:
        if self.recompute and torch.is_grad_enabled():
            dy: State = checkpoint(self._evaluate, t, y, use_reentrant=False)
        else:
            dy = self._evaluate(t, y)
        if self.solving:
            self.last = (t, y, dy)
            if self.checking and not _finite((*y, *dy)):
                raise self.diagnosis()
        elif self.adjoint and not _finite(y):
            raise SolveError(
                f"adjoint solve failed at t={float(t):.4g} after {self.evaluations.backward} "
                "evaluations: the state became NaN or infinite backward in time; use gradient: "
                "direct or checkpoint, or lower rtol and atol"
            )
        return dy

    def _evaluate(self, t: Tensor, y: State) -> State:
        if self.checking:
            return self.f(t, y)
        counts = self.evaluations
        if self.solving:
            counts.own_forward += 1
        else:
            counts.own_backward += 1
        if max(counts.forward, counts.backward) > self.limit:
            raise SolveError(
                f"{self._where(t, y)}: more than {self.limit} evaluations; the field has become "
                "stiff, or the tolerance is too small: raise rtol and atol, use a fixed-grid "
                "method, regularise (kinetic energy, Jacobian norm), or raise max_evaluations"
            )
        return self.f(t, y)

    def finish(self) -> None:
        """Ends the forward solve: later evaluations belong to the backward pass."""
        self.solving, self.last = False, None

    def diagnosis(self) -> SolveError:
        """Error that says where and why the forward solve failed."""
        if self.last is None:
            return SolveError("the state was not finite before the first evaluation")
        t, y, dy = self.last
        where = self._where(t, y)
        self.last = None
        if not _finite((*y, *dy)):
            return SolveError(
                f"{where}: the state or its derivative is NaN or infinite; the weights may be NaN "
                "already, or a step was too large: lower the learning rate, warm up longer, clip "
                "gradients, or take smaller steps"
            )
        return SolveError(
            f"{where}: the step size underflowed, the field is too stiff for the tolerance: "
            "raise rtol and atol, use a fixed-grid method, or regularise the field"
        )

    def _where(self, t: Tensor, y: State) -> str:
        n = max(self.evaluations.forward, self.evaluations.backward)
        largest = max(float(x.abs().nan_to_num(0.0, 0.0).max()) for x in y)
        return (
            f"solve failed at t={float(t):.4g} after {n} evaluations, "
            f"largest finite |state| {largest:.3g}"
        )


def _finite(state: State) -> bool:
    return all(bool(torch.isfinite(y).all()) for y in state)


def _norm(state: State) -> Tensor:
    """Largest root mean square of the tensors: the norm that torchdiffeq uses for a tuple."""
    return torch.stack([y.square().mean().sqrt() for y in state]).max()
