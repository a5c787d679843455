"""Named shapes; beartype checks them at run time under pytest only.

Axes that share a name are tied together within one call, so only the batch has one.
"""

from collections.abc import Callable

from jaxtyping import Float, UInt8
from torch import Tensor, nn

Pixels = UInt8[Tensor, "b _ _ _"]  # images as bytes: channel, height, width
Image = Float[Tensor, "b _ _ _"]  # images in the space that a flow works in
Sample = Float[Tensor, "b ..."]  # a batch of anything
PerSample = Float[Tensor, " b"]  # one number a sample: log-density, ladj, trace
Time = Float[Tensor, ""]

FieldFactory = Callable[[int, int], nn.Module]  # (channels, context channels) -> field
