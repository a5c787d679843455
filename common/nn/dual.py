"""Layers on dual numbers: a batch of values and a batch of tangents, stacked on the batch axis.

A linear layer treats both halves alike, so value and tangent share one convolution of twice the
batch, which is what makes forward-mode traces cheap. An offset (bias, time, context: whatever
doesn't depend on the state) belongs to the value's half alone, and is added by the activation,
which passes over both halves anyway. The first layer is applied to each apart: the tangent that
comes in is noise and needs no gradient.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def halves(dual: Tensor) -> tuple[Tensor, Tensor]:
    """Value and tangent, `[b ...]` each, of a stack `[2b ...]`."""
    value, tangent = dual.chunk(2)
    return value, tangent


def softplus(value: Tensor, tangent: Tensor, offset: Tensor) -> Tensor:
    """`softplus(h + offset)` and its slope times the tangent, stacked; `offset` broadcasts."""
    stack: Tensor = _Softplus.apply(value, tangent, offset)
    return stack


def silu(value: Tensor, tangent: Tensor, offset: Tensor) -> Tensor:
    """`silu(h + offset)` and its slope times the tangent, stacked; `offset` broadcasts."""
    stack: Tensor = _SiLU.apply(value, tangent, offset)
    return stack


# Both write the halves into one buffer, in few passes over memory: beside the convolutions that is
# what the time goes into. The compiler fuses passes by itself, but it too makes better use of
# these derivatives than of its own.


class _Softplus(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, tangent: Tensor, offset: Tensor) -> Tensor:
        h = value + offset
        slope = torch.sigmoid(h)
        if torch.compiler.is_compiling():
            out = torch.cat([functional.softplus(h), slope * tangent])
        else:
            out = _empty_stack(h)
            y, dy = halves(out)
            torch.ops.aten.softplus.out(h, out=y)
            torch.mul(slope, tangent, out=dy)
        # The output, which the next layer keeps anyway, holds all that is needed of the tangent.
        ctx.save_for_backward(slope, out)
        ctx.offset_shape = offset.shape
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        slope, out = ctx.saved_tensors
        grad_y, grad_dy = halves(grads[0])
        # softplus'' = slope (1 - slope), and slope times the tangent is dy.
        to_value = grad_dy * halves(out)[1]
        to_value.addcmul_(to_value, slope, value=-1).addcmul_(grad_y, slope)
        return to_value, grad_dy * slope, to_value.sum_to_size(ctx.offset_shape)


class _SiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, tangent: Tensor, offset: Tensor) -> Tensor:
        h = value + offset
        s = torch.sigmoid(h)
        slope = torch.addcmul(s, h * s, 1 - s)
        if torch.compiler.is_compiling():
            out = torch.cat([h * s, slope * tangent])
        else:
            out = _empty_stack(h)
            y, dy = halves(out)
            torch.mul(h, s, out=y)
            torch.mul(slope, tangent, out=dy)
        ctx.save_for_backward(h, s, slope, tangent)
        ctx.offset_shape = offset.shape
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, s, slope, tangent = ctx.saved_tensors
        grad_y, grad_dy = halves(grads[0])
        curvature = s * (1 - s) * (2 + h * (1 - 2 * s))
        to_value = (grad_dy * tangent).mul_(curvature).addcmul_(grad_y, slope)
        return to_value, grad_dy * slope, to_value.sum_to_size(ctx.offset_shape)


def _empty_stack(half: Tensor) -> Tensor:
    shape = (2 * len(half), *half.shape[1:])
    layout = torch.channels_last if half.dim() == 4 else torch.contiguous_format
    return torch.empty(shape, dtype=half.dtype, device=half.device, memory_format=layout)
