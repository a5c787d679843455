"""Training objectives of a multi-scale flow; the evaluation always solves the ODE."""

import abc
import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError, check_counts
from common.flows.pixel import bits_per_dim
from common.inputs import ArrayLike
from common.ode.regularize import Regularizer
from common.ode.solve import Solver
from common.typing import Image, PerSample
from msflow.coupling import matched_noise
from msflow.flow import MultiScaleFlow
from msflow.scale import ScaleFlow


class Loss(NamedTuple):
    """Loss of a batch.

    Attributes:
        loss: Scalar to minimise.
        terms: Numbers to log, by name.
    """

    loss: Tensor
    terms: dict[str, Tensor]


class Objective(abc.ABC):
    """Training objective: a loss of some scales of a flow.

    Scales share no parameters, so the loss is a sum over scales.

    Attributes:
        solves: Whether the loss depends on a solver, whose error then needs watching.
    """

    solves: bool

    @abc.abstractmethod
    def __call__(
        self,
        flow: MultiScaleFlow,
        pixels: ArrayLike,
        scales: Sequence[int],
        solver: Solver | None = None,
    ) -> Loss:
        """Loss of these scales on a batch.

        Args:
            flow: Flow to train.
            pixels: Images, as for `MultiScaleFlow.log_prob`.
            scales: Indices of the scales.
            solver: Solver of the ODEs. None: the flow's own solver.
        """


class Likelihood(Objective):
    """Maximum likelihood: bits per dimension by the solved ODE, plus regularisers.

    Predoc III, eq. 6.8-6.10, with the number of dimensions of the finest scale that trains.

    Training finds the errors of a fixed grid: a field that becomes stiff between the grid points
    has a better likelihood there than it truly has. So the step is another one in each training
    step, and `MultiScaleFlowModule` watches the error.

    Args:
        regularizers: Regularisers, integrated together with the ODE. None: no regularisers.
        steer: Number b of STEER (Ghosh et al. 2020): at every training step, the end time of a
            scale's CNFs is drawn from `U(1 - b, 1 + b)`. With 0 the end time is 1.
        jitter: Number j of the random step: every training step draws its step size (or its
            tolerances) from `U(1 - j, 1)` times that of the solver. With 0 it is always the same.

    Raises:
        InputError: `steer` or `jitter` is outside `[0, 1)`.
    """

    solves = True

    def __init__(
        self,
        regularizers: list[Regularizer] | None = None,
        steer: float = 0.0,
        jitter: float = 0.5,
    ) -> None:
        for name, value in {"steer": steer, "jitter": jitter}.items():
            if not 0 <= value < 1:
                raise InputError(f"got {name} {value}; give a number from 0 to below 1")
        self.regularizers, self.steer, self.jitter = regularizers or [], steer, jitter

    def __call__(
        self,
        flow: MultiScaleFlow,
        pixels: ArrayLike,
        scales: Sequence[int],
        solver: Solver | None = None,
    ) -> Loss:
        levels, ladj = flow.levels(pixels)
        solver = solver or flow.scales[0].blocks[0].solver
        if self.jitter:
            solver = solver.scaled(1 - self.jitter * random.random())
        dims = flow.dims_of(max(scales))
        whole = len(scales) == len(flow.scales)
        bits = bits_per_dim(ladj if whole else 0 * ladj, dims).mean()
        penalty = torch.zeros_like(bits)
        terms: dict[str, Tensor] = {}
        for s in scales:
            end_time = 1 + self.steer * random.uniform(-1, 1)
            log_prob, penalties = flow.scales[s].log_prob(
                levels[s], solver, self.regularizers, end_time
            )
            bits = bits + bits_per_dim(log_prob, dims).mean()
            for regularizer, integral in zip(self.regularizers, penalties, strict=True):
                penalty = penalty + regularizer.weight * integral.mean()
                terms[f"{regularizer.name}_scale_{s}"] = integral.mean().detach()
        if whole:
            terms[flow.bits_name] = bits.detach()
        return Loss(bits + penalty, terms)


class FlowMatching(Objective):
    """Conditional flow matching of the same fields, without solving an ODE (Lipman et al. 2023).

    On the straight path `z(t) = (1 - t) x + t ε` from data x to noise ε, the field learns
    `E[ε - x | z(t)]`. With K blocks for each scale, each block covers one of K equal parts of the
    path and learns from the samples whose time is there. A block may get none of a small batch
    (DDP then needs `ddp_find_unused_parameters_true`).

    Args:
        time_mean: Mean of the normal distribution of `logit t`. Below 0, times near the data come
            more often, which matter most for the likelihood.
        time_std: Standard deviation of that normal distribution.
        uniform: Share of the times that are drawn uniformly instead; 1 gives the plain objective.
        coupling: Weight of the context in an optimal transport of the noise to the data of each
            batch, see `matched_noise`. None: noise that is independent of the data.

    Raises:
        InputError: `uniform` is outside `[0, 1]`, `time_std` or `coupling` is negative, or
            `time_mean` infinite.
    """

    solves = False

    def __init__(
        self,
        time_mean: float = 0.0,
        time_std: float = 1.0,
        uniform: float = 1.0,
        coupling: float | None = None,
    ) -> None:
        if not 0 <= uniform <= 1:
            raise InputError(f"got uniform {uniform}; give a share from 0 to 1")
        check_counts(0, time_std=time_std, coupling=coupling)
        if not math.isfinite(time_mean):
            raise InputError(f"got time_mean {time_mean}; give a finite number, such as 0")
        self.time_mean, self.time_std, self.uniform = time_mean, time_std, uniform
        self.coupling = coupling

    def __call__(
        self,
        flow: MultiScaleFlow,
        pixels: ArrayLike,
        scales: Sequence[int],
        solver: Solver | None = None,
    ) -> Loss:
        levels, _ = flow.levels(pixels)
        terms = {}
        for s in scales:
            x, context, _ = flow.scales[s].standardize(levels[s])
            t, eps = self._times(x), torch.randn_like(x)
            if self.coupling is not None:
                eps = matched_noise(x, eps, context, self.coupling)
            terms[f"flow_matching_scale_{s}"] = _path_error(flow.scales[s], x, eps, t, context)
        loss = torch.stack(list(terms.values())).sum()
        return Loss(loss, {name: term.detach() for name, term in terms.items()})

    def _times(self, x: Image) -> PerSample:
        """Stratified random times `[b]`: each from another one of b equally likely intervals."""
        n = len(x)
        u = (torch.randperm(n, device=x.device) + torch.rand(n, device=x.device)) / n
        normal = torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4))
        skewed = torch.sigmoid(self.time_mean + self.time_std * normal)
        return torch.where(torch.rand(n, device=x.device) < self.uniform, u, skewed)


def _path_error(
    scale: ScaleFlow, x: Image, eps: Image, t: PerSample, context: Image | None
) -> Tensor:
    """Mean squared error of the path's velocity at the times `t` of the whole path."""
    n = len(scale.blocks)
    z = torch.lerp(x, eps, t.view(-1, 1, 1, 1))
    part = (n * t).long().clamp(max=n - 1)
    order, counts = part.argsort(stable=True), part.bincount(minlength=n).tolist()
    errors = []
    for k, rows in enumerate(order.split(counts)):
        if len(rows):
            own = None if context is None else context[rows]
            velocity = n * scale.blocks[k].velocity(n * t[rows] - k, z[rows], own)
            errors.append((velocity - (eps - x)[rows]).square().sum())
    return torch.stack(errors).sum() / x.numel()
