"""Vectors and feature maps in one: both are `[b channels …]`."""

from torch import Tensor, nn

from common.typing import Sample


def spread(context: Tensor, like: Tensor) -> Tensor:
    """Context vectors repeated over the positions of a feature map; other contexts unchanged."""
    if context.ndim == like.ndim:
        return context
    shape = (*context.shape, *[1] * (like.ndim - context.ndim))
    return context.reshape(shape).expand(*context.shape, *like.shape[context.ndim :])


def per_position(network: nn.Module, z: Sample) -> Sample:
    """Output of a network of vectors, at each position of a feature map."""
    return network(z.movedim(1, -1)).movedim(-1, 1)
