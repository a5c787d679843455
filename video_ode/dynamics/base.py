"""Base classes of latent dynamics: from a first state and times to a path of states.

All dynamics are built by `Dynamics(size, context_size, …)`, so that a configuration can replace
one by another. States have any shape `[b size …]`: they are vectors or feature maps.
"""

import abc
import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.ode.evaluations import Evaluations
from common.typing import PerSample, Sample, Times, VideoTimes

TOLERANCE = 1e-3  # times that differ by less, in frames, are the same


class LatentPath(NamedTuple):
    """Path of latent states.

    Attributes:
        states: States `[b t …]`, one for each asked time.
        kl: KL divergence of the path from its prior, `[b]`, in nats; 0 if nothing is random.
        evaluations: Number of function evaluations, summed over all pieces of the path.
    """

    states: Tensor
    kl: PerSample
    evaluations: Evaluations


class PiecewiseContext(NamedTuple):
    """Context that changes with time, and is constant over each unit of time.

    Attributes:
        values: Context of each unit of time after the first time, `[b n …]`: `values[:, i]` is
            valid from `times[0] + i` to `times[0] + i + 1` (`z_{⌊t⌋+1}` in SRVP).
    """

    values: Tensor


Context = Tensor | PiecewiseContext | None


class Solved(NamedTuple):
    """Result of `solve`: the states at the asked times.

    Attributes:
        states: States `[b t …]`, or a list of states `[b …]`.
        evaluations: Number of function evaluations.
        kl: KL divergence of the path up to each time, `[b t]`, in nats. None: nothing is random.
    """

    states: Tensor | Sequence[Tensor]
    evaluations: Evaluations
    kl: Tensor | None = None


class Dynamics(nn.Module, abc.ABC):
    """Latent dynamics `(z0, times, context) -> LatentPath`.

    A subclass writes `solve` only, for a context that does not change and for times that all
    samples share. `forward` is final.

    Attributes:
        starts_at_z0: Whether the state at the first time is `z0` itself, as it is for differential
            equations. False, for generators of motion: `z0` is a latent variable from which all
            states are computed, the first one too; the context can't change with time.
        steps: Number of equal steps in a unit of time; 1 for dynamics without steps.
        evaluations: Number of function evaluations of the last call.
    """

    starts_at_z0: bool = True
    steps: int = 1

    def __init__(self) -> None:
        super().__init__()
        self.evaluations = Evaluations()

    @abc.abstractmethod
    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        """States at the asked times.

        Args:
            z0: State at the first time, `[b …]`.
            times: Strictly monotonic times `[t]`, in frames; the first one is the time of `z0`.
                Two or more, or one if the state there isn't `z0`.
            context: Context of the whole path, `[b …]`. None: no context.

        Raises:
            InputError: Times that these dynamics can't reach.
        """

    def forward(
        self, z0: Sample, times: Times | VideoTimes, context: Context = None
    ) -> LatentPath:
        """Path of the states at the asked times.

        Args:
            z0: State at the first time, `[b …]`.
            times: Strictly monotonic times in frames, `[t]`; the first one is the time of `z0`. Or
                other times for each sample, `[b t]`, with the same first time.
            context: Context of the whole path, `[b …]`, or a `PiecewiseContext`. None: no context.

        Raises:
            InputError: Times that aren't finite and strictly monotonic, different first times,
                times that these dynamics can't reach, or a `PiecewiseContext` that ends too early
                or is not for these dynamics.
        """
        shared = _checked(times)
        solved = self.solved(z0, shared, context)
        self.evaluations = solved.evaluations
        zero = z0.new_zeros(len(z0))
        states = solved.states
        if not isinstance(states, Tensor):
            states = torch.stack(list(states), 1)
        if times.ndim == 1:
            kl = zero if solved.kl is None else solved.kl[:, -1]
            return LatentPath(states, kl, solved.evaluations)
        place = _places(shared, times).to(states.device)
        rows = torch.arange(len(states), device=states.device)
        kl = zero if solved.kl is None else solved.kl[rows, place[:, -1]]
        return LatentPath(states[rows[:, None], place], kl, solved.evaluations)

    def states_around(self, z0: Sample, start: Times, targets: Times | VideoTimes) -> Tensor:
        """States `[b k …]` before, at and after the time of a state.

        Args:
            z0: State at the time `start`, `[b …]`.
            start: Its time, `[1]`, in frames.
            targets: Ascending times, `[k]` or `[b k]`.

        Raises:
            InputError: Times that these dynamics can't reach.
        """
        if targets.ndim == 2:
            every, place = targets.unique(return_inverse=True)
            rows = torch.arange(len(targets), device=place.device)[:, None]
            return self.states_around(z0, start, every)[rows, place.to(z0.device)]
        early, late = targets[targets < start].flip(0), targets[targets > start]
        states, counts, asked = [], [], bool((targets == start).any())
        if len(early):
            states.append(self(z0, torch.cat([start, early])).states[:, 1:].flip(1))
            counts.append(self.evaluations)
        if asked or len(late):
            states.append(self(z0, torch.cat([start, late])).states[:, 0 if asked else 1 :])
            counts.append(self.evaluations)
        self.evaluations = Evaluations(parts=tuple(counts))
        return torch.cat(states, 1)

    @contextlib.contextmanager
    def stepping(self, steps: int | None) -> Iterator[None]:
        """Context in which a unit of time has another number of steps. None: no change.

        Raises:
            InputError: No step, or dynamics without a number of steps.
        """
        if steps is None:
            yield
            return
        check_counts(1, predicted_steps=steps)
        if "steps" not in vars(self):
            raise InputError(
                f"got predicted_steps {steps}, but {type(self).__name__} has no number of steps; "
                "leave it out, or use ResidualEuler"
            )
        own, self.steps = self.steps, steps
        try:
            yield
        finally:
            self.steps = own

    def solved(self, z0: Sample, times: Times, context: Context) -> Solved:
        """States at checked times, unit by unit if the context changes from one to the next."""
        if len(times) == 1 and self.starts_at_z0:
            return Solved([z0], Evaluations())
        if not isinstance(context, PiecewiseContext):
            return self.solve(z0, times, context)
        if not self.starts_at_z0:
            raise InputError(
                f"got a context that changes with time, but {type(self).__name__} takes only one "
                "context for the whole path; use NeuralODE, ResidualEuler or GRU without noise"
            )
        elapsed = (times - times[0]).cpu().double()
        units = _units(elapsed, context)
        pieces, states, start = [], [z0], z0
        kl_start = z0.new_zeros(len(z0), 1)
        divergences = [kl_start]
        for i in range(units):
            inside = elapsed[(elapsed > i + TOLERANCE) & (elapsed < i + 1 - TOLERANCE)]
            unit = elapsed.new_tensor([i, i + 1])
            knots = torch.cat([unit[:1], inside, unit[1:]]) + float(times[0])
            piece = self.solve(start, knots, context.values[:, i])
            pieces.append(piece.evaluations)
            asked = bool(((elapsed - (i + 1)).abs() <= TOLERANCE).any())
            stop, ends = len(knots) if asked else -1, piece.states
            if isinstance(ends, Tensor):
                ends = ends.unbind(1)
            states += ends[1:stop]
            if piece.kl is not None:
                kl = kl_start + piece.kl
                divergences.append(kl[:, 1:stop])
                kl_start = kl[:, -1:]
            start = ends[-1]
        random = len(divergences) > 1
        total = torch.cat(divergences, 1) if random else None
        return Solved(states, Evaluations(parts=tuple(pieces)), total)


DynamicsFactory = Callable[[int, int], Dynamics]  # (size, context size) -> dynamics


class Stepwise(Dynamics):
    """Base of dynamics that step from one whole frame to the next, forward in time."""

    @abc.abstractmethod
    def step(self, z: Sample, context: Tensor | None) -> Sample:
        """State one frame later.

        Args:
            z: State `[b …]`.
            context: Context of this step. None: no context.
        """

    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        frames = whole_frames(self, times)
        states = [z0 if self.starts_at_z0 else self.step(z0, context)]
        for _ in range(frames[-1]):
            states.append(self.step(states[-1], context))
        evaluations = Evaluations(len(states) - self.starts_at_z0)
        return Solved([states[i] for i in frames], evaluations)


def whole_frames(dynamics: Dynamics, times: Times) -> list[int]:
    """Numbers of whole frames from the first time to each of the times.

    Raises:
        InputError: Times between frames or before the first.
    """
    elapsed = (times - times[0]).cpu().double()
    frames = elapsed.round()
    if bool(((elapsed - frames).abs() > TOLERANCE).any() or (elapsed < 0).any()):
        raise InputError(
            f"{type(dynamics).__name__} steps from frame to frame, forward: it can't reach times "
            "between frames or before the first; use NeuralODE or ResidualEuler"
        )
    return frames.long().tolist()


def _checked(times: Tensor) -> Times:
    """Union of the asked times, `[t]`, strictly monotonic.

    Raises:
        InputError: Times that aren't finite and strictly monotonic, or different first times.
    """
    if times.ndim not in (1, 2) or not times.numel() or not bool(times.isfinite().all()):
        raise InputError(f"got times {times.tolist()}; give one or more finite times")
    gaps = times.diff(dim=-1)
    if not bool((gaps > 0).all() or (gaps < 0).all()):
        raise InputError(
            f"got times {times.tolist()}; give them in strictly ascending order, or descending "
            "for a path backward in time"
        )
    if times.ndim == 1:
        return times
    if bool((times[:, 0] != times[0, 0]).any()):
        raise InputError(
            f"got first times {times[:, 0].tolist()}; the first time is the time of the first "
            "state and must be the same for all samples: subtract the first time of each video"
        )
    return torch.unique(times).flip(0) if bool((gaps < 0).any()) else torch.unique(times)


def _places(shared: Times, times: VideoTimes) -> Tensor:
    """Index in `shared` of each of the `times`, `[b t]`."""
    if len(shared) > 1 and float(shared[1]) < float(shared[0]):
        return len(shared) - 1 - torch.searchsorted(shared.flip(0), times.contiguous())
    return torch.searchsorted(shared, times.contiguous())


def _units(elapsed: Tensor, context: PiecewiseContext) -> int:
    """Number of units of time that the path goes through."""
    if float(elapsed[-1]) < 0:
        raise InputError(
            "got times before the first frame, where no random variables are known; give later "
            "times"
        )
    if bool((elapsed.diff() <= TOLERANCE).any()):
        raise InputError(
            f"got times that differ by less than {TOLERANCE:g} of a frame; leave some of them out"
        )
    units = math.ceil(float(elapsed[-1]) - TOLERANCE)
    if units > context.values.shape[1]:
        raise InputError(
            f"got a context of {context.values.shape[1]} units of time for a path of "
            f"{units}; give one for each unit, or earlier times"
        )
    return units
