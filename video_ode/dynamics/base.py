"""Latent dynamics: from a state and times to the path through them, and what it cost in nats.

All are built by `Dynamics(size, context_size, …)`, so that a configuration can put one in the
place of another.
"""

import abc
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.typing import Codes, PerSample, Sample, Times


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
