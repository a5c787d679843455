"""Solving initial value problems: the only importer of torchdiffeq.

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

from common.errors import InputError

State = tuple[Tensor, ...]
Dynamics = Callable[[Tensor, State], State]

ADAPTIVE = ("dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun")
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4")


class SolveError(RuntimeError):
    """A solve that broke off; the message holds t, evaluations, largest |state| and the remedy."""


@dataclass
class Evaluations:
    """Integers of evaluations of the field (NFE).

    Attributes:
        forward: By the solve itself.
        backward: By the backward pass: the adjoint's solve, or recomputation when checkpointing.
            Backpropagation straight through the solver needs none.
    """

    forward: int = 0
    backward: int = 0


class Solution(NamedTuple):
    """The state at the asked times, and what it cost so far."""

    state: State
    evaluations: Evaluations


@dataclass(frozen=True)
class Solver:
    """How to integrate, and how to differentiate through it.

    Args:
        method: A method of torchdiffeq, adaptive (`ADAPTIVE`) or on a fixed grid (`FIXED`).
        rtol: Relative tolerance of the adaptive methods.
        atol: Absolute tolerance of the adaptive methods.
        step_size: Largest step of the fixed-grid methods: every interval between two asked
            times is cut into equal steps, so that no output is interpolated.
        gradient: `direct` backpropagates through the steps, fastest while activations fit in
            memory; `checkpoint` too, keeping the state at each evaluation but recomputing the
            activations; `adjoint` solves a second ODE backwards (Predoc III, eq. 3.4-3.8) in
            memory that doesn't grow with the number of steps.
        seminorm: Let the parameters' part of the adjoint not drive its step size
            (Kidger et al. 2021).
        max_evaluations: Break off a forward solve, or an adjoint's, that needs more.
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

    def __str__(self) -> str:
        if self.method in FIXED:
            return f"{self.method}, step {self.step_size:g}"
        return f"{self.method}, rtol {self.rtol:g}, atol {self.atol:g}"

    def end(
        self,
        f: Dynamics,
        y0: State,
        t0: float,
        t1: float,
        params: Sequence[Tensor] = (),
        passengers: int = 0,
    ) -> Solution:
        """The state at `t1`, each tensor shaped as in `y0`.

        Args:
            f: The derivative, of a scalar time and a state.
            y0: State at `t0`, batch first.
            t0: Start.
            t1: End, before or after `t0`.
            params: What `f` closes over and the adjoint shall give a gradient: parameters *and*
                any context. The other two ways of differentiating find them by themselves.
            passengers: The last so many tensors of the state don't drive the step size.

        Raises:
            SolveError: The solve broke off, or its result isn't finite.
        """
        solution = self._solve(f, y0, torch.tensor([t0, t1]), params, passengers)
        return Solution(tuple(y[-1] for y in solution.state), solution.evaluations)

    def path(
        self,
        f: Dynamics,
        y0: State,
        times: Tensor,
        params: Sequence[Tensor] = (),
        passengers: int = 0,
    ) -> Solution:
        """The states at strictly monotonic `times`, the first being `y0`: `[b, t, ...]` each."""
        solution = self._solve(f, y0, times, params, passengers)
        return Solution(tuple(y.transpose(0, 1) for y in solution.state), solution.evaluations)

    def _solve(
        self, f: Dynamics, y0: State, times: Tensor, params: Sequence[Tensor], passengers: int
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
                options["norm"] = lambda state: _norm(state[: len(state) - passengers])
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
                # torchdiffeq's word for NaN and for steps of no length.
                raise watched.diagnosis() from error
        if not _finite(tuple(y[-1] for y in state)):
            # A fixed grid walks on through NaN: walk it again to see where it began.
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
            # A hair of slack: 1 / 0.1 must be ten steps, not eleven.
            steps = max(1, math.ceil(abs(stop - start) / self.step_size - 1e-6))
            grid += [start + (stop - start) * i / steps for i in range(1, steps)] + [stop]
        return times.new_tensor(grid)


class _Watched:
    """The field, counted and limited, with its last evaluation kept for a diagnosis."""

    def __init__(self, f: Dynamics, limit: int, gradient: str) -> None:
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
                "evaluations: the state is NaN or infinite on the way back; use gradient: direct "
                "or checkpoint, or tighten rtol and atol"
            )
        return dy

    def _evaluate(self, t: Tensor, y: State) -> State:
        if self.checking:
            return self.f(t, y)
        counts = self.evaluations
        if self.solving:
            counts.forward += 1
        else:
            counts.backward += 1
        if max(counts.forward, counts.backward) > self.limit:
            raise SolveError(
                f"{self._where(t, y)}: more than {self.limit} evaluations; the field has become "
                "stiff, or the tolerance is too tight: loosen rtol and atol, use a fixed-grid "
                "method, regularise (kinetic energy, Jacobian norm), or raise max_evaluations"
            )
        return self.f(t, y)

    def finish(self) -> None:
        """From now on evaluations are the backward pass's; the last state may go."""
        self.solving, self.last = False, None

    def diagnosis(self) -> SolveError:
        if self.last is None:
            return SolveError("the state was not finite before the first evaluation")
        t, y, dy = self.last
        where = self._where(t, y)
        self.last = None
        if not _finite((*y, *dy)):
            return SolveError(
                f"{where}: the state or its derivative is NaN or infinite; the weights may be so "
                "already, or a step was too long: lower the learning rate, warm up longer, clip "
                "gradients, or take smaller steps"
            )
        return SolveError(
            f"{where}: the step size underflowed, the field is too stiff for the tolerance: "
            "loosen rtol and atol, use a fixed-grid method, or regularise the field"
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
    """The largest root mean square of the tensors, as torchdiffeq takes it of a tuple."""
    return torch.stack([y.square().mean().sqrt() for y in state]).max()
