"""Evaluations of the derivative in a solve: their number, their limit, and what went wrong."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

State = tuple[Tensor, ...]
Derivative = Callable[[Tensor, State], State]


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


class Watched:
    """Derivative that counts its evaluations and remembers the last one for error messages.

    Args:
        f: Derivative of the state.
        times: Times of the solve; `f` is not asked for a time before or after them.
        limit: Largest number of evaluations, forward and backward.
        gradient: Gradient method of the solver.
    """

    def __init__(self, f: Derivative, times: Tensor, limit: int, gradient: str) -> None:
        self.f, self.limit = f, limit
        self.ends = times.aminmax()
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
            if self.checking and not finite((*y, *dy)):
                raise self.diagnosis()
        elif self.adjoint and not finite(y):
            raise SolveError(
                f"adjoint solve failed at t={float(t):.4g} after {self.evaluations.backward} "
                "evaluations: the state became NaN or infinite backward in time; use gradient: "
                "direct or checkpoint, or lower rtol and atol"
            )
        return dy

    def _evaluate(self, t: Tensor, y: State) -> State:
        # The trial of an adaptive method's first step may lie far outside, and times are rounded.
        t = t.clamp(*self.ends)
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
        if not finite((*y, *dy)):
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


def finite(state: State) -> bool:
    """True if no tensor of a state holds NaN or infinity."""
    return all(bool(torch.isfinite(y).all()) for y in state)
