"""Divergence of a vector field (trace of its Jacobian): exact or estimated.

`d log p(z(t))/dt = -tr(∂f/∂z)` (Predoc III, eq. 3.10) needs the trace at every evaluation.
Forward mode computes one tangent together with the value. In training it is cheaper than the
vector-Jacobian product of reverse mode, whose own backward pass must differentiate twice.
"""

import abc
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from common.typing import PerSample, Sample


class Linearized(NamedTuple):
    """Value of a field at a state, with trace and norm of its Jacobian J there.

    Attributes:
        dz: Value of the field, `[b ...]`.
        trace: `tr J`, or an unbiased estimate.
        frobenius: Squared Frobenius norm of J, or an unbiased estimate.
    """

    dz: Sample
    trace: PerSample
    frobenius: PerSample


class TangentField(nn.Module, abc.ABC):
    """Vector field with a Jacobian-vector product of its own, cheaper than `torch.func.jvp`."""

    @abc.abstractmethod
    def linearize(
        self, t: Tensor, z: Sample, v: Sample, context: Tensor | None = None
    ) -> tuple[Sample, Sample]:
        """Value `f(t, z)` and Jacobian-vector product `(∂f/∂z) v`."""


class Divergence(abc.ABC):
    """Method that computes the divergence of a field."""

    @abc.abstractmethod
    def draw(self, z: Sample) -> Tensor:
        """Noise for one solve, drawn once.

        New noise at each evaluation would make the field random in time.

        Args:
            z: State `[b ...]`, for its shape, type and device.
        """

    @abc.abstractmethod
    def __call__(
        self, field: nn.Module, t: Tensor, z: Sample, context: Tensor | None, noise: Tensor
    ) -> Linearized:
        """Field at `(t, z, context)` with trace and squared Frobenius norm of ∂f/∂z.

        Args:
            field: Vector field `f(t, z, context)`.
            t: Time, a scalar.
            z: State `[b ...]`.
            context: Context of the field. None: a field without context.
            noise: Noise that `draw` returned, the same for all evaluations of one solve.
        """


class Hutchinson(Divergence):
    """Hutchinson's estimate of the trace, `tr J = E[εᵀ J ε]` and `‖J‖² = E‖J ε‖²`.

    Grathwohl et al. 2019, eq. 7.

    Args:
        noise: Distribution of ε; the Rademacher distribution gives the smaller variance.
        mode: Forward (J ε) or reverse (εᵀ J) mode of differentiation.
    """

    def __init__(
        self,
        noise: Literal["rademacher", "gaussian"] = "rademacher",
        mode: Literal["forward", "reverse"] = "forward",
    ) -> None:
        self.noise, self.mode = noise, mode

    def draw(self, z: Sample) -> Tensor:
        if self.noise == "gaussian":
            return torch.randn_like(z)
        return torch.randint_like(z, 2) * 2 - 1

    def __call__(
        self, field: nn.Module, t: Tensor, z: Sample, context: Tensor | None, noise: Tensor
    ) -> Linearized:
        product = jvp if self.mode == "forward" else vjp
        dz, jacobian_noise = product(field, t, z, noise, context)
        trace = (jacobian_noise * noise).flatten(1).sum(1)
        return Linearized(dz, trace, jacobian_noise.square().flatten(1).sum(1))


class Exact(Divergence):
    """Exact trace by one Jacobian-vector product for each dimension.

    Its cost grows with the number of dimensions: for small states, tests and evaluation.
    """

    def draw(self, z: Sample) -> Tensor:
        return z.new_empty(0)

    def __call__(
        self, field: nn.Module, t: Tensor, z: Sample, context: Tensor | None, noise: Tensor
    ) -> Linearized:
        basis = torch.eye(z[0].numel(), dtype=z.dtype, device=z.device).view(-1, 1, *z.shape[1:])

        def column(v: Tensor) -> tuple[Tensor, Tensor]:
            return _functional_jvp(field, t, z, v.expand_as(z), context)

        # The value is the same for every column.
        dz, columns = torch.func.vmap(column, out_dims=(None, 0))(basis)  # type: ignore[arg-type]
        jacobian = columns.flatten(2)
        return Linearized(dz, torch.einsum("ibi->b", jacobian), jacobian.square().sum(dim=(0, 2)))


def jvp(
    field: nn.Module, t: Tensor, z: Sample, v: Sample, context: Tensor | None = None
) -> tuple[Sample, Sample]:
    """Value and Jacobian-vector product `(∂f/∂z) v`, by the field's `linearize` if it has one."""
    if isinstance(field, TangentField):
        return field.linearize(t, z, v, context)
    # torch.func.jvp refuses expanded tensors, whose elements share memory.
    return _functional_jvp(field, t, z.contiguous(), v.contiguous(), context)


def vjp(
    field: nn.Module, t: Tensor, z: Sample, v: Sample, context: Tensor | None = None
) -> tuple[Sample, Sample]:
    """Value `f(t, z)` and vector-Jacobian product `vᵀ (∂f/∂z)`."""
    create_graph = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        if z.is_inference():
            # Tensors made in inference mode can't be saved for a backward pass; copies can.
            t, z, v = t.clone(), z.clone(), v.clone()
            context = None if context is None else context.clone()
        # Part of the graph that leads to z if gradients are needed; otherwise a new leaf.
        x = z if create_graph and z.requires_grad else z.detach().requires_grad_()
        dz = field(t, x, context)
        (product,) = torch.autograd.grad(dz, x, v, create_graph=create_graph)
    return (dz, product) if create_graph else (dz.detach(), product)


def _functional_jvp(
    field: nn.Module, t: Tensor, z: Tensor, v: Tensor, context: Tensor | None
) -> tuple[Tensor, Tensor]:
    dz, dv = torch.func.jvp(lambda x: field(t, x, context), (z,), (v,))  # type: ignore[misc]
    return dz, dv
