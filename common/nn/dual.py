"""Activations on dual numbers: a batch of values and a batch of tangents, stacked in one batch.

They make forward-mode traces cheap: a linear layer does the same to values and tangents, so both
share one convolution of twice the batch. An offset (the sum of all that doesn't depend on the
state: bias, time, context) belongs to the values alone. The activation adds it, because the
activation passes over both halves in any case. The first layer of a network is applied to values
and tangents separately: the first tangent is noise and needs no gradient.
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
    """Softplus of a dual number: `softplus(value + offset)`, and its slope times the tangent.

    Args:
        value: Values `[b ...]`.
        tangent: Tangents `[b ...]`.
        offset: Offset of the values; its shape may be broadcast.

    Returns:
        Stack of both, `[2b ...]`.
    """
    stack: Tensor = _Softplus.apply(value, tangent, offset)
    return stack


def silu(value: Tensor, tangent: Tensor, offset: Tensor) -> Tensor:
    """SiLU of a dual number: `silu(value + offset)`, and its slope times the tangent.

    Arguments and result are those of `softplus`.
    """
    stack: Tensor = _SiLU.apply(value, tangent, offset)
    return stack


# Both write the two halves into one buffer, in few passes over memory: apart from the
# convolutions, these passes take most of the time. The compiler fuses passes by itself, but it too
# is faster with these derivatives than with its own.


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
        # The output, which the next layer keeps in any case, replaces the tangent.
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
