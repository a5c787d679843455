"""Layers on dual numbers: a batch of values and a batch of tangents, stacked on the batch axis.

A linear layer treats both halves alike, so value and tangent share one convolution of twice the
batch, which is what makes forward-mode traces cheap. An offset (bias, time, context: whatever
doesn't depend on the state) belongs to the value's half alone, and is added by the activation,
which passes over both halves anyway.
"""

from typing import Any

import torch
from torch import Tensor


def stack(value: Tensor, tangent: Tensor) -> Tensor:
    """Value and tangent, each `[b ...]`, as one `[2b ...]`."""
    return torch.cat([value, tangent])


def silu(dual: Tensor, offset: Tensor) -> Tensor:
    """`silu(h + offset)` and its derivative times the tangent; `offset` broadcasts."""
    return _activate(dual, offset, "silu")


def softplus(dual: Tensor, offset: Tensor) -> Tensor:
    """`softplus(h + offset)` and its derivative times the tangent."""
    return _activate(dual, offset, "softplus")


def add(dual: Tensor, offset: Tensor) -> Tensor:
    """`h + offset` and the tangent as it is."""
    value, tangent = dual.chunk(2)
    return torch.cat([value + offset, tangent])


def _activate(dual: Tensor, offset: Tensor, name: str) -> Tensor:
    if torch.compiler.is_compiling():
        # The compiler fuses this by itself, and better.
        h, dh = dual.chunk(2)
        y, slope, _ = _DERIVATIVES[name](h + offset)
        return torch.cat([y, slope * dh])
    return _Activation.apply(dual, offset, name)


def _softplus_derivatives(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    s = torch.sigmoid(h)
    return torch.nn.functional.softplus(h), s, s * (1 - s)


def _silu_derivatives(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    s = torch.sigmoid(h)
    y = h * s
    ds = s * (1 - s)
    return y, s + h * ds, ds * (2 + h * (1 - 2 * s))


_DERIVATIVES = {"silu": _silu_derivatives, "softplus": _softplus_derivatives}


class _Activation(torch.autograd.Function):
    """Writes both halves into one buffer: no concatenation, half the passes over memory."""

    @staticmethod
    def forward(ctx: Any, dual: Tensor, offset: Tensor, name: str) -> Tensor:
        h, dh = dual.chunk(2)
        y, slope, curvature = _DERIVATIVES[name](h + offset)
        out = torch.empty_like(dual)
        value, tangent = out.chunk(2)
        value.copy_(y)
        torch.mul(slope, dh, out=tangent)
        ctx.save_for_backward(slope, curvature, dh)
        ctx.offset_shape = offset.shape
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        slope, curvature, dh = ctx.saved_tensors
        (grad,) = grads
        grad_value, grad_tangent = grad.chunk(2)
        out = torch.empty_like(grad)
        to_value, to_tangent = out.chunk(2)
        torch.mul(grad_tangent, dh, out=to_value)
        to_value.mul_(curvature).addcmul_(grad_value, slope)
        torch.mul(grad_tangent, slope, out=to_tangent)
        return out, to_value.sum_to_size(ctx.offset_shape), None
