"""Latent dynamics of feature maps by dynamics of vectors."""

import torch
from torch import Tensor

from common.typing import Sample, Times
from video_ode.dynamics.base import Dynamics, DynamicsFactory, Solved


class PerPosition(Dynamics):
    """Dynamics of vectors, such as `GRU`, at each position of a feature map by itself.

    Args:
        size: Number of channels of the state.
        context_size: Number of channels of the context, a feature map of the same size.
        dynamics: From the lengths of state and context to the dynamics.
    """

    def __init__(self, size: int, context_size: int, dynamics: DynamicsFactory) -> None:
        super().__init__()
        self.dynamics = dynamics(size, context_size)
        self.starts_at_z0 = self.dynamics.starts_at_z0

    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        b, _, h, w = z0.shape
        known = None if context is None else context.permute(0, 2, 3, 1).flatten(0, 2)
        solved = self.dynamics.solved(z0.permute(0, 2, 3, 1).flatten(0, 2), times, known)
        path, kl = solved.states, solved.kl
        if not isinstance(path, Tensor):
            path = torch.stack(list(path), 1)
        states = path.unflatten(0, (b, h, w)).permute(0, 3, 4, 1, 2)
        if kl is not None:
            kl = kl.unflatten(0, (b, h * w)).sum(1)
        return Solved(states, solved.evaluations, kl)
